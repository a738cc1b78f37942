"""Scores of whole fields, to which it matters how cells vary together.

energy score      1/M Σ_i ‖x_i − y‖ − 1/(2M(M−1)) Σ_ij ‖x_i − x_j‖,  ‖d‖ = √⟨d²⟩ over the cells of one time
                  (Gneiting and Raftery 2007, the fair form); mean over times
variogram score   mean over pairs of cells (a, b) of ( |y_a − y_b|^½ − 1/M Σ_i |x_ia − x_ib|^½ )²  (Scheuerer and
                  Hamill 2015, p = ½). All pairs would be too many: those at the offsets `LAGS` (down, right) in cells
                  count, each lag alike, pairs weighted by √(w_a w_b). Not fair: it falls slightly with M
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from finescale.verify.frame import Array, Frame, dot, field_sums, ratio
from finescale.verify.settings import Settings

LAGS = ((0, 1), (1, 0), (0, 3), (3, 0), (0, 9), (9, 0))


def energy_terms(frame: Frame, settings: Settings) -> Array:
    """The fair energy score of a time with valid cells, and 1; else 0 and 0."""
    total, count = frame.w.sum(), len(frame.x)
    if total == 0:
        return np.zeros(2)
    gram = np.zeros((count, count))
    for cells in frame.blocks():
        d = (cells.x - cells.y) * np.sqrt(cells.w / total)
        gram += d @ d.T
    norm = np.diag(gram)
    apart = np.sqrt(np.maximum(norm[:, None] + norm[None, :] - 2 * gram, 0.0)).sum()
    return np.array([np.sqrt(norm).mean() - (apart / (2 * count * (count - 1)) if count > 1 else 0.0), 1.0])


def energy_formula(terms: Array) -> Array:
    return ratio(terms[..., 0], terms[..., 1])


def energy_score(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Fair energy score, mean over times, in units of the field."""
    return float(energy_formula(field_sums(energy_terms, members, truth, weights)))


def variogram_terms(frame: Frame, settings: Settings) -> Array:
    """Σw(v_y − mean v_x)² and Σw (L, 2) over pairs at each lag, v = |difference|^½."""
    sums = np.zeros((len(LAGS), 2))
    root = np.sqrt(frame.w)
    for k, lag in enumerate(LAGS):
        if min(a - b for a, b in zip(frame.y.shape, lag, strict=True)) <= 0:
            continue
        weight = _first(root, lag) * _second(root, lag)
        seen = np.sqrt(np.abs(_first(frame.y, lag) - _second(frame.y, lag)))
        mean = np.zeros_like(seen)
        step = np.empty_like(seen)
        for x in frame.x:
            np.subtract(_first(x, lag), _second(x, lag), out=step)
            np.sqrt(np.abs(step, out=step), out=step)
            mean += step
        miss = seen - mean / len(frame.x)
        sums[k] = dot(weight.ravel(), np.square(miss).ravel()), weight.sum()
    return sums


def variogram_formula(terms: Array) -> Array:
    """Mean over the lags that fit into the field."""
    by_lag = ratio(terms[..., 0], terms[..., 1])
    there = ~np.isnan(by_lag)
    return ratio(np.where(there, by_lag, 0.0).sum(axis=-1), there.sum(axis=-1))


def variogram_score(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Variogram score of order ½ on `LAGS`, in units of the field."""
    return float(variogram_formula(field_sums(variogram_terms, members, truth, weights)))


def _first(field: Array, lag: tuple[int, int]) -> Array:
    return field[: field.shape[0] - lag[0], : field.shape[1] - lag[1]]


def _second(field: Array, lag: tuple[int, int]) -> Array:
    return field[lag[0] :, lag[1] :]
