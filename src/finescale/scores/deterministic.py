"""Errors of the ensemble mean and its spread, for an ensemble x_1 … x_M against a truth y.

With ⟨·⟩ the mean over cells weighted by w (cell area, zero where a cell is missing), x̄ the ensemble mean:

    MAE            ⟨|x̄ − y|⟩                 RMSE  √⟨(x̄ − y)²⟩               bias  ⟨x̄ − y⟩
    correlation    Pearson's, of x̄ and y over all cells and times
    spread–skill   √((M+1)/M) · √⟨s²⟩ / RMSE,  s² the unbiased ensemble variance (Fortin et al. 2014); 1 is right
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from finescale.scores.cells import Array, Cells, cell_sums, dot, ratio
from finescale.scores.record import FIELD, Score, Statistic
from finescale.scores.settings import Settings


def mean_terms(cells: Cells, settings: Settings) -> Array:
    """Σw · (1, |e|, e², e, s², m, y, m², y², my): e the error of the ensemble mean m, s² the unbiased variance."""
    w, y, e = cells.w, cells.y.astype(np.float64), cells.error.astype(np.float64)
    m = y + e
    products = (np.abs(e), e * e, e, cells.variance, m, y, m * m, y * y, m * y)
    return np.array([w.sum(), *(dot(w, f) for f in products)])


def mean_formula(terms: Array, members: int) -> dict[str, Array]:
    """mae, rmse, bias, spread_skill (NaN for one member) and correlation from summed `mean_terms` (…, 10)."""
    mae, square, bias, variance, m, y, mm, yy, my = np.moveaxis(ratio(terms[..., 1:], terms[..., :1]), -1, 0)
    var_m, var_y = mm - m**2, yy - y**2
    # Below this share of the mean square a variance is rounding: the field is constant.
    varies = (var_m > 1e-12 * mm) & (var_y > 1e-12 * yy)
    return {
        "mae": mae,
        "rmse": np.sqrt(square),
        "bias": bias,
        "correlation": ratio(my - m * y, np.sqrt(np.where(varies, var_m * var_y, 0.0))),
        "spread_skill": ratio(np.sqrt((members + 1) / members * variance), np.sqrt(square)),
    }


def mean_errors(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> dict[str, float]:
    """mae, rmse, bias, correlation of the ensemble mean, and spread_skill."""
    found = mean_formula(cell_sums(mean_terms, members, truth, weights), len(np.asarray(members)))
    return {name: float(value) for name, value in found.items()}


MEAN = Statistic(
    "mean",
    mean_terms,
    lambda terms, members, settings: mean_formula(terms, members),
    (
        Score(
            "mae", "MAE of the mean", "low", "Cell by cell", "Mean absolute error of the ensemble mean.", units=FIELD
        ),
        Score(
            "rmse",
            "RMSE of the mean",
            "low",
            "Cell by cell",
            "Root mean square error of the ensemble mean.",
            units=FIELD,
        ),
        Score(
            "bias",
            "Bias",
            0.0,
            "Cell by cell",
            "Mean of ensemble mean less truth.",
            units=FIELD,
            style="signed",
            rounding=1e-6,
        ),
        Score(
            "correlation",
            "Correlation",
            "high",
            "Cell by cell",
            "Pearson's, of ensemble mean and truth over all cells and times.",
        ),
        Score(
            "spread_skill",
            "Spread–skill",
            1.0,
            "Spread and calibration",
            "√((M+1)/M) × mean ensemble standard deviation / RMSE of the mean. Above 1 the ensemble is too wide, below "
            "1 too sure of itself.",
            several=True,
        ),
    ),
)
