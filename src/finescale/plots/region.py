"""Where the maps of a field lie, from its coordinates."""

from __future__ import annotations

import math

import xarray as xr

from finescale.grids import coordinates
from finescale.plots.maps import Region


def region_of(da: xr.DataArray) -> tuple[Region, str]:
    """The region of maps of ``da`` (…, y, x), y upwards, and the unit of length of its spectra.

    Degrees of longitude are drawn narrower by cos φ; metres become kilometres.
    """
    grid = coordinates.read_grid(da)
    left, right = sorted((float(grid.x[0]), float(grid.x[-1])))
    bottom, top = sorted((float(grid.y[0]), float(grid.y[-1])))
    if grid.geographic:
        aspect = 1.0 / max(math.cos(math.radians((bottom + top) / 2)), 0.05)
        return Region((left, right, bottom, top), "longitude (°)", "latitude (°)", aspect, True), "km"
    x = da.dims[-1]
    unit = str(da[x].attrs.get("units", "")) if x in da.coords else "cells"
    if unit in ("m", "metre", "meter", "metres", "meters"):
        return Region((left / 1e3, right / 1e3, bottom / 1e3, top / 1e3), "x (km)", "y (km)"), "km"
    unit = tame(unit) or "units of x"
    return Region((left, right, bottom, top), f"x ({unit})", f"y ({unit})"), unit


def tame(text: str) -> str:
    """Text for matplotlib, where $ would start a formula."""
    return text.replace("$", r"\$")[:60]
