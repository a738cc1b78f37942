"""The table of all scores.

A new score is one `Statistic` here, best next to its formula in a file of its own: what is added up, the formula on the
sum, and a `Score` for each result. Nothing else names it.
"""

from __future__ import annotations

from itertools import chain

from finescale.scores import (
    conservation,
    crps,
    deterministic,
    direction,
    distribution,
    events,
    fss,
    image,
    moving,
    multivariate,
    ranks,
    sal,
    spectra,
    spread_error,
    temporal,
    texture,
    wet_days,
)
from finescale.scores.record import Score, Statistic
from finescale.scores.settings import Settings

STATISTICS: tuple[Statistic, ...] = (
    crps.CRPS,
    deterministic.MEAN,
    multivariate.ENERGY,
    multivariate.VARIOGRAM,
    ranks.RANK,
    ranks.COVERAGE,
    ranks.WET_COVERAGE,
    spread_error.SPREAD_ERROR,
    events.EVENTS,
    crps.THRESHOLD_WEIGHTED,
    events.PROBABILITY,
    fss.FSS,
    image.IMAGE,
    sal.SAL,
    distribution.VALUES,
    distribution.LARGEST,
    distribution.WET_FRACTION,
    spectra.SPECTRUM,
    spectra.LOG_SPECTRUM,
    texture.STRUCTURE,
    texture.OFFSETS,
    texture.BLOCKS,
    texture.SPECKS,
    direction.DIRECTION,
    temporal.STEPS,
    moving.MOVING,
    wet_days.WET_DAYS,
)
"""In the order of results. Conservation is beside them: it needs the coarse field, and keeps a map instead of a sum."""


def scores() -> dict[str, Score]:
    """The record of each score and of what stands beside it, by key."""
    listed = chain(*(one.scores for one in STATISTICS), conservation.SCORES)
    return {record.key: record for score in listed for record in score.records()}


def best() -> dict[str, str | float]:
    """What is best, of all scores that can be compared."""
    return {key: one.best for key, one in scores().items() if one.best is not None and one.best != "expected"}


def axes(settings: Settings) -> dict[str, list[float]]:
    """Values along those dimensions of scores that are the same for all systems."""
    return {
        "threshold": list(settings.thresholds),
        "scale": list(settings.scales),
        "coverage_level": list(ranks.LEVELS),
        "quantile_level": [float(q) for q in distribution.LEVELS],
        "offset": [
            float(o) for o in range(1 if settings.factor is None else max(settings.factor.y, settings.factor.x))
        ],
    }
