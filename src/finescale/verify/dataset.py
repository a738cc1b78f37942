"""Scores of several systems as one Dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.scores import bootstrap
from finescale.scores.settings import Settings
from finescale.scores.sums import Sums
from finescale.verify.align import Case, align
from finescale.verify.evaluate import evaluate, settings_for, wavenumbers

_PROBABILITY = ("threshold", "count")
DIMENSIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("csi", "pod", "far", "threshold_weighted_crps", "brier", "brier_fair", "roc_area"), ("threshold",)
    ),
    **dict.fromkeys(("reliability_observed", "reliability_weight"), _PROBABILITY),
    **dict.fromkeys(("roc_hit_rate", "roc_false_alarm_rate"), ("threshold", "point")),
    **dict.fromkeys(("quantiles", "quantiles_truth"), ("quantile_level",)),
    **dict.fromkeys(("spectrum", "spectrum_truth"), ("wavenumber",)),
    **dict.fromkeys(("coverage", "coverage_expected"), ("coverage_level",)),
    **dict.fromkeys(("spread_by_bin", "error_by_bin", "bin_weight"), ("spread_bin",)),
    "fss": ("threshold", "scale"),
    "rank_histogram": ("rank",),
    "pit_histogram": ("pit_bin",),
    "crps_by_time": ("time",),
    "residual_by_interval": ("interval",),
}
"""Score -> its dimensions beside ``system``; none where it is a number. ``count``, ``point`` and ``rank`` differ in
length between ensembles of different sizes and are padded with NaN."""

IN_FIELD_UNITS = frozenset(
    (
        *("crps", "crps_by_time", "threshold_weighted_crps", "mae", "rmse", "bias", "energy_score", "variogram_score"),
        *("spread_by_bin", "error_by_bin"),
        *("quantiles", "p99", "p999", "p9999", "maximum", "residual_by_interval"),
        *("quantiles_truth", "p99_truth", "p999_truth", "p9999_truth", "maximum_truth"),
    )
)
NOT_SCORES = ("thresholds", "scales", "coverage_levels", "quantile_levels", "times", "cells")


def score(
    ensemble: xr.Dataset | xr.DataArray,
    truth: xr.Dataset | xr.DataArray,
    coarse: xr.Dataset | xr.DataArray | None = None,
    *,
    thresholds: Sequence[float] | None = None,
    baselines: Sequence[str] = (),
    against: Mapping[str, xr.Dataset | xr.DataArray] | None = None,
    factor: Factor | str | None = None,
    seed: int = 0,
    block: int | None = None,
) -> xr.Dataset:
    """Score an ensemble, and other systems beside it, against the truth.

    Args:
        ensemble: ([realization,] time, y, x); a Dataset must have one gridded variable.
        truth: (time, y, x) on the same cells, for some or all of the times.
        coarse: the coarse input, for the conservation residual and the baselines.
        thresholds: events ≥ threshold; by default 0.1, 1, 5, 10 mm/h for rain and none otherwise.
        baselines: names among nearest, bilinear, bicubic, rainfarm, climatology.
        against: name -> another ensemble.
        factor: from coarse to fine; by default from the sizes of ``coarse`` or the attribute ``finescale_factor``.
        seed: of random ties, random baselines and the bootstrap.
        block: times in a block of the bootstrap; by default T^⅓.

    Returns:
        One variable a score (units in its attributes) along ``system``: "ensemble", those of ``against``, the
        baselines. Scores by threshold, scale, wavenumber and so on have that dimension too (`DIMENSIONS`). From five
        times on, ``<score>_interval`` has the 95 % interval of each score that is a number, along ``bound``.
        ``residual_map``, where there is a coarse field: largest |block mean − coarse value| by coarse cell.

    Raises:
        InputError: if grids or times do not match, nothing is valid, or a baseline lacks what it needs.
    """
    case = align(ensemble, truth, coarse, against=against, factor=factor)
    settings = settings_for(case, thresholds, seed)
    if set(baselines) - {"climatology"} and case.factor is None:
        raise InputError("baselines need the coarse field, or the factor: give coarse or factor")
    return to_dataset(evaluate(case, settings, baselines), case, settings, block)


def to_dataset(sums: Mapping[str, Sums], case: Case, settings: Settings, block: int | None = None) -> xr.Dataset:
    """Scores of all systems of a case along ``system``."""
    results = {name: one.scores() for name, one in sums.items()}
    units = str(case.truth.attrs.get("units", "1"))
    names = dict.fromkeys(k for r in results.values() for k in r if k not in NOT_SCORES)
    data: dict[str, Any] = {}
    for name in names:
        dims = DIMENSIONS.get(name, ())
        rows = [np.asarray(r.get(name, np.full((0,) * len(dims), np.nan)), dtype=np.float64) for r in results.values()]
        unit = {"psnr": "dB"}.get(name, units if name in IN_FIELD_UNITS else "1")
        if name == "fss":
            rows = [row.reshape(len(settings.thresholds), len(settings.scales)) for row in rows]
        data[name] = (("system", *dims), _stack(rows, len(dims)), {"units": unit})
    ranges = [bootstrap.intervals(one, block, seed=settings.seed) for one in sums.values()]
    for name in dict.fromkeys(k for r in ranges for k in r if k in data and k not in DIMENSIONS):
        edges = [np.stack(r[name]) if name in r else np.full(2, np.nan) for r in ranges]
        data[f"{name}_interval"] = (("system", "bound"), np.stack(edges), data[name][2])
    if all(one.residuals.cells is not None for one in sums.values()):
        maps = np.stack([np.asarray(one.residuals.cells) for one in sums.values()])
        data["residual_map"] = (("system", "coarse_y", "coarse_x"), maps, {"units": units})
    first = results["ensemble"]
    coords: dict[str, Any] = {
        "system": list(results),
        "threshold": list(settings.thresholds),
        "scale": list(settings.scales),
        "coverage_level": first["coverage_levels"],
        "quantile_level": first["quantile_levels"],
        "wavenumber": wavenumbers(case.truth.shape, settings.cell),
        "bound": ["low", "high"],
    }
    if case.time in case.truth.coords:
        coords["time"] = case.truth[case.time].values
    return xr.Dataset(data, coords, {"cells": first["cells"], "notes": "; ".join(case.notes)})


def _stack(rows: list[np.ndarray[Any, Any]], ndim: int) -> np.ndarray[Any, Any]:
    """Rows of one shape, the shorter ones padded with NaN."""
    rows = [row if row.ndim == ndim else np.full((0,) * ndim, np.nan) for row in rows]
    shape = [max(sizes) for sizes in zip(*(row.shape for row in rows), strict=True)]
    pads = [[(0, n - k) for n, k in zip(shape, row.shape, strict=True)] for row in rows]
    return np.stack(
        [np.pad(row, pad, constant_values=np.nan) if ndim else row for row, pad in zip(rows, pads, strict=True)]
    )
