"""Errors of the ensemble mean, the CRPS and likeness of pictures, for an ensemble x_1 … x_M against a truth y.

With ⟨·⟩ the mean over cells weighted by w (cell area, zero where a cell is missing), x̄ the ensemble mean:

    MAE            ⟨|x̄ − y|⟩                 RMSE  √⟨(x̄ − y)²⟩               bias  ⟨x̄ − y⟩
    correlation    Pearson's, of x̄ and y over all cells and times
    fair CRPS      ⟨ 1/M Σ_i |x_i − y| − 1/(2M(M−1)) Σ_ij |x_i − x_j| ⟩       unbiased in M (Ferro 2014)
                   Σ_ij |x_i − x_j| = 2 Σ_i (2i − M − 1) x_(i) with x sorted, so the cost is M log M
    twCRPS         the fair CRPS of max(x_i, threshold) against max(y, threshold): only what lies above counts
                   (Gneiting and Ranjan 2011; chaining as in Allen et al. 2023)
    spread–skill   √((M+1)/M) · √⟨s²⟩ / RMSE,  s² the unbiased ensemble variance (Fortin et al. 2014); 1 is right
    PSNR, SSIM     of the ensemble mean in log-rain, log10(1 + R/0.1), with a fixed range of 3 (R up to 100 mm/h), so
                   that they compare between cases; SSIM with Gaussian windows of 1.5 cells (Wang et al. 2004)

Here and in the files beside it each score comes as a *statistic* that adds over cells or times and chunks (functions
ending in ``_terms``) and a *formula* on summed statistics, which takes any number of leading axes (bootstrap draws);
the function named after the score does both for members (M, T, H, W), truth (T, H, W) and weights broadcastable to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from finescale.verify.frame import Array, Cells, Frame, cell_sums, dot, field_sums, log_rain, ratio, sort_members
from finescale.verify.settings import Settings

LOG_RANGE = 3.0
"""Range of log-rain for PSNR and SSIM: log10(1 + R/0.1) of R = 99.9 mm/h."""


def crps_ordered(errors: Array) -> Array:
    """Fair CRPS (N,) from members less truth (M, N) in rising order; the absolute error where M = 1."""
    count = len(errors)
    error = np.abs(errors).mean(axis=0)
    if count == 1:
        return error
    order = (2.0 * np.arange(1, count + 1) - count - 1) / (count * (count - 1))
    for weight, one in zip(order.astype(errors.dtype), errors, strict=True):
        error -= weight * one
    return error


def crps_cells(x: Array, y: Array) -> Array:
    """Fair CRPS of each cell, (M, …) and (…) -> (…)."""
    ordered = sort_members(x.reshape(len(x), -1))
    return crps_ordered(ordered - y.ravel()).reshape(y.shape)


def crps_terms(cells: Cells, settings: Settings) -> Array:
    """Σw·CRPS and Σw."""
    return np.array([dot(cells.w, crps_ordered(cells.errors)), cells.w.sum()])


def crps_formula(terms: Array) -> Array:
    return ratio(terms[..., 0], terms[..., 1])


def fair_crps(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean fair CRPS, in units of the field."""
    return float(crps_formula(cell_sums(crps_terms, members, truth, weights)))


def weighted_crps_terms(cells: Cells, settings: Settings) -> Array:
    """Σw·CRPS of max(·, threshold) and Σw, (K, 2)."""
    sums = np.zeros((len(settings.thresholds), 2))
    sums[:, 1] = cells.w.sum()
    x, y, w = cells.ordered, cells.y, cells.w
    largest = np.maximum(x[-1], y)
    for k in np.argsort(settings.thresholds):
        above = np.flatnonzero(largest > settings.thresholds[k])  # elsewhere all are equal, and the CRPS is 0
        if above.size < y.size:  # higher thresholds need not look there either
            x, y, w, largest = x.take(above, axis=1), y[above], w[above], largest[above]
        level = y.dtype.type(settings.thresholds[k])
        sums[k, 0] = dot(w, crps_ordered(np.maximum(x, level) - np.maximum(y, level)))
    return sums


def threshold_weighted_crps(
    members: ArrayLike, truth: ArrayLike, thresholds: tuple[float, ...], weights: ArrayLike | None = None
) -> Array:
    """Threshold-weighted fair CRPS (K,), in units of the field."""
    settings = Settings(tuple(thresholds))
    return crps_formula(cell_sums(weighted_crps_terms, members, truth, weights, settings))


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


def image_terms(frame: Frame, settings: Settings) -> Array:
    """Σw(a − b)², Σw, and Σw·SSIM, Σw over windows without missing cells; a, b the log-rain of the mean and y."""
    a, b, w = log_rain(frame.mean), frame.of_truth("log_rain", lambda: log_rain(frame.y)), frame.w
    similar, inside = 0.0, 0.0
    if min(a.shape) >= 11:
        # A window that holds a missing cell says nothing about the picture: it is left out, as are those across the
        # edge.
        weight = w[5:-5, 5:-5]
        if not w.all():
            weight = (~ndimage.maximum_filter(w == 0, 11))[5:-5, 5:-5] * weight
        blurred = frame.of_truth("blurred", lambda: (_blur(b), _blur(b * b)))
        similar = float((weight * _ssim(a, b, *blurred, LOG_RANGE)[5:-5, 5:-5]).sum())
        inside = float(weight.sum())
    return np.array([(w * (a - b) ** 2).sum(), w.sum(), similar, inside])


def ssim_cells(a: Array, b: Array, data_range: float = LOG_RANGE) -> Array:
    """Structural similarity (H, W) of two pictures (H, W), windows Gaussian with 1.5 cells' standard deviation."""
    return _ssim(a, b, _blur(b), _blur(b * b), data_range)


def _ssim(a: Array, b: Array, mean_b: Array, square_b: Array, data_range: float) -> Array:
    mean_a, square_a, product = _blur(a), _blur(a * a), _blur(a * b)
    var_a, var_b, cov = square_a - mean_a**2, square_b - mean_b**2, product - mean_a * mean_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


def _blur(field: Array) -> Array:
    return ndimage.gaussian_filter(field, 1.5, truncate=3.5)


def image_formula(terms: Array) -> dict[str, Array]:
    """psnr in dB (infinite for a perfect mean) and ssim from summed `image_terms` (…, 4)."""
    square, similar = ratio(terms[..., 0], terms[..., 1]), ratio(terms[..., 2], terms[..., 3])
    with np.errstate(divide="ignore"):
        return {"psnr": 10 * np.log10(LOG_RANGE**2 / square), "ssim": similar}


def image_scores(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> dict[str, float]:
    """psnr in dB and ssim of the ensemble mean's log-rain."""
    found = image_formula(field_sums(image_terms, members, truth, weights))
    return {name: float(value) for name, value in found.items()}
