"""Scores of events {≥ threshold}: of each member, and of the share of members as a probability.

Of each member, from the weights of hits H, forecast events F and observed events O, then averaged over members:

    CSI  H / (F + O − H)          POD  H / O          FAR  1 − H / F

Of the probability p = k/M, k the number of members with the event, from the weights N_k of cells with k and O_k of
those among them where it was seen (o = 1):

    Brier score    ⟨(p − o)²⟩ = Σ_k (N_k p² − 2 p O_k + O_k) / Σ_k N_k
    fair Brier     Brier score − ⟨p(1 − p)⟩ / (M − 1), unbiased in M (Ferro 2014)
    reliability    observed frequency O_k / N_k against p: on the diagonal where probabilities mean what they say
    ROC            hit rate Σ_{j ≥ k} O_j / O against false alarm rate Σ_{j ≥ k} (N_j − O_j) / (N − O), over all k, and
                   the area below (trapezoids): 1 if events are told apart from non-events, ½ by chance
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from finescale.scores.cells import Array, Cells, cell_sums, count, mean_of, ratio
from finescale.scores.record import Score, Statistic
from finescale.scores.settings import THRESHOLDS, Settings


def event_terms(cells: Cells, settings: Settings) -> Array:
    """Weights (K, M, 3) of hits, forecast events and observed events at K thresholds."""
    table = np.zeros((len(settings.thresholds), len(cells.x), 3))
    for k, threshold in enumerate(settings.thresholds):
        seen = cells.w * (cells.y >= threshold)
        table[k, :, 2] = seen.sum()
        some, events = cells.events(threshold)
        if some.size and cells.alike:  # counting is several times as fast as adding up weights
            hits = events & (cells.y[some] >= threshold)
            numbers = [[np.count_nonzero(one) for one in which] for which in (hits, events)]
            table[k, :, :2] = cells.w[0] * np.transpose(numbers)
        elif some.size:
            table[k, :, :2] = events.astype(np.float64) @ np.stack([seen[some], cells.w[some]], axis=1)
    return table


def event_formula(terms: Array) -> dict[str, Array]:
    """csi, pod and far (…, K), averaged over members; NaN where no member has one (csi, pod: nobody saw the event)."""
    hits, forecast, observed = np.moveaxis(terms, -1, 0)
    return {
        "csi": mean_of(ratio(hits, forecast + observed - hits)),
        "pod": mean_of(ratio(hits, observed)),
        "far": mean_of(ratio(forecast - hits, forecast)),
    }


def event_scores(
    members: ArrayLike, truth: ArrayLike, thresholds: Sequence[float] = THRESHOLDS, weights: ArrayLike | None = None
) -> dict[str, Array]:
    """csi, pod and far at each threshold."""
    return event_formula(cell_sums(event_terms, members, truth, weights, Settings(tuple(thresholds))))


def probability_terms(cells: Cells, settings: Settings) -> Array:
    """N_k and O_k, weights (K, M + 1, 2) of cells, and of cells with the event seen, by members that have it."""
    size = len(cells.x) + 1
    table = np.zeros((len(settings.thresholds), size, 2))
    for k, threshold in enumerate(settings.thresholds):
        some, events = cells.events(threshold)
        number, seen = count(events), cells.y >= threshold
        for j, weight in enumerate((cells.w, cells.w * seen)):
            table[k, :, j] = np.bincount(number, weights=weight[some], minlength=size)
            # No member has the event elsewhere.
            weight = weight.copy()
            weight[some] = 0.0
            table[k, 0, j] += weight.sum()
    return table


def probability_formula(terms: Array) -> dict[str, Array]:
    """Scores of the probability from summed `probability_terms` (…, K, M + 1, 2).

    brier, brier_fair (NaN for one member), roc_area (…, K); reliability_observed and reliability_weight (…, K, M + 1),
    the observed frequency and the share of cells at p = k/M; roc_hit_rate and roc_false_alarm_rate (…, K, M + 2), from
    (0, 0), no cell forecast, to (1, 1), all forecast.
    """
    weight, seen = terms[..., 0], terms[..., 1]
    members = weight.shape[-1] - 1
    p = np.arange(members + 1) / members
    whole = weight.sum(axis=-1)
    brier = ratio((weight * p**2 + (1 - 2 * p) * seen).sum(axis=-1), whole)
    within = ratio((weight * p * (1 - p)).sum(axis=-1), whole)
    rates = []
    for part in (seen, weight - seen):
        falling = np.cumsum(part[..., ::-1], axis=-1)
        rate = ratio(falling, falling[..., -1:])
        rates.append(np.concatenate([0 * rate[..., :1], rate], axis=-1))
    hit, alarm = rates
    return {
        "brier": brier,
        "brier_fair": brier - within / (members - 1) if members > 1 else np.full_like(brier, np.nan),
        "reliability_observed": ratio(seen, weight),
        "reliability_weight": ratio(weight, whole[..., None]),
        "roc_hit_rate": hit,
        "roc_false_alarm_rate": alarm,
        "roc_area": np.trapezoid(hit, alarm, axis=-1),
    }


def probability_scores(
    members: ArrayLike, truth: ArrayLike, thresholds: Sequence[float] = THRESHOLDS, weights: ArrayLike | None = None
) -> dict[str, Array]:
    """All of `probability_formula` for arrays at hand."""
    return probability_formula(cell_sums(probability_terms, members, truth, weights, Settings(tuple(thresholds))))


EVENTS = Statistic(
    "events",
    event_terms,
    lambda terms, members, settings: event_formula(terms),
    (
        Score(
            "csi",
            "CSI",
            "high",
            "Events",
            "Critical success index: hits / (hits + misses + false alarms) of cells at or above the threshold; each "
            "member, then averaged.",
            dims=("threshold",),
        ),
        Score(
            "pod",
            "POD",
            "high",
            "Events",
            "Probability of detection: hits / (hits + misses); each member, then averaged.",
            dims=("threshold",),
        ),
        Score(
            "far",
            "FAR",
            "low",
            "Events",
            "False alarm ratio: false alarms / (hits + false alarms); each member, then averaged.",
            dims=("threshold",),
        ),
    ),
)
PROBABILITY = Statistic(
    "probability",
    probability_terms,
    lambda terms, members, settings: probability_formula(terms),
    (
        Score(
            "brier",
            "Brier score",
            "low",
            "Events",
            "Mean square error of the share of members at or above the threshold as a probability.",
            dims=("threshold",),
            table=False,
        ),
        Score(
            "brier_fair",
            "Fair Brier score",
            "low",
            "Events",
            "Brier score less what the number of members adds to it.",
            dims=("threshold",),
            several=True,
        ),
        Score("reliability_observed", dims=("threshold", "count")),
        Score("reliability_weight", dims=("threshold", "count")),
        Score("roc_hit_rate", dims=("threshold", "point")),
        Score("roc_false_alarm_rate", dims=("threshold", "point")),
        Score(
            "roc_area",
            "ROC area",
            "high",
            "Events",
            "Area below hit rate against false alarm rate: 1 if events are told apart from non-events, ½ by chance.",
            dims=("threshold",),
        ),
    ),
    wanted=lambda settings: bool(settings.thresholds),
)
