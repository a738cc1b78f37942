"""What a model remembers of its training data: scales, ranges, and the cells that were always missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.scales import ends, frames, interval, spacing
from finescale.grids.coordinates import read_grid
from finescale.model.remembers import Plane, Remembers, Seen
from finescale.training import statistics
from finescale.training.crops import Crops
from finescale.training.data import TrainingData

LEAST, CELLS = 64, 2**28
"""Frames of a field that are looked at, evenly spread, at least, and the cells that they have in all."""
CROPS = 48
"""Crops whose coarse values are looked at."""


def remembered(data: TrainingData, crops: Crops, seed: int) -> tuple[Remembers, list[NDArray[np.bool_]]]:
    """What there is to remember, and of its masks where cells are valid (C, H, W).

    The range is that of the fine values in frames evenly spread, and of the coarse ones in some crops. A cell that is
    missing in all of those frames counts as always missing.
    """
    names = list(data.variables)
    batches = statistics.sample(crops, CROPS, seed)
    coarse = [batch.coarse.numpy() for batch in batches]
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for values in coarse:
        low, high = _wider(low, high, list(values.swapaxes(0, 1)))
    planes, masks = [], []
    for variables in data.fields:
        valid, low, high = _seen(variables, low, high)
        if not valid.all():
            planes.append(Plane.of(read_grid(variables[0])))
            masks.append(valid)
    # Amounts that training multiplied are seen too.
    high = np.where(low >= 0, high * math.exp(2 * data.section.rescale), high)
    wet = np.max([(values > 0).mean(axis=(2, 3, 4)).max(axis=0) for values in coarse], axis=0)
    seen = {
        name: Seen(float(low[n]), float(high[n]), float(wet[n]) if low[n] == 0 else None)
        for n, name in enumerate(names)
        if np.isfinite([low[n], high[n]]).all()
    }
    steps = [spacing(variables[0]) for variables in data.fields]
    units = {step[1] for step in steps if step is not None}
    lengths = [interval(variables[0]) for variables in data.fields]
    found = Remembers(
        _ends([step and step[0] for step in steps]) if len(units) == 1 else None,
        units.pop() if len(units) == 1 else "",
        _ends(lengths),
        seen,
        planes,
    )
    return found, masks


def _seen(
    variables: Sequence[xr.DataArray], low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Where a field is ever known (C, H, W), and wider ranges."""
    plane = variables[0].shape[-2:]
    valid = np.zeros((len(variables), *plane), dtype=bool)
    for n, variable in enumerate(variables):
        for part in frames(variable, max(LEAST, CELLS // math.prod(plane))):
            valid[n] |= np.isfinite(part).any(axis=0)
            first, last = ends(part)
            low[n], high[n] = min(low[n], first), max(high[n], last)
    return valid, low, high


def _wider(
    low: NDArray[np.float64], high: NDArray[np.float64], parts: Sequence[NDArray[np.float32]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    firsts, lasts = zip(*(ends(part) for part in parts), strict=True)
    return np.minimum(low, firsts), np.maximum(high, lasts)


def _ends(values: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known and len(known) == len(values) else None
