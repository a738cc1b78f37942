"""Which factor is wanted: as given, or from the coarse grid and the resolution asked for."""

from __future__ import annotations

import re

import numpy as np
import xarray as xr

from finescale.errors import InputError
from finescale.grids import coordinates
from finescale.grids.durations import format_duration, parse_duration
from finescale.grids.factor import Factor

LENGTHS = {"m": 1.0, "km": 1000.0}


def factor_to(coarse: xr.DataArray, resolution: str) -> Factor:
    """The factor from a coarse field's grid to a resolution.

    Args:
        coarse: the field (time, y, x).
        resolution: a spacing in the coordinates' units (``0.01``), a length on a projected grid (``1km``), a duration
            (``10min``), or a duration and a spacing (``10min,0.01``); an axis that is not named is left as it is.

    Raises:
        InputError: if the resolution is not understood, or the factor would not be whole.
    """
    grid, parts = coordinates.read_grid(coarse), [part.strip() for part in resolution.split(",")]
    time, spaces = 1, []
    for part in parts:
        match = re.fullmatch(r"([0-9.eE+-]+)\s*(km|m|)", part)
        if match:
            spaces.append(_length(coarse, _number(match[1], resolution), match[2], part))
        else:
            time = _time(grid.time, parse_duration(part, "--to"), coarse)
    if len(spaces) > 1 or len(parts) > 2:
        raise InputError(f"--to {resolution} is not understood: write a spacing, a duration, or both: --to 10min,0.01")
    y, x = 1, 1
    if spaces:
        y, x = (
            _whole(float(np.abs(np.diff(edges)).mean()) / spaces[0], name, f"{spaces[0]:g}")
            for name, edges in (("y", grid.y), ("x", grid.x))
        )
    return Factor(time, y=y, x=x)


def _number(text: str, resolution: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--to {resolution}: {text!r} is not a number; write a spacing such as 0.01 or 1km") from None


def _length(coarse: xr.DataArray, value: float, unit: str, text: str) -> float:
    """A spacing in the units of the coordinates."""
    if value <= 0:
        raise InputError(f"--to {text}: a spacing must be positive")
    if not unit:
        return value
    y = coarse.dims[-2]
    has = str(coarse[y].attrs.get("units", "")) if y in coarse.coords else ""
    own = {"m": "m", "metre": "m", "meter": "m", "metres": "m", "meters": "m", "km": "km", "kilometre": "km"}.get(has)
    if own is None:
        raise InputError(f"--to {text}: the coordinate {y} is in {has or 'unknown units'}, not a length; give --factor")
    return value * LENGTHS[unit] / LENGTHS[own]


def _time(edges: np.ndarray, seconds: float, coarse: xr.DataArray) -> int:
    if coarse.sizes[coarse.dims[-3]] < 2:
        raise InputError("--to names a duration, but the input has one time only: give --factor")
    return _whole(float(np.median(np.diff(edges))) / seconds, "time", format_duration(seconds))


def _whole(ratio: float, axis: str, asked: str) -> int:
    factor = round(ratio)
    if factor < 1 or abs(ratio - factor) > 0.01 * factor:
        raise InputError(
            f"from the coarse grid to {asked} the factor in {axis} would be {ratio:.4g}, which is not whole; "
            f"give --factor, or a resolution that divides the coarse one"
        )
    return factor
