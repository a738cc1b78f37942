"""Fractions skill score (Roberts and Lean 2008): do events ≥ threshold agree when seen through windows?

With p the fraction of valid cells ≥ threshold in a square window of `scale` cells a side that lies wholly inside the
field,

    FSS = 1 − Σ (p_x − p_y)² / Σ (p_x² + p_y²),       each member, then averaged

Window sums are differences of sums over rectangles from the corner, so every scale costs the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from finescale.verify.frame import BLOCK, Array, Frame, dot, field_sums, mean_of, ratio
from finescale.verify.settings import SCALES, THRESHOLDS, Settings


def fss_terms(frame: Frame, settings: Settings) -> Array:
    """Sums (K, S, M, 2) over windows of (p_x − p_y)² and p_x² + p_y²; windows without a valid cell do not count."""
    valid = frame.w > 0
    inside = None if valid.all() else _integral(valid)
    sums = np.zeros((len(settings.thresholds), len(settings.scales), len(frame.x), 2))
    for k, threshold in enumerate(settings.thresholds):
        seen = _integral((frame.y >= threshold) & valid)
        for m, member in enumerate(frame.x):
            forecast = _integral((member >= threshold) & valid)
            for s, scale in enumerate(settings.scales):
                if scale <= min(frame.y.shape):
                    xx, yy, xy = _products(forecast, seen, inside, scale)
                    sums[k, s, m] = max(xx + yy - 2 * xy, 0.0), xx + yy
    return sums


def fss_formula(terms: Array) -> Array:
    """FSS (…, K, S), averaged over members; NaN where nobody has the event."""
    return mean_of(1.0 - ratio(terms[..., 0], terms[..., 1]))


def fss(
    members: ArrayLike, truth: ArrayLike, thresholds: Sequence[float] = THRESHOLDS, scales: Sequence[int] = SCALES
) -> Array:
    """Fractions skill score (K, S); scales are window widths in cells."""
    settings = Settings(tuple(thresholds), tuple(scales))
    return fss_formula(field_sums(fss_terms, members, truth, None, settings))


def _products(x: Array, y: Array, inside: Array | None, scale: int) -> tuple[float, float, float]:
    """Σ p_x², Σ p_y², Σ p_x p_y over windows, from corner counts of events and (unless all are) valid cells."""
    if x[-1, -1] == 0 and y[-1, -1] == 0:
        return 0.0, 0.0, 0.0
    total = np.zeros(3)
    height = x.shape[0] - scale
    # Some rows at a time, which stay in the cache.
    step = max(1, BLOCK // x.shape[1])
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height) + scale)
        p_x, p_y = (_windows(f[rows], scale).astype(np.float64).ravel() for f in (x, y))
        if inside is not None:
            share = 1.0 / np.maximum(_windows(inside[rows], scale), 1).ravel()
            p_x, p_y = p_x * share, p_y * share
        total += dot(p_x, p_x), dot(p_y, p_y), dot(p_x, p_y)
    # Where no cell is missing, counts stand for fractions up to here: their sums are exact.
    xx, yy, xy = total if inside is not None else total / scale**4
    return float(xx), float(yy), float(xy)


def _integral(mask: Array) -> Array:
    """Counts (H + 1, W + 1) above and to the left of each corner: window sums become exact differences."""
    counts = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int32)
    np.cumsum(mask, axis=1, dtype=np.int32, out=counts[1:, 1:])
    np.cumsum(counts[1:, 1:], axis=0, out=counts[1:, 1:])
    return counts


def _windows(counts: Array, scale: int) -> Array:
    """Counts in every window of ``scale`` x ``scale`` cells inside the field."""
    rows = counts[scale:] - counts[:-scale]
    return rows[:, scale:] - rows[:, :-scale]
