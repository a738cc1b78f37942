"""Where the maps of a field lie, from its coordinates: in kilometres, or in degrees where an area is large."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.proj import projections
from finescale.grids import coordinates
from finescale.grids.curvilinear import places
from finescale.grids.dimensions import related
from finescale.plots import coast
from finescale.plots.maps import Region

LARGE = 1000.0
"""km along a side from which maps of latitude and longitude have axes in degrees."""
DEGREE = 111.195
"""km in a degree of latitude, on a sphere of 6371 km."""
POINTS = 60
"""About as many cells along a side tell where coasts lie on a grid whose cells have a latitude and longitude each."""
NEAR = 0.005
"""Degrees between points of a coastline on such a grid."""

Numbers = NDArray[np.float64]


def region_of(da: xr.DataArray) -> tuple[Region, str]:
    """The region of maps of ``da`` (…, y, x), y upwards, and the unit of length of its spectra.

    Degrees of longitude are drawn narrower by cos φ; metres become kilometres, and so do the degrees of areas up to
    `LARGE`.

    Example:
        >>> from finescale.data.samples import radar
        >>> from finescale.plots import region_of
        >>> region, unit = region_of(radar()["precipitation_rate"])
        >>> unit, region.xlabel
        ('km', 'km east of 86.48° W')
    """
    grid = coordinates.read_grid(da)
    left, right = sorted((float(grid.x[0]), float(grid.x[-1])))
    bottom, top = sorted((float(grid.y[0]), float(grid.y[-1])))
    if grid.geographic:
        return _geographic((left, right, bottom, top)), "km"
    x = da.dims[-1]
    unit = str(da[x].attrs.get("units", "")) if x in da.coords else "cells"
    edges, scale = (left, right, bottom, top), 1.0
    if unit in ("m", "metre", "meter", "metres", "meters"):
        edges, unit, scale = (left / 1e3, right / 1e3, bottom / 1e3, top / 1e3), "km", 1e-3
    unit = tame(unit) or "units of x"
    coasts = tuple(line * scale for line in _on_cells(da, grid.y, grid.x))
    return Region(edges, f"x ({unit})", f"y ({unit})", coasts=coasts), unit


def _geographic(degrees: tuple[float, float, float, float]) -> Region:
    """The region of a grid along parallels and meridians, given by (left, right, bottom, top)."""
    left, right, bottom, top = degrees
    narrower = max(math.cos(math.radians((bottom + top) / 2)), 0.05)
    lines = coast.lines(degrees)
    width, height = (right - left) * narrower * DEGREE, (top - bottom) * DEGREE
    if max(width, height) > LARGE:
        return Region(degrees, "longitude (°)", "latitude (°)", 1.0 / narrower, coasts=tuple(lines))
    origin, scale = np.array([left, bottom]), np.array([narrower * DEGREE, DEGREE])
    names = f"km east of {_degrees(left, 'E', 'W')}", f"km north of {_degrees(bottom, 'N', 'S')}"
    return Region((0.0, width, 0.0, height), *names, coasts=tuple((line - origin) * scale for line in lines))


def _degrees(value: float, positive: str, negative: str) -> str:
    """``12.5° W``; longitudes from 0 to 360 as those from -180 to 180."""
    value = value - 360 if value > 180 else value
    return f"{abs(value):.4g}° {positive if value >= 0 else negative}"


def _on_cells(da: xr.DataArray, y: Numbers, x: Numbers) -> list[Numbers]:
    """Coastlines (N, 2) in the units of ``x`` and ``y`` (edges); none where nothing tells latitudes and longitudes.

    Both are laid on the plane that touches the globe in the middle of the field (stereographic), which knows no seam.
    """
    down, along = (slice(None, None, max(n // POINTS, 1)) for n in da.shape[-2:])
    rows, columns = (((edges[1:] + edges[:-1]) / 2)[step] for edges, step in ((y, down), (x, along)))
    lat, lon = _degrees_of(da, rows, columns, (down, along))
    known = np.isfinite(lat) & np.isfinite(lon)
    if known.sum() < 4 or min(known.shape) < 2:
        return []
    from scipy.interpolate import LinearNDInterpolator

    vectors = _vectors(lon[known], lat[known])
    middle = vectors.mean(axis=0)
    if np.linalg.norm(middle) < 0.1:  # the whole globe
        return []
    centre = math.degrees(math.atan2(middle[1], middle[0])), math.degrees(math.asin(middle[2] / np.linalg.norm(middle)))
    cells = np.stack(np.broadcast_arrays(columns[None, :], rows[:, None]), axis=-1)[known]
    place = LinearNDInterpolator(_plane(vectors, *centre), cells)
    south, north = float(lat[known].min()), float(lat[known].max())
    return [
        part for line in coast.band(south, north, NEAR) for part in _known(place(_plane(_vectors(*line.T), *centre)))
    ]


def _degrees_of(
    da: xr.DataArray, rows: Numbers, columns: Numbers, steps: tuple[slice, slice]
) -> tuple[Numbers, Numbers]:
    """Latitude and longitude (len(rows), len(columns)): the file's, or by its projection where pyproj is installed."""
    named, mapping = places(da), related(da, "grid_mapping")
    if named:
        lat, lon = (np.asarray(da[named[side]].values, dtype=np.float64)[steps] for side in ("lat", "lon"))
        return lat, lon
    pyproj = projections() if mapping in da.coords else None
    if pyproj is not None:
        try:
            crs = pyproj.CRS.from_cf({str(key): value for key, value in da[mapping].attrs.items()})
        except (pyproj.exceptions.CRSError, KeyError, TypeError, ValueError):
            crs = None
        if crs is not None and crs.is_projected:
            # Coordinates are in the units of the file, metres to PROJ.
            scale = 1e3 if str(da[da.dims[-1]].attrs.get("units", "")).startswith("k") else 1.0
            onto = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
            east, north = onto.transform(*np.meshgrid(columns * scale, rows * scale))
            return np.asarray(north), np.asarray(east)
    return np.full((1, 1), np.nan), np.full((1, 1), np.nan)


def _vectors(lon: Numbers, lat: Numbers) -> Numbers:
    """Unit vectors (N, 3)."""
    east, north = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=-1)


def _plane(vectors: Numbers, lon: float, lat: float) -> Numbers:
    """Stereographic coordinates (N, 2) about a place; NaN on the other half of the globe."""
    east, north = math.radians(lon), math.radians(lat)
    right = np.array([-math.sin(east), math.cos(east), 0.0])
    up = np.array([-math.sin(north) * math.cos(east), -math.sin(north) * math.sin(east), math.cos(north)])
    along = vectors @ np.cross(right, up)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.stack([vectors @ right, vectors @ up], axis=-1) / (1 + along)[:, None]
    return np.where(along[:, None] > 0, found, np.nan)


def _known(line: Numbers) -> list[Numbers]:
    """The stretches of a line (N, 2) without NaN."""
    inside = np.isfinite(line).all(axis=1)
    cuts = np.flatnonzero(np.diff(inside)) + 1
    return [part for part in np.split(line, cuts) if len(part) > 1 and np.isfinite(part).all()]


def tame(text: Any) -> str:
    """Text for matplotlib, where $ would start a formula."""
    return str(text).replace("$", r"\$")[:60]
