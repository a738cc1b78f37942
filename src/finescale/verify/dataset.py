"""Scores of several systems as one Dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.scores import bootstrap, table
from finescale.scores.settings import Settings
from finescale.scores.sums import Sums
from finescale.verify.align import Aligned, align
from finescale.verify.evaluate import evaluate, settings_for, wavenumbers
from finescale.verify.summary import totals


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
        baselines: names among nearest, bilinear, bicubic, noise, rainfarm, climatology.
        against: name -> another ensemble.
        factor: from coarse to fine; by default from the sizes of ``coarse`` or the attribute ``finescale_factor``.
        seed: of random ties, random baselines and the bootstrap.
        block: times in a block of the bootstrap; by default T^⅓.

    Returns:
        One variable a score (units in its attributes) along ``system``: "ensemble", those of ``against``, the
        baselines. Scores by threshold, scale, wavenumber and so on have that dimension too
        (`finescale.scores.record.Score.dims`). From five
        times on, ``<score>_interval`` has the 95 % interval of each score that is a number, along ``bound``.
        ``residual_map``, where there is a coarse field: largest ``|block mean − coarse value|`` by coarse cell.

    Raises:
        InputError: if grids or times do not match, nothing is valid, or a baseline lacks what it needs.

    Example:
        >>> import finescale
        >>> from finescale.data.synthetic import synthetic_rain
        >>> rain = synthetic_rain((2, 64, 64), seed=3)
        >>> coarse = finescale.coarsen(rain, "1x8")
        >>> ensemble = finescale.downscale("rain", coarse, members=3, factor="1x8")
        >>> table = finescale.verify.score(ensemble, rain, coarse, baselines=("nearest",))
        >>> table["crps"].system.values.tolist()
        ['ensemble', 'nearest']
    """
    aligned = align(ensemble, truth, coarse, against=against, factor=factor)
    settings = settings_for(aligned, thresholds, seed)
    if set(baselines) - {"climatology"} and aligned.factor is None:
        raise InputError("baselines need the coarse field, or the factor: give coarse or factor")
    return to_dataset(evaluate(aligned, settings, baselines), aligned, settings, block)


def to_dataset(sums: Mapping[str, Sums], aligned: Aligned, settings: Settings, block: int | None = None) -> xr.Dataset:
    """Scores of all systems along ``system``."""
    results = {name: one.scores() for name, one in sums.items()}
    units = str(aligned.truth.attrs.get("units", "1"))
    records, axes = table.scores(), table.axes(settings)
    data: dict[str, Any] = {}
    for name in dict.fromkeys(k for r in results.values() for k in r if k in records):
        dims = records[name].dims
        rows = [np.asarray(r.get(name, np.full((0,) * len(dims), np.nan)), dtype=np.float64) for r in results.values()]
        if set(dims) <= axes.keys():  # lists without a threshold have lost their other dimensions
            rows = [
                row.reshape([len(axes[d]) for d in dims]) if name in r else row
                for row, r in zip(rows, results.values(), strict=True)
            ]
        data[name] = (("system", *dims), _stack(rows, len(dims)), {"units": records[name].units_in(units)})
    data["members"] = ("system", [float(r["members"]) for r in results.values()], {"units": "1"})
    ranges = [bootstrap.intervals(one, block, seed=settings.seed) for one in sums.values()]
    for name in dict.fromkeys(k for r in ranges for k in r if k in data and not records[k].dims):
        edges = [np.stack(r[name]) if name in r else np.full(2, np.nan) for r in ranges]
        data[f"{name}_interval"] = (("system", "bound"), np.stack(edges), data[name][2])
    if all(one.residuals.cells is not None for one in sums.values()):
        maps = np.stack([np.asarray(one.residuals.cells) for one in sums.values()])
        data["residual_map"] = (("system", "coarse_y", "coarse_x"), maps, {"units": units})
    coords: dict[str, Any] = {
        "system": list(results),
        **axes,
        "wavenumber": wavenumbers(aligned.truth.shape, settings.cell),
        "bound": ["low", "high"],
    }
    if aligned.time in aligned.truth.coords:
        coords["time"] = aligned.truth[aligned.time].values
    notes = [one.says(name) for name, one in aligned.seen.items()] + aligned.notes
    notes += [told["says"] for told in totals(aligned, sums["ensemble"].residuals).values()]
    return xr.Dataset(data, coords, {"cells": results["ensemble"]["cells"], "notes": "; ".join(notes)})


def _stack(rows: list[np.ndarray[Any, Any]], ndim: int) -> np.ndarray[Any, Any]:
    """Rows of one shape, the shorter ones padded with NaN."""
    rows = [row if row.ndim == ndim else np.full((0,) * ndim, np.nan) for row in rows]
    shape = [max(sizes) for sizes in zip(*(row.shape for row in rows), strict=True)]
    pads = [[(0, n - k) for n, k in zip(shape, row.shape, strict=True)] for row in rows]
    return np.stack(
        [np.pad(row, pad, constant_values=np.nan) if ndim else row for row, pad in zip(rows, pads, strict=True)]
    )
