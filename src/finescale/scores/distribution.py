"""Do values have the right distribution, wherever they are?

Values are counted in 2²⁰ bins, equal in the bits of a float32 and so 0.05 % wide at any magnitude; quantiles are linear
within a bin. From them come the quantiles of all members' cells Q_x beside the truth's Q_y (quantile–quantile), F_x
and F_y being the shares of cells up to a value, and

    earth mover's distance  ∫ |F_x(v) − F_y(v)| dv = ∫ |Q_x(p) − Q_y(p)| dp, the 1-Wasserstein distance
    quantile distance       mean of |Q_x(p) − Q_y(p)| over p in `LEVELS`: a quarter of them are in the highest 2.5 %
    bias of a percentile    (Q_x − Q_y) / Q_y
    wet fraction            share of the area with at least 0.1 mm/h
    maximum                 largest value of each member, then averaged: the largest of M members is larger by chance
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from finescale.scores.cells import Array, Cells, Frame, cell_sums, dot, field_sums, ratio
from finescale.scores.record import FIELD, Score, Statistic
from finescale.scores.settings import WET, Settings

LEVELS = (*np.arange(1, 20) / 20, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999)
"""Probabilities of the quantile–quantile data."""
PERCENTILES = {"p99": 0.99, "p999": 0.999, "p9999": 0.9999}
_SHIFT = 12  # bits of a float32 that a histogram bin leaves out: bins are 2^-11 (0.05 %) wide
_BINS = 1 << (32 - _SHIFT)


def value_bins(values: Array) -> tuple[Array, int]:
    """Bins of values (N,), less the first bin in question: that of 0 where no value is negative."""
    bits = (values.astype(np.float32, copy=False) + np.float32(0)).view(np.int32)
    if bits.min(initial=0) >= 0:
        return bits >> _SHIFT, _BINS // 2
    return ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> _SHIFT) + _BINS // 2, 0


def value_terms(frame: Frame, settings: Settings) -> Array:
    """Weights (2, 2²⁰) of the members' values (all members together) and of the truth's."""
    w = frame.w.ravel()
    # Counting is faster than adding up equal weights.
    alike = frame.alike
    sums = np.zeros((2, _BINS), dtype=np.int64 if alike else np.float64)
    # As many members together as fit into cache: each count goes through all bins once.
    group = max(1, min((1 << 20) // max(w.size, 1), len(frame.x)))
    parts = [(0, frame.x[first : first + group]) for first in range(0, len(frame.x), group)]
    for row, part in (*parts, (1, frame.y[None])):
        index, start = value_bins(part.ravel())
        weights = None if alike else np.broadcast_to(w, (len(part), w.size)).ravel()
        sums[row, start:] += np.bincount(index, weights, minlength=_BINS - start)
    return sums * float(w[0]) if alike else sums


def quantiles(terms: Array, levels: ArrayLike) -> Array:
    """Quantiles of binned values (2²⁰,), linear within the bin; NaN when empty."""
    total, q = np.cumsum(terms), np.asarray(levels, dtype=np.float64)
    if total[-1] == 0:
        return np.full(q.shape, np.nan)
    place = np.minimum(np.searchsorted(total, q * total[-1]), terms.size - 1)
    low, high = _edges(np.stack([place, place + 1]))
    return low + (high - low) * (q * total[-1] - (total[place] - terms[place])) / terms[place]


def earth_mover(ours: Array, true: Array) -> Array:
    """∫ |F_x − F_y| dv of two distributions in bins (2²⁰,), values even within a bin; NaN where one is empty."""
    if not (ours.any() and true.any()):
        return np.array(np.nan)
    gap = np.concatenate([[0.0], np.cumsum(ours / ours.sum() - true / true.sum())])
    kept = np.flatnonzero((np.abs(gap[:-1]) > 1e-15) | (np.abs(gap[1:]) > 1e-15))  # less is rounding of the sum
    a, b = gap[kept], gap[kept + 1]
    # The mean of |a + (b − a)t| over t in (0, 1): of a trapezoid, or of two triangles where the sign changes.
    apart = np.maximum(np.abs(a) + np.abs(b), 1e-300)
    mean = np.where(a * b >= 0, apart / 2, (a * a + b * b) / (2 * apart))
    return np.asarray(np.sum(mean * (_edges(kept + 1) - _edges(kept))))


def _edges(place: Array) -> Array:
    """The lower edges of bins, as values."""
    ordered = np.clip((place.astype(np.int64) - _BINS // 2) << _SHIFT, -(2**31), 2**31 - 1).astype(np.int32)
    with np.errstate(invalid="ignore"):  # bins beyond the largest float have no value
        return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(np.float32).astype(np.float64)


def value_formula(terms: Array) -> dict[str, Array]:
    """quantiles and quantiles_truth at `LEVELS`, both distances; p99, p999, p9999, the truth's, and their biases."""
    ours, true = (quantiles(part, LEVELS) for part in terms)
    found: dict[str, Array] = {"quantiles": ours, "quantiles_truth": true}
    found |= {"earth_mover": earth_mover(*terms), "quantile_distance": np.abs(ours - true).mean()}
    for name, q in PERCENTILES.items():
        a, b = (quantiles(part, q) for part in terms)
        found |= {name: a, f"{name}_truth": b, f"{name}_bias": ratio(a - b, b)}
    return found


def distribution(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> dict[str, Array]:
    """All of `value_formula` for arrays at hand."""
    return value_formula(field_sums(value_terms, members, truth, weights))


def largest_terms(frame: Frame, settings: Settings) -> Array:
    """Largest value (M + 1,) of each member and of the truth: merged by taking the greater."""
    valid = frame.w > 0
    if valid.all():
        return np.array([*(float(f.max()) for f in frame.x), float(frame.y.max())])
    return np.array([f[valid].max(initial=-np.inf) for f in (*frame.x, frame.y)], dtype=np.float64)


def largest_formula(terms: Array) -> dict[str, Array]:
    """maximum, mean over members, and maximum_truth."""
    return {"maximum": terms[..., :-1].mean(axis=-1), "maximum_truth": terms[..., -1]}


def wet_terms(cells: Cells, settings: Settings) -> Array:
    """Wet weight of all members (per member), of the truth, and the whole weight."""
    some, events = cells.events(WET)
    ours = (events @ cells.w[some]).sum() / len(cells.x) if some.size else 0.0
    return np.array([ours, dot(cells.w, cells.y >= WET), cells.w.sum()])


def wet_formula(terms: Array) -> dict[str, Array]:
    """wet_fraction and wet_fraction_truth."""
    return {name: ratio(terms[..., k], terms[..., 2]) for k, name in enumerate(("wet_fraction", "wet_fraction_truth"))}


def wet_fraction(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, float]:
    """Fraction of the area with at least 0.1 mm/h: (members, truth)."""
    ours, true = wet_formula(cell_sums(wet_terms, members, truth, weights)).values()
    return float(ours), float(true)


VALUES = Statistic(
    "values",
    value_terms,
    lambda terms, members, settings: value_formula(terms),
    (
        Score("quantiles", units=FIELD, dims=("quantile_level",), truth=True),
        Score(
            "earth_mover",
            "Earth mover's distance",
            "low",
            "Distribution",
            "1-Wasserstein distance of all members' cells from the truth's, wherever they are: how far values would "
            "have to be moved, on average, to have the truth's distribution.",
            units=FIELD,
        ),
        Score(
            "quantile_distance",
            "Quantile distance",
            "low",
            "Distribution",
            "Mean distance between the quantiles of all members' cells and the truth's at 5, 10 … 95, 97.5, 99, 99.5, "
            "99.9, 99.95 and 99.99 %: as the earth mover's, with more weight on extremes.",
            units=FIELD,
        ),
        *(Score(key, units=FIELD, truth=True) for key in PERCENTILES),
        Score("p99_bias", "99th percentile", 0.0, "Distribution", "As for the 99.9th percentile.", style="percent"),
        Score(
            "p999_bias",
            "99.9th percentile",
            0.0,
            "Distribution",
            "Relative error of the 99.9th percentile of all members' cells: are extremes strong enough?",
            style="percent",
        ),
        Score(
            "p9999_bias", "99.99th percentile", 0.0, "Distribution", "As for the 99.9th percentile.", style="percent"
        ),
    ),
    over="frame",
    series=False,  # a histogram of each time would be too large
)
LARGEST = Statistic(
    "largest",
    largest_terms,
    lambda terms, members, settings: largest_formula(terms),
    (
        Score(
            "maximum",
            "Maximum",
            "truth",
            "Distribution",
            "Largest value of a member, averaged; best is the truth's.",
            units=FIELD,
        ),
    ),
    over="frame",
    series=False,
    merge=np.maximum,
)
WET_FRACTION = Statistic(
    "wet",
    wet_terms,
    lambda terms, members, settings: wet_formula(terms),
    (
        Score(
            "wet_fraction",
            "Wet fraction",
            "truth",
            "Distribution",
            "Share of the area with at least 0.1 mm/h; best is that of the truth.",
            style="thousandths",
        ),
    ),
    wanted=lambda settings: settings.rain,
)
