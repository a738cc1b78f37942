"""Fractions skill score (Roberts and Lean 2008): do events ≥ threshold agree when seen through windows?

With p the fraction of valid cells ≥ threshold in a square window of `scale` cells a side that lies wholly inside the
field,

    FSS = 1 − Σ (p_x − p_y)² / Σ (p_x² + p_y²),       each member, then averaged

Window sums are differences of sums over rectangles from the corner, so every scale costs the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from finescale.scores.cells import CHUNK, Array, Frame, dot, field_sums, mean_of, ratio
from finescale.scores.record import Score, Statistic
from finescale.scores.settings import SCALES, THRESHOLDS, Settings

EXACT = 1 << 24
"""Whole numbers below are exact in single precision."""
WIDEST = 63
"""Widest windows whose squared counts are: 63⁴ < 2²⁴."""


def fss_terms(frame: Frame, settings: Settings) -> Array:
    """Sums (K, S, M, 2) over windows of (p_x − p_y)² and p_x² + p_y²; windows without a valid cell do not count."""
    valid = frame.w > 0
    inside = None if valid.all() else frame.of_truth("inside", lambda: _integral(valid))
    sums = np.zeros((len(settings.thresholds), len(settings.scales), len(frame.x), 2))
    fit = [(s, scale) for s, scale in enumerate(settings.scales) if scale <= min(frame.y.shape)]
    for k, threshold in enumerate(settings.thresholds):
        seen = [frame.of_truth(("seen", threshold, n), partial(_seen, frame, threshold, n, inside)) for _, n in fit]
        for m, member in enumerate(frame.x):
            events = (member >= threshold) & valid
            forecast = _integral(events)
            for (s, scale), (windows, yy) in zip(fit, seen, strict=True):
                if scale == 1:
                    xx, apart = float(forecast[-1, -1]), float(np.count_nonzero(events ^ windows))
                else:
                    xx, apart = _products(forecast, windows, inside, scale)
                sums[k, s, m] = apart, xx + yy
    return sums


def _seen(frame: Frame, threshold: float, scale: int, inside: Array | None) -> tuple[Array, float]:
    """The truth's events in windows, and Σ p_y²."""
    events = (frame.y >= threshold) & (frame.w > 0)
    if scale == 1:
        return events, float(np.count_nonzero(events))
    counts = _integral(events)
    windows = _windows(counts, scale).astype(np.float32 if scale <= WIDEST else np.float64)
    return windows, _products(counts, windows, inside, scale)[0]


def fss_formula(terms: Array) -> Array:
    """FSS (…, K, S), averaged over members; NaN where nobody has the event."""
    return mean_of(1.0 - ratio(terms[..., 0], terms[..., 1]))


def fss(
    members: ArrayLike, truth: ArrayLike, thresholds: Sequence[float] = THRESHOLDS, scales: Sequence[int] = SCALES
) -> Array:
    """Fractions skill score (K, S); scales are window widths in cells."""
    settings = Settings(tuple(thresholds), tuple(scales))
    return fss_formula(field_sums(fss_terms, members, truth, None, settings))


def _products(x: Array, seen: Array, inside: Array | None, scale: int) -> tuple[float, float]:
    """Σ p_x², Σ (p_x − p_y)² over windows.

    Args:
        x: corner counts of the forecast's events.
        seen: the truth's events in each window.
        inside: corner counts of valid cells, unless all are.
        scale: the window's width.
    """
    total = np.zeros(2)
    height = x.shape[0] - scale
    # Some rows at a time, which stay in the cache.
    step = max(1, CHUNK // x.shape[1])
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height) + scale)
        p_x = _windows(x[rows], scale).astype(seen.dtype)
        apart = p_x - seen[top : top + step]
        if inside is not None:
            share = 1.0 / np.maximum(_windows(inside[rows], scale), 1)
            p_x, apart = p_x * share, apart * share
        total += _squares(p_x, scale), _squares(apart, scale)
    # Where no cell is missing, counts stand for fractions up to here: their sums are exact.
    xx, difference = total if inside is not None else total / scale**4
    return float(xx), float(difference)


def _squares(counts: Array, scale: int) -> float:
    """Σ c² of counts up to scale², exactly."""
    if counts.dtype == np.float64:
        return dot(counts.ravel(), counts.ravel())
    if scale**4 * counts.shape[1] < EXACT:
        return float(np.einsum("ij,ij->i", counts, counts).sum(dtype=np.float64))
    return float(np.square(counts).sum(dtype=np.float64))


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


FSS = Statistic(
    "fss",
    fss_terms,
    lambda terms, members, settings: {"fss": fss_formula(terms)},
    (
        Score(
            "fss",
            "FSS",
            "high",
            "Fields",
            "Fractions skill score: agreement of the fraction of cells at or above the threshold in square windows that"
            " lie inside the field; each member, then averaged.",
            dims=("threshold", "scale"),
        ),
    ),
    over="frame",
)
