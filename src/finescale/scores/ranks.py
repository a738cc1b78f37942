"""Where does the truth fall among the members?

rank        of y among the x_i, ties broken at random: r = #{x_i < y} + ⌊u (#{x_i = y} + 1)⌋, u uniform on (0, 1);
            below the dry threshold all values count as equal. Flat for a reliable ensemble
departure   Σ |f − 1/(M+1)| over rank frequencies f
PIT         probability integral transform (#{x_i < y} + u (#{x_i = y} + 1)) / (M + 1): the rank spread over its
            interval, so uniform on (0, 1) for a reliable ensemble of any size; a histogram of 20 bins, which compares
            ensembles of different sizes
MACE        mean absolute calibration error, mean over p = 0.05, 0.10 … 0.95 of |frequency of PIT ≤ p − p|
coverage    share of cells with y in the members' central interval of level q, ends included. Its ends are the
            quantiles (1 ± q)/2, at position p (M + 1) of the sorted members (Weibull's, Hyndman and Fan's type 6),
            linear between: y is exchangeable with the members of a reliable ensemble, and falls between the i-th and
            the j-th with probability (j − i)/(M + 1). The positions lie within 1 … M, so the widest interval, from the
            lowest to the highest member, holds y in (M − 1)/(M + 1) of the cases: the level to expect is
            min(q, (M − 1)/(M + 1)), given as coverage_expected; between two members it is near that (for 10 normal
                members .02 above). Dry cells lie in any interval that holds 0, so for rain MACE, which breaks ties at
                random, is the stricter test, and so is coverage_wet: that of the cells where the ensemble mean is at
                least 0.1 mm/h. Cells are chosen by the forecast, never by the truth: where it rained, a reliable
                ensemble is too dry
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from finescale.scores.cells import Array, Cells, cell_sums, count, dot, ratio
from finescale.scores.record import Score, Statistic
from finescale.scores.settings import WET, Settings

PIT_BINS = 20
LEVELS = (0.5, 0.7, 0.9, 0.95)
"""Levels of the central intervals whose coverage is scored."""


def rank_terms(cells: Cells, settings: Settings) -> Array:
    """Weight (M + 1 + PIT_BINS,) of cells by the truth's rank, then by its PIT."""
    x, y, dry = cells.x, cells.y, settings.dry
    below, ties = count(x < y).astype(np.float64), count(x == y)
    if dry is not None:
        low = y < dry
        below, ties = np.where(low, 0.0, below), np.where(low, count(x < dry), ties)
    place = below + cells.u * (ties + 1.0)
    ranks = np.bincount(place.astype(np.int64), weights=cells.w, minlength=len(x) + 1)
    bins = np.minimum((place * (PIT_BINS / (len(x) + 1))).astype(np.int64), PIT_BINS - 1)
    return np.concatenate([ranks, np.bincount(bins, weights=cells.w, minlength=PIT_BINS)]).astype(np.float64)


def rank_formula(terms: Array) -> dict[str, Array]:
    """rank_histogram (…, M + 1), rank_departure, pit_histogram (…, PIT_BINS) and mace from summed `rank_terms`."""
    ranks, pit = terms[..., :-PIT_BINS], terms[..., -PIT_BINS:]
    ranks = ratio(ranks, ranks.sum(axis=-1, keepdims=True))
    pit = ratio(pit, pit.sum(axis=-1, keepdims=True))
    error = np.cumsum(pit, axis=-1)[..., :-1] - np.arange(1, PIT_BINS) / PIT_BINS
    return {
        "rank_histogram": ranks,
        "rank_departure": np.abs(ranks - 1.0 / ranks.shape[-1]).sum(axis=-1),
        "pit_histogram": pit,
        "mace": np.abs(error).mean(axis=-1),
    }


def rank_scores(
    members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None, dry: float | None = None, seed: int = 0
) -> dict[str, Array]:
    """All of `rank_formula` for arrays at hand."""
    return rank_formula(cell_sums(rank_terms, members, truth, weights, Settings(dry=dry, seed=seed)))


def coverage_terms(cells: Cells, settings: Settings) -> Array:
    """Weight (L + 1,) of cells inside each central interval, and of all."""
    return _inside(cells.errors, cells.w)


def wet_coverage_terms(cells: Cells, settings: Settings) -> Array:
    """The same of the cells where the ensemble mean is at least 0.1 mm/h."""
    wet = np.flatnonzero(cells.error + cells.y >= WET)
    return _inside(cells.errors.take(wet, axis=1), cells.w[wet])


def _inside(errors: Array, weights: Array) -> Array:
    """Weight (L + 1,) of cells inside each interval, and of all, by sorted errors (M, N) of the members."""
    # The quantile of the errors is that of the members less y: y is inside where 0 is.
    inside = [
        dot(weights, (_quantile(errors, (1 - q) / 2) <= 0) & (_quantile(errors, (1 + q) / 2) >= 0)) for q in LEVELS
    ]
    return np.array([*inside, weights.sum()])


def coverage_formula(terms: Array, members: int, key: str = "coverage") -> dict[str, Array]:
    """``key`` and its expected value (…, L) for the intervals of `LEVELS` from summed `coverage_terms`."""
    found = ratio(terms[..., :-1], terms[..., -1:])
    return {key: found, f"{key}_expected": np.broadcast_to(coverage_expected(members), found.shape)}


def coverage_expected(members: int) -> Array:
    """Coverage (L,) that a reliable ensemble of M members has."""
    return np.minimum(LEVELS, (members - 1) / (members + 1))


def coverage(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Coverage (L,) for arrays at hand."""
    sums = cell_sums(coverage_terms, members, truth, weights)
    return coverage_formula(sums, len(np.asarray(members)))["coverage"]


def _quantile(ordered: Array, p: float) -> Array:
    """Quantile (N,) of sorted values (M, N), type 6."""
    size = len(ordered)
    place = min(max(p * (size + 1), 1.0), float(size)) - 1
    low = min(int(place), max(size - 2, 0))
    part = ordered.dtype.type(place - low)
    return ordered[low] * (1 - part) + ordered[min(low + 1, size - 1)] * part


RANK = Statistic(
    "rank",
    rank_terms,
    lambda terms, members, settings: rank_formula(terms),
    (
        Score("rank_histogram", dims=("rank",), several=True, alone=True),
        Score(
            "rank_departure",
            "Rank departure",
            "low",
            "Spread and calibration",
            "Σ |f − 1/(M+1)| over the rank histogram: 0 when the truth is equally likely to fall between any two "
            "members. Ties, and all values below the dry threshold, are ranked at random.",
            several=True,
            alone=True,
        ),
        Score("pit_histogram", dims=("pit_bin",), several=True),
        Score(
            "mace",
            "Calibration error",
            "low",
            "Spread and calibration",
            "Mean absolute difference between the levels 5, 10 … 95 % and how often the truth's PIT lies below them.",
            several=True,
        ),
    ),
    several=True,
)
COVERAGE = Statistic(
    "coverage",
    coverage_terms,
    lambda terms, members, settings: coverage_formula(terms, members),
    (
        Score(
            "coverage",
            "Coverage",
            "expected",
            "Spread and calibration",
            "Share of cells in the members' central 50, 70, 90 and 95 % intervals; best is coverage_expected, which is "
            "less than the level where there are few members.",
            dims=("coverage_level",),
            several=True,
        ),
    ),
    several=True,
)
WET_COVERAGE = Statistic(
    "wet_coverage",
    wet_coverage_terms,
    lambda terms, members, settings: coverage_formula(terms, members, "coverage_wet"),
    (
        Score(
            "coverage_wet",
            "Coverage of wet cells",
            "expected",
            "Spread and calibration",
            "The same of the cells where the ensemble mean is at least 0.1 mm/h: dry ones lie in any interval.",
            dims=("coverage_level",),
            several=True,
        ),
    ),
    wanted=lambda settings: settings.rain,
    several=True,
)
