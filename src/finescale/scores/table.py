"""The table of all scores: which statistic is added up, and which scores follow from it.

A new score is one entry here: a function of a block of cells or of a frame whose result adds over both and over times
(``terms``), and the scores that its sum gives (``formula``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from finescale.scores import (
    crps,
    deterministic,
    distribution,
    events,
    fss,
    image,
    multivariate,
    ranks,
    sal,
    spectra,
    spread_error,
)
from finescale.scores.cells import Array
from finescale.scores.settings import Settings

Found = dict[str, Array]


@dataclass(frozen=True)
class Statistic:
    """Something added up over cells and times.

    Attributes:
        name: key of its sum.
        terms: (Cells or Frame, Settings) -> array to be added.
        formula: (sum (…, shape of terms), members) -> scores (…).
        cells: whether it is taken from blocks of cells, or of the whole frame.
        wanted: whether a study with these settings has it.
        several: whether it is left out for one member.
        by_time: whether it is kept for each time too, which a bootstrap needs; too large for that otherwise.
        largest: merged by taking the greater instead of adding; not for a bootstrap either.
    """

    name: str
    terms: Callable[[Any, Settings], Array]
    formula: Callable[[Array, int], Found]
    cells: bool = True
    wanted: Callable[[Settings], bool] = lambda settings: True
    several: bool = False
    by_time: bool = True
    largest: bool = False


def _named(name: str, formula: Callable[[Array], Array]) -> Callable[[Array, int], Found]:
    return lambda terms, members: {name: formula(terms)}


def _plain(formula: Callable[[Array], Found]) -> Callable[[Array, int], Found]:
    return lambda terms, members: formula(terms)


def _coverage(terms: Array, members: int) -> Found:
    expected = np.broadcast_to(ranks.coverage_expected(members), (*terms.shape[:-1], len(ranks.LEVELS)))
    return {"coverage": ranks.coverage_formula(terms), "coverage_expected": expected}


def _rain(settings: Settings) -> bool:
    return settings.rain


def _events(settings: Settings) -> bool:
    return bool(settings.thresholds)


def _log_spectrum(terms: Array, members: int) -> Found:
    return {"log_spectral_distance_log_rain": spectra.spectrum_formula(terms)["log_spectral_distance"]}


STATISTICS = (
    Statistic("crps", crps.crps_terms, _named("crps", crps.crps_formula)),
    Statistic("mean", deterministic.mean_terms, deterministic.mean_formula),
    Statistic("energy", multivariate.energy_terms, _named("energy_score", multivariate.energy_formula), cells=False),
    Statistic(
        "variogram",
        multivariate.variogram_terms,
        _named("variogram_score", multivariate.variogram_formula),
        cells=False,
        wanted=lambda settings: settings.full,
    ),
    Statistic("rank", ranks.rank_terms, _plain(ranks.rank_formula), several=True),
    Statistic("coverage", ranks.coverage_terms, _coverage, several=True),
    Statistic("spread", spread_error.spread_terms, spread_error.spread_formula, several=True),
    Statistic("events", events.event_terms, _plain(events.event_formula)),
    Statistic(
        "weighted_crps",
        crps.weighted_crps_terms,
        _named("threshold_weighted_crps", crps.crps_formula),
        wanted=_events,
    ),
    Statistic("probability", events.probability_terms, _plain(events.probability_formula), wanted=_events),
    Statistic("fss", fss.fss_terms, _named("fss", fss.fss_formula), cells=False),
    Statistic("image", image.image_terms, _plain(image.image_formula), cells=False, wanted=_rain),
    Statistic(
        "sal",
        sal.sal_terms,
        _plain(sal.sal_formula),
        cells=False,
        wanted=lambda settings: settings.full and settings.rain,
    ),
    Statistic("values", distribution.value_terms, _plain(distribution.value_formula), cells=False, by_time=False),
    Statistic("largest", distribution.largest_terms, _plain(distribution.largest_formula), cells=False, largest=True),
    Statistic("wet", distribution.wet_terms, _plain(distribution.wet_formula), wanted=_rain),
    Statistic("spectrum", spectra.spectrum_terms, _plain(spectra.spectrum_formula), cells=False),
    Statistic(
        "log_spectrum",
        lambda frame, settings: spectra.spectrum_terms(frame, settings, rain=True),
        _log_spectrum,
        cells=False,
        wanted=_rain,
    ),
)
