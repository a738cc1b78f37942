"""Scores of an ensemble x_1 … x_M of fields against a truth y, ignoring cells that are NaN in either.

With ⟨·⟩ the mean over cells weighted by w (cell area, zero where a cell is invalid), x̄ the ensemble mean:

    MAE            ⟨|x̄ − y|⟩                 RMSE  √⟨(x̄ − y)²⟩               bias  ⟨x̄ − y⟩
    fair CRPS      ⟨ 1/M Σ_i |x_i − y| − 1/(2M(M−1)) Σ_ij |x_i − x_j| ⟩       unbiased in M (Ferro 2014)
                   Σ_ij |x_i − x_j| = 2 Σ_i (2i − M − 1) x_(i) with x sorted, so the cost is M log M
    spread–skill   √((M+1)/M) · √⟨s²⟩ / RMSE,  s² the unbiased ensemble variance (Fortin et al. 2014); 1 is right
    CSI            hits / (hits + misses + false alarms) of {≥ threshold}, each member, then averaged
    FSS            1 − Σ (p_x − p_y)² / Σ (p_x² + p_y²),  p the fraction of cells ≥ threshold in a square window
                   (Roberts and Lean 2008); windows lie wholly inside the field; each member, then averaged
    rank           of y among the x_i, ties broken at random; below the dry threshold all values count as equal
    energy score   1/M Σ_i ‖x_i − y‖ − 1/(2M(M−1)) Σ_ij ‖x_i − x_j‖,  ‖d‖ = √⟨d²⟩ over one time (Gneiting and
                   Raftery 2007)
    PSNR, SSIM     of the ensemble mean in log-rain, log10(1 + R/0.1), with a fixed range of 3 (R up to 100 mm/h), so
                   that they compare between cases; SSIM with Gaussian windows of 1.5 cells (Wang et al. 2004)
    residual       max |A x − c| / max |c|,  A the area-weighted block mean, c the coarse field

Each score comes as a *statistic* that adds over times and chunks (functions ending in ``_terms``, on arrays without
NaN) and a *formula* on summed statistics; the function named after the score does both for arrays at hand. Shapes:
members (M, T, H, W), truth (T, H, W), weights broadcastable to (T, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from finescale.errors import InputError

Array = NDArray[np.float64]

LOG_RANGE = 3.0
"""Range of log-rain for PSNR and SSIM: log10(1 + R/0.1) of R = 99.9 mm/h."""
THRESHOLDS = (0.1, 1.0, 5.0, 10.0)
"""Rain rates in mm/h for CSI and FSS."""
SCALES = (1, 5, 11, 21)
"""Window widths in cells for FSS."""
_SHIFT = 12  # bits of a float32 that a histogram bin leaves out: bins are 2^-11 (0.05 %) wide
_BINS = 1 << (32 - _SHIFT)


def joint(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> tuple[Array, Array, Array]:
    """Members (M, T, H, W), truth and weights (T, H, W) in float64, with NaN cells set to 0 and given weight 0.

    Raises:
        InputError: if the shapes do not belong together.
    """
    x, y = np.asarray(members, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if x.ndim != 4 or x.shape[1:] != y.shape:
        raise InputError(f"members must be (M, T, H, W) and truth (T, H, W), but they are {x.shape} and {y.shape}")
    valid = np.isfinite(y) & np.isfinite(x).all(axis=0)
    w = np.broadcast_to(1.0 if weights is None else np.asarray(weights, dtype=np.float64), y.shape) * valid
    if not valid.all():
        x, y = np.where(valid, x, 0.0), np.where(valid, y, 0.0)
    return x, y, w


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Array:
    """numerator / denominator, NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(denominator) == 0, np.nan, np.divide(numerator, denominator))


def log_rain(rate: ArrayLike) -> Array:
    """log10(1 + R/0.1) of a rain rate in mm/h; negative rates count as 0."""
    return np.log10(1.0 + np.maximum(np.asarray(rate, dtype=np.float64), 0.0) / 0.1)


def crps_cells(x: Array, y: Array) -> Array:
    """Fair CRPS of each cell, (M, …) and (…) -> (…); the absolute error where M = 1."""
    count = x.shape[0]
    error = np.abs(x - y).mean(axis=0)
    if count == 1:
        return error
    order = (2.0 * np.arange(1, count + 1) - count - 1) / (count * (count - 1))
    return error - np.tensordot(order, np.sort(x, axis=0), axes=1)


def fair_crps(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean fair CRPS, in units of the field."""
    x, y, w = joint(members, truth, weights)
    return float(ratio((w * crps_cells(x, y)).sum(), w.sum()))


def mean_terms(x: Array, y: Array, w: Array) -> Array:
    """Σw, Σw|e|, Σwe², Σwe, Σws² of the ensemble mean's error e and the unbiased ensemble variance s²."""
    error = x.mean(axis=0) - y
    variance = x.var(axis=0, ddof=1) if x.shape[0] > 1 else np.full_like(error, np.nan)
    return np.array([w.sum(), *((w * f).sum() for f in (np.abs(error), error**2, error, variance))])


def mean_errors(terms: Array, members: int) -> dict[str, float]:
    """mae, rmse, bias and spread_skill (NaN for one member) from summed `mean_terms`."""
    mae, square, bias, variance = ratio(terms[1:], terms[0])
    spread = ratio(np.sqrt((members + 1) / members * variance), np.sqrt(square))
    return {"mae": float(mae), "rmse": float(np.sqrt(square)), "bias": float(bias), "spread_skill": float(spread)}


def mae(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean absolute error of the ensemble mean."""
    return mean_errors(mean_terms(*joint(members, truth, weights)), len(np.asarray(members)))["mae"]


def rmse(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Root mean square error of the ensemble mean."""
    return mean_errors(mean_terms(*joint(members, truth, weights)), len(np.asarray(members)))["rmse"]


def bias(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean error of the ensemble mean."""
    return mean_errors(mean_terms(*joint(members, truth, weights)), len(np.asarray(members)))["bias"]


def spread_skill(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Spread–skill ratio; above 1 the ensemble is too wide, below 1 too narrow; NaN for one member."""
    return mean_errors(mean_terms(*joint(members, truth, weights)), len(np.asarray(members)))["spread_skill"]


def image_terms(x: Array, y: Array, w: Array) -> Array:
    """Σw(a − b)², Σw, and Σw·SSIM, Σw over windows without invalid cells; a, b the log-rain of the mean and y."""
    a, b = log_rain(x.mean(axis=0)), log_rain(y)
    similar, inside = 0.0, 0.0
    for one, other, weight in zip(a, b, w, strict=True):
        if min(one.shape) < 11:
            continue
        # A window that holds an invalid cell says nothing about the picture: it is left out, as are those across the
        # edge.
        whole = (~ndimage.maximum_filter(weight == 0, 11))[5:-5, 5:-5] * weight[5:-5, 5:-5]
        similar += float((whole * ssim_cells(one, other)[5:-5, 5:-5]).sum())
        inside += float(whole.sum())
    return np.array([(w * (a - b) ** 2).sum(), w.sum(), similar, inside])


def ssim_cells(a: Array, b: Array, data_range: float = LOG_RANGE) -> Array:
    """Structural similarity (H, W) of two pictures (H, W), windows Gaussian with 1.5 cells' standard deviation."""
    blur = [ndimage.gaussian_filter(f, 1.5, truncate=3.5) for f in (a, b, a * a, b * b, a * b)]
    mean_a, mean_b = blur[0], blur[1]
    var_a, var_b, cov = blur[2] - mean_a**2, blur[3] - mean_b**2, blur[4] - mean_a * mean_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


def image_scores(terms: Array) -> dict[str, float]:
    """psnr in dB (infinite for a perfect mean) and ssim from summed `image_terms`."""
    square, similar = ratio(terms[[0, 2]], terms[[1, 3]])
    psnr_db = np.inf if square == 0 else 10 * np.log10(LOG_RANGE**2 / square)
    return {"psnr": float(psnr_db), "ssim": float(similar)}


def psnr(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Peak signal-to-noise ratio in dB of the ensemble mean's log-rain."""
    return image_scores(image_terms(*joint(members, truth, weights)))["psnr"]


def ssim(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Structural similarity of the ensemble mean's log-rain."""
    return image_scores(image_terms(*joint(members, truth, weights)))["ssim"]


def csi_terms(x: Array, y: Array, w: Array, thresholds: Sequence[float]) -> Array:
    """Weights (K, M, 3) of hits, forecast events and observed events at K thresholds."""
    table = np.zeros((len(thresholds), x.shape[0], 3))
    for k, threshold in enumerate(thresholds):
        observed = (w * (y >= threshold)).ravel()
        for m, member in enumerate(x):
            event = (member >= threshold).ravel()
            table[k, m] = observed[event].sum(), w.ravel()[event].sum(), observed.sum()
    return table


def csi_formula(terms: Array) -> list[float]:
    """CSI per threshold, averaged over members; NaN where no member and no truth has the event."""
    hits, forecast, observed = np.moveaxis(terms, -1, 0)
    return _mean_over_members(ratio(hits, forecast + observed - hits))


def csi(
    members: ArrayLike, truth: ArrayLike, thresholds: Sequence[float] = THRESHOLDS, weights: ArrayLike | None = None
) -> list[float]:
    """Critical success index at each threshold."""
    return csi_formula(csi_terms(*joint(members, truth, weights), thresholds))


def fss_terms(x: Array, y: Array, w: Array, thresholds: Sequence[float], scales: Sequence[int]) -> Array:
    """Sums (K, S, M, 2) over windows of (p_x − p_y)² and p_x² + p_y²; windows without a valid cell do not count."""
    sums = np.zeros((len(thresholds), len(scales), x.shape[0], 2))
    valid = _integral(w > 0)
    for k, threshold in enumerate(thresholds):
        observed = _integral((y >= threshold) & (w > 0))
        forecast = [_integral((member >= threshold) & (w > 0)) for member in x]
        for s, scale in enumerate(scales):
            share = 1.0 / np.maximum(_windows(valid, scale), 1)
            p_y = _windows(observed, scale) * share
            for m, member in enumerate(forecast):
                p_x = _windows(member, scale) * share
                sums[k, s, m] = ((p_x - p_y) ** 2).sum(), (p_x**2).sum() + (p_y**2).sum()
    return sums


def fss_formula(terms: Array) -> list[list[float]]:
    """FSS as [threshold][scale], averaged over members; NaN where nobody has the event."""
    return [_mean_over_members(1.0 - ratio(one[..., 0], one[..., 1])) for one in terms]


def fss(
    members: ArrayLike, truth: ArrayLike, thresholds: Sequence[float] = THRESHOLDS, scales: Sequence[int] = SCALES
) -> list[list[float]]:
    """Fractions skill score as [threshold][scale]; scales are window widths in cells."""
    return fss_formula(fss_terms(*joint(members, truth), thresholds, scales))


def rank_terms(x: Array, y: Array, w: Array, generator: np.random.Generator, dry: float | None = None) -> Array:
    """Weight (M + 1,) of cells by the rank of y among the members; values below ``dry`` count as equal."""
    if dry is not None:
        x, y = np.where(x < dry, 0.0, x), np.where(y < dry, 0.0, y)
    ties = (x == y).sum(axis=0)
    # Drawing for every cell, tied or not, keeps the numbers a function of the position alone.
    rank = (x < y).sum(axis=0) + np.floor(generator.random(y.shape) * (ties + 1)).astype(np.int64)
    return np.bincount(rank.ravel(), weights=w.ravel(), minlength=x.shape[0] + 1).astype(np.float64, copy=False)


def rank_histogram(
    members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None, dry: float | None = None, seed: int = 0
) -> Array:
    """Frequencies (M + 1,) of the truth's rank, summing to 1; flat for a reliable ensemble."""
    counts = rank_terms(*joint(members, truth, weights), np.random.default_rng(seed), dry)
    return ratio(counts, counts.sum())


def rank_departure(frequencies: ArrayLike) -> float:
    """Σ |f − 1/(M+1)|: 0 for a flat rank histogram, 2M/(M+1) at worst."""
    f = np.asarray(frequencies, dtype=np.float64)
    return float(np.abs(f - 1.0 / f.size).sum())


def value_terms(values: Array, w: Array) -> Array:
    """Weight of values in 2²⁰ bins, equal in the bits of a float32 and so 0.05 % wide at any magnitude."""
    bits = (np.asarray(values, dtype=np.float32) + np.float32(0)).view(np.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    index = (ordered >> _SHIFT).astype(np.int64) + _BINS // 2
    return np.bincount(index.ravel(), weights=np.broadcast_to(w, values.shape).ravel(), minlength=_BINS).astype(
        np.float64, copy=False
    )


def quantile_formula(terms: Array, q: float) -> float:
    """The q-quantile of binned values, linear within the bin; NaN when empty."""
    total = np.cumsum(terms)
    if total[-1] == 0:
        return float("nan")
    place = int(np.searchsorted(total, q * total[-1]))
    edges = np.array([place, place + 1], dtype=np.int64) - _BINS // 2
    ordered = np.clip(edges << _SHIFT, -(2**31), 2**31 - 1).astype(np.int32)
    low, high = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(np.float32).astype(np.float64)
    before = total[place] - terms[place]
    return float(low + (high - low) * (q * total[-1] - before) / terms[place])


def percentile_bias(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None, q: float = 0.999) -> float:
    """(Q(all members) − Q(truth)) / Q(truth) of the q-quantile over all cells."""
    x, y, w = joint(members, truth, weights)
    ours, true = (quantile_formula(value_terms(f, w), q) for f in (x, y))
    return float(ratio(ours - true, true))


def wet_terms(x: Array, y: Array, w: Array, wet: float = 0.1) -> Array:
    """Wet weight of all members (per member), of the truth, and the whole weight."""
    return np.array([(w * (x >= wet)).sum() / x.shape[0], (w * (y >= wet)).sum(), w.sum()])


def wet_fraction(
    members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None, wet: float = 0.1
) -> tuple[float, float]:
    """Fraction of the area with at least ``wet`` mm/h: (members, truth)."""
    terms = wet_terms(*joint(members, truth, weights), wet)
    ours, true = ratio(terms[:2], terms[2])
    return float(ours), float(true)


def energy_terms(x: Array, y: Array, w: Array) -> Array:
    """Σ over times of the fair energy score, and the number of times with a valid cell."""
    total, times, count = 0.0, 0, x.shape[0]
    for t in range(y.shape[0]):
        if not w[t].any():
            continue
        d = ((x[:, t] - y[t]) * np.sqrt(w[t] / w[t].sum())).reshape(count, -1)
        gram = d @ d.T
        norm = np.diag(gram)
        apart = np.sqrt(np.maximum(norm[:, None] + norm[None, :] - 2 * gram, 0.0)).sum()
        total += float(np.sqrt(norm).mean() - (apart / (2 * count * (count - 1)) if count > 1 else 0.0))
        times += 1
    return np.array([total, times])


def energy_score(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Fair energy score, mean over times, in units of the field."""
    total, times = energy_terms(*joint(members, truth, weights))
    return float(ratio(total, times))


def _mean_over_members(values: Array) -> list[float]:
    """Mean over the last axis, leaving out NaN; NaN where all are."""
    there = np.isfinite(values)
    return [float(v) for v in ratio(np.where(there, values, 0.0).sum(axis=-1), there.sum(axis=-1))]


def _integral(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Counts (…, H + 1, W + 1) above and to the left of each corner: window sums become exact differences."""
    counts = np.zeros((*mask.shape[:-2], mask.shape[-2] + 1, mask.shape[-1] + 1), dtype=np.int64)
    np.cumsum(np.cumsum(mask, axis=-2, dtype=np.int64), axis=-1, out=counts[..., 1:, 1:])
    return counts


def _windows(counts: NDArray[np.int64], scale: int) -> NDArray[np.int64]:
    """Counts in every window of ``scale`` x ``scale`` cells inside the field (none where the field is smaller)."""
    rows = counts[..., scale:, :] - counts[..., : max(counts.shape[-2] - scale, 0), :]
    return rows[..., scale:] - rows[..., : max(counts.shape[-1] - scale, 0)]
