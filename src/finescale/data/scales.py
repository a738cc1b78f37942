"""How large the cells of a field are, how long its frames last, and what values are in it: what a model is made for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.blocks import NO_DATES, cells
from finescale.grids.coordinates import read_grid

KILOMETRES = {"m": 1e-3, "metre": 1e-3, "metres": 1e-3, "meter": 1e-3, "meters": 1e-3, "km": 1.0, "kilometre": 1.0}
DEGREE = np.pi / 180 * 6371.0
"""Kilometres of a degree of latitude."""


def spacing(field: xr.DataArray) -> tuple[float, str] | None:
    """The spacing of rows, in km where the coordinates say so and else in their units; None where these are unknown."""
    y = field.dims[-2]
    if y not in field.coords or field.sizes[y] < 2:
        return None
    grid, units = read_grid(field), str(field[y].attrs.get("units", "")).strip()
    step = float(np.abs(np.diff(grid.y)).mean())
    if grid.geographic or units.lower().startswith("degree"):
        return step * DEGREE, "km"
    if units.lower() in KILOMETRES:
        return step * KILOMETRES[units.lower()], "km"
    return (step, units) if units else None


def interval(field: xr.DataArray) -> float | None:
    """The usual length of a frame in seconds; None without dates, or of a single time without bounds."""
    time = field.dims[-3]
    if time not in field.coords or (field.sizes[time] < 2 and f"{time}__lower" not in field.coords):
        return None
    blocks = cells(field)
    return None if blocks.calendar == NO_DATES else float(np.median(blocks.high - blocks.low))


def frames(field: xr.DataArray, most: int, at_once: int = 2**24) -> Iterator[NDArray[np.float32]]:
    """At most so many frames (t, y, x) of a field (time, y, x), evenly spread, about ``at_once`` cells at a time."""
    count = field.shape[0]
    chosen = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    each = max(1, at_once // (field.shape[1] * field.shape[2]))
    for start in range(0, len(chosen), each):
        yield np.asarray(field[chosen[start : start + each]].values, dtype=np.float32)


def ends(values: NDArray[np.float32]) -> tuple[float, float]:
    """Least and largest known value; infinite, the wrong way round, without any."""
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (float("inf"), float("-inf"))
