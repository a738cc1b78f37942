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

from finescale.verify.frame import Array, Frame, field_sums, mean_of, ratio
from finescale.verify.settings import SCALES, THRESHOLDS, Settings


def fss_terms(frame: Frame, settings: Settings) -> Array:
    """Sums (K, S, M, 2) over windows of (p_x − p_y)² and p_x² + p_y²; windows without a valid cell do not count."""
    valid = frame.w > 0
    whole = bool(valid.all())
    scales = [scale for scale in settings.scales if scale <= min(frame.y.shape)]
    inside = None if whole else _integral(valid)
    # Where no cell is missing, counts stand for fractions: they are exact.
    shares = [1.0 if inside is None else 1.0 / np.maximum(_windows(inside, scale), 1) for scale in scales]
    sums = np.zeros((len(settings.thresholds), len(settings.scales), len(frame.x), 2))
    for k, threshold in enumerate(settings.thresholds):
        seen = _fractions((frame.y >= threshold) & valid, scales, shares)
        for m, member in enumerate(frame.x):
            event = (member >= threshold) & valid
            rare = not event.any()
            for s, p_y in enumerate(seen):
                if s == 0:
                    forecast = [] if rare else _fractions(event, scales, shares)
                yy = np.dot(p_y, p_y)
                xx, xy = (0.0, 0.0) if rare else (np.dot(forecast[s], forecast[s]), np.dot(forecast[s], p_y))
                unit = scales[s] ** -4 if whole else 1.0
                sums[k, settings.scales.index(scales[s]), m] = max(xx + yy - 2 * xy, 0.0) * unit, (xx + yy) * unit
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


def _fractions(event: Array, scales: Sequence[int], shares: Sequence[float | Array]) -> list[Array]:
    """Fractions, flat, in all windows of each scale."""
    corner = _integral(event)
    return [(_windows(corner, scale) * share).ravel() for scale, share in zip(scales, shares, strict=True)]


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
