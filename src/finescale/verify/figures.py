"""The report's figures: what each shows, in words too, and its files. Curves here; maps in `figures_maps`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from finescale.scores.settings import Settings
from finescale.verify.evaluate import wavenumbers
from finescale.verify.scorecard import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from finescale.verify.align import Aligned

NAMES = (
    *(
        "maps",
        "places",
        "exceedance",
        "animation",
        "conservation",
        "spectra",
        "quantiles",
        "ranks",
        "pit",
        "spread_error",
        "coverage",
    ),
    *("fss", "fss_high", "reliability", "reliability_high", "roc", "roc_high", "crps_by_time"),
)
"""All figures there may be."""
Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        name: of its files, ``figures/NAME.png`` and so on.
        section: of the page.
        files: ending -> bytes.
        alt: what it shows, for those who cannot see it.
        caption: how to read it.
        narrow: a PNG for narrow screens, where the wide one would be too small.
    """

    name: str
    section: str
    files: Mapping[str, bytes] = field(repr=False)
    alt: str
    caption: str
    narrow: bytes = field(default=b"", repr=False)


def curves(aligned: Aligned, settings: Settings, results: Results) -> Iterator[Picture]:
    """All figures of curves and histograms that the scores allow."""
    for name, section, ax, alt, caption in chain(
        _detail(aligned, settings, results),
        _members(aligned, settings, results),
        _events(aligned, settings, results),
        _time(aligned, settings, results),
    ):
        yield Picture(name, section, files(ax), alt, caption)


def files(ax: Axes) -> dict[str, bytes]:
    """The figure of ``ax`` as PNG and SVG."""
    from finescale.plots import maps

    figure: Any = ax.figure
    return {"png": maps.png(figure), "svg": maps.svg(figure)}


def lengths(aligned: Aligned, settings: Settings) -> tuple[str, float, float]:
    """Unit of length of the figures, how many of them a unit of `Settings.cell` is, and the width of a cell in them."""
    from finescale.plots.region import region_of

    _, unit = region_of(aligned.truth)
    share = 1e-3 if unit == "km" else 1.0
    return unit, share, float(np.sqrt(np.prod(settings.cell))) * share


def shown_in(aligned: Aligned, settings: Settings) -> tuple[float, str]:
    """What figures add to the field, and the units in which they show it (`finescale.plots.display`)."""
    from finescale.plots.display import celsius

    return celsius(str(aligned.truth.attrs.get("units", "")), settings.data_range[0])


def chosen_thresholds(settings: Settings, results: Results) -> list[int]:
    """Places of at most two thresholds to draw: a light one and the highest that the truth reaches."""
    reached = [k for k in range(len(settings.thresholds)) if 0 < _base_rate(results, k) < 1]
    return sorted({reached[(len(reached) - 1) // 2], reached[-1]}) if reached else []


def _base_rate(results: Results, k: int) -> float:
    """Share of cells where the truth has the event."""
    ours = results["ensemble"]
    seen, share = (np.asarray(ours[f"reliability_{key}"][k], dtype=np.float64) for key in ("observed", "weight"))
    return float(np.nansum(np.where(share > 0, seen * share, 0.0)))


def _of(results: Results, key: str, *at: int) -> dict[str, Any]:
    """Shown name -> score of each system; empty where it has none, so that colours stay the same."""
    found = {}
    for name, one in results.items():
        value = one.get(key)
        for k in at:
            value = None if not value else value[k]
        found[title(name)] = [] if value is None else value
    return found


def _several(results: Results, key: str, *at: int) -> dict[str, Any]:
    """The same of ensembles only: for one member a probability is yes or no."""
    alone = {title(name) for name, one in results.items() if one["members"] == 1}
    return {name: [] if name in alone else v for name, v in _of(results, key, *at).items()}


Drawn = tuple[str, str, "Axes", str, str]


def _detail(aligned: Aligned, settings: Settings, results: Results) -> Iterator[Drawn]:
    from finescale.plots import diagnostics
    from finescale.plots.region import tame

    warmth, shown = shown_in(aligned, settings)
    units = tame(shown)
    unit, share, _ = lengths(aligned, settings)
    k = np.asarray(wavenumbers(aligned.truth.shape, settings.cell)) / share
    names = ", ".join(title(name) for name in results)
    if k.size > 1:
        # Power is per area of wavenumbers: with lengths in km it is smaller by the square of 1000 m.
        power = {name: np.asarray(p, dtype=np.float64) * share**2 for name, p in _of(results, "spectrum").items()}
        truth = np.asarray(results["ensemble"]["spectrum_truth"], dtype=np.float64) * share**2
        yield (
            "spectra",
            "detail",
            diagnostics.spectra(k, power, truth, length=unit, units=units),
            f"Radial power spectra of {names} and the truth by wavelength.",
            "Power spectra: how much the field varies at each wavelength. On the truth's line the amount of detail is "
            "right; below it the field is too smooth, above it too noisy.",
        )
    truth = np.asarray(results["ensemble"]["quantiles_truth"], dtype=np.float64) + warmth
    ours = {name: np.asarray(q, dtype=np.float64) + warmth for name, q in _of(results, "quantiles").items()}
    yield (
        "quantiles",
        "spread",
        diagnostics.quantiles(truth, ours, units=units, rain=settings.rain),
        f"Quantiles of {names} against those of the truth.",
        "Quantiles, from 5 to 99.99 %: above the line values of that rank are too large, below it too small.",
    )


def _members(aligned: Aligned, settings: Settings, results: Results) -> Iterator[Drawn]:
    from finescale.plots import diagnostics, probability
    from finescale.plots.region import tame

    ours = results["ensemble"]
    if ours["members"] == 1:
        return
    units = tame(shown_in(aligned, settings)[1])
    yield (
        "ranks",
        "spread",
        diagnostics.rank_histogram(_several(results, "rank_histogram")),
        "Rank histogram of the truth among the members; flat is reliable.",
        "Rank histogram: where the truth falls among the members. Flat is right. A U means too little spread, a hump "
        "too much, a slope a bias.",
    )
    yield (
        "pit",
        "spread",
        diagnostics.pit_histogram(_several(results, "pit_histogram")),
        "Histogram of the probability integral transform; flat is reliable.",
        "PIT (probability integral transform): the same in 20 bins, so that ensembles of any size compare.",
    )
    binned = [_several(results, key) for key in ("spread_by_bin", "error_by_bin", "bin_weight")]
    yield (
        "spread_error",
        "spread",
        probability.spread_error(*binned, units=units),
        "Error of the ensemble mean by the ensemble's spread.",
        "Spread against error: cells sorted by how far members differ. On the line the error is as large as they say; "
        "above it they are too sure.",
    )
    key, where = ("coverage_wet", " of wet cells") if settings.rain else ("coverage", "")
    observed, expected = _several(results, key), _several(results, f"{key}_expected")
    yield (
        "coverage",
        "detail",
        probability.coverage(ours["coverage_levels"], observed, expected),
        f"Observed against expected coverage{where} by central intervals.",
        f"Coverage{where}: how often the truth lies inside the members' central intervals, and how often it should. "
        "Below the line the ensemble is too sure."
        + (" Wet: ensemble mean of 0.1 mm/h or more." if settings.rain else ""),
    )


def _events(aligned: Aligned, settings: Settings, results: Results) -> Iterator[Drawn]:
    from finescale.plots import diagnostics, probability

    warmth, units = shown_in(aligned, settings)
    length, _, cell = lengths(aligned, settings)
    several = results["ensemble"]["members"] > 1
    for n, k in enumerate(chosen_thresholds(settings, results)):
        event, end = f"≥ {settings.thresholds[k] + warmth:g} {units}".rstrip(), "_high" if n else ""
        widths = np.asarray(settings.scales) * cell
        yield (
            f"fss{end}",
            "events",
            diagnostics.fss(widths, _of(results, "fss", k), length=length, base_rate=_base_rate(results, k)),
            f"Fractions skill score of {event} by window width.",
            f"FSS (fractions skill score) of {event}: does the share of such cells agree in windows of a width? Above "
            "the level line a field is useful at that scale.",
        )
        if not several:
            continue
        seen, share = _several(results, "reliability_observed", k), _several(results, "reliability_weight", k)
        yield (
            f"reliability{end}",
            "events",
            probability.reliability(seen, share),
            f"Reliability of the probability of {event}: observed frequency by forecast probability.",
            f"Reliability of {event}: where a share of the members has it, how often is it seen? Flatter than the line "
            "is too sure.",
        )
        yield (
            f"roc{end}",
            "events",
            probability.roc(_several(results, "roc_hit_rate", k), _several(results, "roc_false_alarm_rate", k)),
            f"Hit rate against false alarm rate for {event}.",
            f"ROC (relative operating characteristic) of {event}: the nearer to the upper left corner, the better such "
            "cells are told from others.",
        )


def _time(aligned: Aligned, settings: Settings, results: Results) -> Iterator[Drawn]:
    from finescale.plots import diagnostics
    from finescale.plots.region import tame

    if results["ensemble"]["times"] < 2:
        return
    times = aligned.truth[aligned.time].values if aligned.time in aligned.truth.coords else None
    units = tame(shown_in(aligned, settings)[1])
    yield (
        "crps_by_time",
        "time",
        diagnostics.by_time(_of(results, "crps_by_time"), times, units=units),
        "CRPS of each system over time.",
        "CRPS, the error of all members together, at each time; lower is better.",
    )
