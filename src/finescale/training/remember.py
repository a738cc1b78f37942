"""What a model remembers of its training data: scales, ranges, and the cells that were always missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data import scales
from finescale.data.scales import frames, interval, spacing
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

    The range is that of all fine values, and of the coarse ones in some crops. A cell that is missing in frames evenly
    spread, all of them where they are few, counts as always missing.
    """
    names = list(data.variables)
    coarse = [batch.coarse.numpy() for batch in statistics.sample(crops, CROPS, seed)]
    low = np.fmin.reduce([found.low for found in crops.surveys])
    high = np.fmax.reduce([found.high for found in crops.surveys])
    for values in coarse:
        firsts, lasts = zip(*map(scales.ends, values.swapaxes(0, 1)), strict=True)
        low, high = np.fmin(low, firsts), np.fmax(high, lasts)
    planes, masks = [], []
    for variables, found in zip(data.fields, crops.surveys, strict=True):
        valid = _valid(variables) if found.missing else None
        if valid is not None and not valid.all():
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
    ends = _ends([step and step[0] for step in steps]) if len(units) == 1 else None
    # So are cells of double size.
    ends = (ends[0], 2 * ends[1]) if ends and data.section.smoothing else ends
    remembers = Remembers(
        ends,
        units.pop() if len(units) == 1 else "",
        _ends(lengths),
        seen,
        planes,
        crops.furthest,  # likewise frames further apart
    )
    return remembers, masks


def _valid(variables: Sequence[xr.DataArray]) -> NDArray[np.bool_]:
    """Where a field is ever known (C, H, W)."""
    plane = variables[0].shape[-2:]
    parts = (frames(variable, max(LEAST, CELLS // math.prod(plane))) for variable in variables)
    return np.stack([np.any([np.isfinite(part).any(axis=0) for part in some], axis=0) for some in parts])


def _ends(values: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known and len(known) == len(values) else None
