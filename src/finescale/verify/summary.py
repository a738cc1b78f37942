"""What scores.json and scores.csv hold: scores, their intervals, comparisons, definitions and notes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from finescale.data.units import is_rain
from finescale.scores import across, image
from finescale.scores.bootstrap import LEAST_TIMES, Added, block_length, compare, intervals
from finescale.scores.conservation import Residuals
from finescale.scores.record import Score
from finescale.scores.settings import Settings
from finescale.scores.table import axes, best, scores
from finescale.verify.align import Aligned
from finescale.verify.evaluate import wavenumbers
from finescale.verify.figures import shown_in
from finescale.verify.scorecard import enumerated, title

DRAWS, LEVEL = 1000, 0.95
KEPT = 1e-3
"""Largest |block mean − coarse value| over the coarse field's standard deviation from which totals count as not kept:
single precision stays far below in any units, kelvins and pascals too."""
_ALONE = [
    "The ensemble has one member: spread–skill, rank and PIT histograms, coverage, fair Brier score and energy score "
    "are left out, and its CRPS is the absolute error."
]
_PARTS = ("difference", "low", "high", "significant")
_LEADING = (
    *("crps", "mae", "rmse", "bias", "energy_score", "spread_skill", "rank_departure", "csi", "fss", "psnr", "ssim"),
    *("psnr_members", "ssim_members", "earth_mover", "quantile_distance"),
    *("p999_bias", "wet_fraction", "log_spectral_distance", "log_spectral_distance_log_rain"),
    *("autocorrelation", "border_ratio", "conservation_residual", "correlation", "threshold_weighted_crps"),
)
"""Scores that definitions and comparisons of scores.json list before the others."""
_COLUMNS = "system score units threshold scale_cells coverage_level value low high significant"
_AXES = {"threshold": "thresholds", "scale": "fss_scales_cells", "coverage_level": "coverage_levels"}


def summarise(
    aligned: Aligned, settings: Settings, results: Mapping[str, Mapping[str, Any]], sure: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything of scores.json but the file names; ``sure`` comes from `uncertainty`."""
    units = str(aligned.truth.attrs.get("units", ""))
    ours = results["ensemble"]
    alone = ours["members"] == 1
    several = [key for key, score in scores().items() if score.several]
    out = several if alone else []
    notes = list(aligned.notes)
    notes += _ALONE if alone else _fewer(results)
    systems: dict[str, Any] = {}
    for name, one in results.items():
        without = {f"{axis}s" for axis in axes(settings)}
        without |= set(several if alone or one["members"] == 1 else ())
        systems[name] = {key: value for key, value in one.items() if key not in without}
    add, shown = shown_in(aligned, settings)
    return {
        "finescale": released(),
        "trained_on": {name: asdict(one) | {"says": one.says(name)} for name, one in aligned.seen.items()},
        "variable": str(aligned.systems["ensemble"].name or aligned.truth.name or "field"),
        "units": units,
        "shown": {"units": shown, "add": add},
        "members": ours["members"],
        "times": ours["times"],
        "grid": [int(n) for n in aligned.truth.shape[1:]],
        "cells": ours["cells"],
        "factor": None if aligned.factor is None else str(aligned.factor),
        "seed": settings.seed,
        "dry_threshold": settings.dry,
        "data_range": {"value": image.data_range(settings), "says": image.range_text(settings, units)},
        "thresholds": list(settings.thresholds),
        "fss_scales_cells": list(settings.scales),
        "coverage_levels": ours["coverage_levels"],
        "quantile_levels": ours["quantile_levels"],
        "wavenumber": wavenumbers(aligned.truth.shape, settings.cell),
        "systems": systems,
        **sure,
        "left_out": out,
        "notes": notes,
        "definitions": definitions({k: s for k, s in _listed().items() if k in ours and k not in out}, units),
    }


def _listed() -> dict[str, Score]:
    """Scores with a title."""
    known = {key: score for key, score in scores().items() if score.title}
    return {key: known[key] for key in (*_LEADING, *known)}


def definitions(listed: Mapping[str, Score], units: str) -> dict[str, dict[str, Any]]:
    """Name, best value, units and meaning of scores."""
    return {
        key: {"name": score.title, "best": score.best, "units": score.units_in(units), "meaning": score.meaning}
        for key, score in listed.items()
    }


def _fewer(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A note where random baselines have fewer members than the ensemble, on what may be compared."""
    most = results["ensemble"]["members"]
    found = {name: results[name]["members"] for name in ("noise", "rainfarm", "climatology") if name in results}
    fewer = {name: count for name, count in found.items() if count < most}
    if not fewer:
        return []
    names = enumerated([f"{title(name)} {count}" for name, count in fewer.items()])
    larger = math.sqrt((1 + 1 / min(fewer.values())) / (1 + 1 / most)) - 1
    return [
        f"The ensemble has {most} members, {names}: CRPS, energy score, fair Brier score and spread–skill do not "
        f"depend on the number, but the RMSE of the mean of fewer members is larger, by {100 * larger:.1g} % here."
    ]


def kept(residuals: Residuals) -> bool:
    """Whether the ensemble's block means equal the coarse field."""
    return not residuals.largest() > KEPT * residuals.apart()[3]


def totals(aligned: Aligned, residuals: Residuals, units: str | None = None) -> dict[str, Any]:
    """``totals`` where the ensemble does not keep the coarse field that was given; else empty.

    Its block means less the coarse values: ``bias``, the mean, and ``mean_difference``, of absolute values, beside
    ``coarse_mean``, all weighted by area, and a sentence (``says``, in ``units``, by default the field's). It is no
    error: a model made without a constraint does so on purpose.
    """
    if aligned.coarse is None or kept(residuals):
        return {}
    bias, apart, mean, _ = residuals.apart()
    units = str(aligned.truth.attrs.get("units", "")) if units is None else units
    share = f", {100 * abs(bias / mean):.2g} % of its mean," if mean > 0 and is_rain(aligned.truth) else ""
    where = "above" if bias > 0 else "below"
    says = (
        f"Totals differ: the ensemble's block means lie {abs(bias):.3g} {units}".rstrip()
        + f" {where} the coarse field on average{share} and {apart:.3g} {units}".rstrip()
        + " from it in the mean of absolute differences."
    )
    return {"totals": {"bias": bias, "mean_difference": apart, "coarse_mean": mean, "says": says}}


def uncertainty(
    sums: Mapping[str, Added], block: int | None = None, seed: int = 0, targets: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Intervals of each system's scores, and of the ensemble's less each other's, by the bootstrap over times.

    Args:
        sums: system -> its sums.
        block: times in a block.
        seed: of the draws.
        targets: score -> what is best, of the scores wanted; by default those of the table with a title.

    Returns:
        ``bootstrap``: {block, draws, level}; ``intervals``: system -> score -> [low, high]; ``comparisons``: other
        system -> score -> {difference, low, high, significant} of the loss, below 0 where the ensemble is better. All
        empty below five times.

    Raises:
        InputError: if a block is longer than the series.
    """
    ensemble = sums["ensemble"]
    if ensemble.times < LEAST_TIMES:
        return {"bootstrap": {}, "intervals": {}, "comparisons": {}}
    listed = _listed() if targets is None else targets
    known = best() if targets is None else targets
    wanted = {key: known[key] for key in listed if key in known}
    ranges: dict[str, Any] = {}
    for name, one in sums.items():
        found = intervals(one, block, DRAWS, seed, LEVEL)
        ranges[name] = {key: [edge.tolist() for edge in found[key]] for key in found if key in listed}
    compared = {}
    for name, one in sums.items():
        if name != "ensemble":
            pairs = compare(ensemble, one, wanted, block, DRAWS, seed, LEVEL)
            compared[name] = {
                key: {part: np.asarray(getattr(c, part)).tolist() for part in _PARTS} for key, c in pairs.items()
            }
    how = {"block": block or block_length(ensemble.times), "draws": DRAWS, "level": LEVEL}
    return {"bootstrap": how, "intervals": ranges, "comparisons": compared}


def as_csv(summary: Mapping[str, Any]) -> str:
    """One line a number: system, score, units, threshold, scale, coverage level, value, low, high, significant.

    Scores along other dimensions (spectra, histograms, times) are in scores.json only. ``low`` and ``high`` are the
    value's interval; ``significant`` says whether the ensemble differs from that system. Empty is undefined.
    """
    return _text_of([_COLUMNS.split(), *_lines(summary)])


def as_csv_of_several(variables: Mapping[str, Mapping[str, Any]], joint: Mapping[str, Any]) -> str:
    """The same of several variables, with a first column variable; scores of variables together have "a & b" there."""
    rows = [[name, *line] for name, one in variables.items() for line in _lines(one)]
    whole = " & ".join(joint.get("variables", ()))
    for name, found in joint.get("systems", {}).items():
        for key, one in across.scores().items():
            places = list(np.ndindex(len(joint["pairs"]))) if one.dims else [()]
            for at in places:
                numbers = _numbers(joint, name, key, found[key], at)
                what = " & ".join(joint["pairs"][at[0]]) if at else whole
                rows.append([what, name, key, one.units, "", "", "", *numbers])
    return _text_of([["variable", *_COLUMNS.split()], *rows])


def _lines(summary: Mapping[str, Any]) -> Iterator[list[Any]]:
    """The lines of one variable."""
    records = scores()
    for name, found in summary["systems"].items():
        for key, value in found.items():
            dims = records[key].dims if key in records else ()
            if not set(dims) <= _AXES.keys() or key == "members":
                continue
            units = summary["definitions"].get(key, {}).get("units", "")
            for at in np.ndindex(*(len(summary[_AXES[d]]) for d in dims)):
                place = {d: summary[_AXES[d]][k] for d, k in zip(dims, at, strict=True)}
                where = [place.get(d, "") for d in _AXES]
                yield [name, key, units, *where, *_numbers(summary, name, key, value, at)]


def _numbers(summary: Mapping[str, Any], name: str, key: str, value: Any, at: tuple[int, ...]) -> list[str]:
    """Value, low, high, significant."""
    edges = summary["intervals"].get(name, {}).get(key, (None, None))
    sure = summary["comparisons"].get(name, {}).get(key, {}).get("significant")
    return [_text(_pick(v, at)) for v in (value, *edges, sure)]


def _text_of(rows: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _pick(value: Any, at: tuple[int, ...]) -> Any:
    for k in at:
        value = None if value is None else value[k]
    return value


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else repr(value)


def released() -> str:
    try:
        return version("finescale")
    except PackageNotFoundError:
        return "unknown"
