"""The continuous ranked probability score, for an ensemble x_1 … x_M against a truth y.

With ⟨·⟩ the mean over cells weighted by w (cell area, zero where a cell is missing):

    fair CRPS      ⟨ 1/M Σ_i |x_i − y| − 1/(2M(M−1)) Σ_ij |x_i − x_j| ⟩       unbiased in M (Ferro 2014)
                   Σ_ij |x_i − x_j| = 2 Σ_i (2i − M − 1) x_(i) with x sorted, so the cost is M log M
    twCRPS         the fair CRPS of max(x_i, threshold) against max(y, threshold): only what lies above counts
                   (Gneiting and Ranjan 2011; chaining as in Allen et al. 2023)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from finescale.scores.cells import Array, Cells, cell_sums, dot, ratio, sort_members
from finescale.scores.record import FIELD, Score, Statistic
from finescale.scores.settings import Settings


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


CRPS = Statistic(
    "crps",
    crps_terms,
    lambda terms, members, settings: {"crps": crps_formula(terms)},
    (
        Score(
            "crps",
            "CRPS",
            "low",
            "Cell by cell",
            "Fair continuous ranked probability score: distance of the whole ensemble from the truth, mean |member − "
            "truth| less half the mean distance between members, unbiased in the number of members; for one member "
            "the absolute error.",
            units=FIELD,
            by_time=True,
        ),
    ),
)
THRESHOLD_WEIGHTED = Statistic(
    "weighted_crps",
    weighted_crps_terms,
    lambda terms, members, settings: {"threshold_weighted_crps": crps_formula(terms)},
    (
        Score(
            "threshold_weighted_crps",
            "CRPS above",
            "low",
            "Cell by cell",
            "Fair CRPS of max(value, threshold): only what lies above the threshold counts.",
            units=FIELD,
            dims=("threshold",),
            relation="",
        ),
    ),
    wanted=lambda settings: bool(settings.thresholds),
)
