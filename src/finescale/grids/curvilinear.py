"""Grids whose cells have a latitude and a longitude each: rotated poles, projections without coordinates of their own.

With the unit vector v(φ, λ) = (cos φ cos λ, cos φ sin λ, sin φ) at each centre, which knows no seam and no pole:

    finer centres     v interpolated linearly along y and x between centres, beyond the outermost ones extrapolated
    coarser centres   the mean of v over a block
    corners           the mean of the four centres around them
    cell areas        R² |d₁ × d₂| / 2 with d₁, d₂ the diagonals between corners, R = 6371 km

each v then brought back to length 1. A file's own areas (CF ``cell_measures``) go before those computed; refined, each
cell's area is shared equally among its parts, so that block means of an output are those of its making.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.grids.dimensions import EAST, NORTH, related
from finescale.grids.factor import Factor
from finescale.grids.grid import shared, summed

Array = NDArray[np.float64]
RADIUS = 6_371_000.0
AREA = "cell_area"
"""The name of areas in an output."""
_ROWS = 256
"""Rows of centres that are computed at once."""
_LENGTHS = ("m", "metre", "meter", "metres", "meters", "km", "kilometre", "kilometres")


def is_place(da: xr.DataArray) -> bool:
    """Whether a variable is the latitude or longitude of cells, on two dimensions."""
    return da.ndim == 2 and _side(da) != ""


def _side(da: xr.DataArray) -> str:
    standard, units = str(da.attrs.get("standard_name", "")), str(da.attrs.get("units", "")).lower()
    if standard == "latitude" or (not standard and units in NORTH):
        return "lat"
    if standard == "longitude" or (not standard and units in EAST):
        return "lon"
    name = str(da.name).lower()
    return name[:3] if not da.attrs and name in ("lat", "latitude", "lon", "longitude") else ""


def places(da: xr.DataArray) -> dict[str, Hashable]:
    """``lat`` and ``lon``: the names of the coordinates (y, x) that hold them; empty unless both are there."""
    plane = set(da.dims[-2:])
    found = {_side(c): name for name, c in da.coords.items() if c.ndim == 2 and set(c.dims) == plane and _side(c)}
    return found if set(found) == {"lat", "lon"} else {}


def with_places(da: xr.DataArray, ds: xr.Dataset, plane: tuple[Hashable, Hashable]) -> xr.DataArray:
    """Attach what ``ds`` has of latitude, longitude and area of the cells of ``da`` on the dimensions ``plane``."""
    named = [name for name, v in ds.variables.items() if set(v.dims) == set(plane) and v.ndim == 2]
    sides = {name: ds[name] for name in named if name != da.name and _side(ds[name])}
    area = measure(da)
    if area in named and area != da.name:
        sides[area] = ds[area]
    return da.assign_coords({name: c.variable for name, c in sides.items() if name not in da.coords})


def is_rectilinear(da: xr.DataArray) -> bool:
    """Whether y and x have coordinates of their own: degrees, rotated ones, or lengths in a projection."""
    if related(da, "grid_mapping") in da.coords:
        return all(dim in da.coords for dim in da.dims[-2:])
    sides = [da[dim] for dim in da.dims[-2:] if dim in da.coords]
    told = (str(c.attrs.get("standard_name", "")) or str(c.attrs.get("units", "")).lower() for c in sides)
    known = ("latitude", "longitude", "grid_latitude", "grid_longitude", *NORTH, *EAST, *_LENGTHS)
    return len(sides) == 2 and all(word in known or word.startswith("projection_") for word in told)


def cell_areas(da: xr.DataArray) -> Array | None:
    """Areas (H, W) in m² of the cells of ``da`` (…, y, x), from the file or its places; None on other grids."""
    found = places(da)
    if not found or is_rectilinear(da) or min(da.shape[-2:]) < 2:
        return None
    given = measure(da)
    if given in da.coords and set(da[given].dims) == set(da.dims[-2:]):
        area = np.asarray(da[given].transpose(*da.dims[-2:]).values, dtype=np.float64)
    else:
        area = areas(*_degrees(da, found))
    return area if np.all(np.isfinite(area)) and np.all(area > 0) else None


def areas(lat: Array, lon: Array) -> Array:
    """Areas (H, W) in m² of cells whose centres (H, W) are given in degrees; at least two along each axis."""
    corners = _vectors(lat, lon)
    for axis in (0, 1):
        first, last = (np.take(corners, [n], axis) for n in (0, -1))
        second, before = (np.take(corners, [n], axis) for n in (1, -2))
        padded = np.concatenate([2 * first - second, corners, 2 * last - before], axis)
        low, high = (np.delete(padded, n, axis) for n in (-1, 0))
        corners = 0.5 * (low + high)
    corners /= np.linalg.norm(corners, axis=-1, keepdims=True)
    diagonals = corners[1:, 1:] - corners[:-1, :-1], corners[1:, :-1] - corners[:-1, 1:]
    return np.asarray(RADIUS**2 * np.linalg.norm(np.cross(*diagonals), axis=-1) / 2, dtype=np.float64)


def new_places(da: xr.DataArray, factor: Factor, refine: bool) -> dict[Hashable, xr.Variable]:
    """Latitude, longitude and, where they are needed, areas of the finer or coarser grid's cells."""
    found = places(da)
    if not found:
        return {}
    plane, lat_lon = da.dims[-2:], _degrees(da, found)
    made = _refined(*lat_lon, factor) if refine else _coarsened(*lat_lon, factor)
    out: dict[Hashable, xr.Variable] = {}
    for (side, name), values in zip(sorted(found.items()), made, strict=True):
        attrs = {key: value for key, value in da[name].attrs.items() if key != "bounds"}
        said = {"standard_name": "latitude" if side == "lat" else "longitude"}
        said["units"] = "degrees_north" if side == "lat" else "degrees_east"
        out[name] = xr.Variable(plane, values, said | attrs)
    area = cell_areas(da)
    if area is not None:
        attrs = {"standard_name": "cell_area", "long_name": "area of the cell", "units": "m2"}
        out[AREA] = xr.Variable(plane, shared(area, factor) if refine else summed(area, factor), attrs)
    return out


def measured(attrs: Mapping[Any, Any], coords: Container[object]) -> dict[Any, Any]:
    """Attributes of an output's variable, which name its areas where there are any."""
    kept = {key: value for key, value in attrs.items() if key != "cell_measures"}
    return kept | ({"cell_measures": f"area: {AREA}"} if AREA in coords else {})


def _refined(lat: Array, lon: Array, factor: Factor) -> tuple[Array, Array]:
    vectors = _interpolated(_vectors(lat, lon), factor.y, 0)
    parts = [
        _angles(_interpolated(vectors[start : start + _ROWS], factor.x, 1), lon)
        for start in range(0, vectors.shape[0], _ROWS)
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _coarsened(lat: Array, lon: Array, factor: Factor) -> tuple[Array, Array]:
    h, w = lat.shape
    blocks = _vectors(lat, lon).reshape(h // factor.y, factor.y, w // factor.x, factor.x, 3)
    return _angles(blocks.mean(axis=(1, 3)), lon)


def _interpolated(values: Array, factor: int, axis: int) -> Array:
    """Values at the centres of ``factor`` parts of each cell along an axis."""
    n = values.shape[axis]
    if n == 1 or factor == 1:
        return np.repeat(values, factor, axis)
    at = (np.arange(n * factor) + 0.5) / factor - 0.5
    low = np.clip(np.floor(at), 0, n - 2).astype(int)
    weight = (at - low).reshape([-1 if k == axis else 1 for k in range(values.ndim)])
    return np.asarray(np.take(values, low, axis) * (1 - weight) + np.take(values, low + 1, axis) * weight)


def _vectors(lat: Array, lon: Array) -> Array:
    phi, lam = np.deg2rad(lat), np.deg2rad(lon)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def _angles(vectors: Array, like: Array) -> tuple[Array, Array]:
    """Degrees of latitude and longitude, longitudes within half a circle of the middle of ``like``."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    lat, lon = np.rad2deg(np.arctan2(z, np.hypot(x, y))), np.rad2deg(np.arctan2(y, x))
    middle = (np.nanmin(like) + np.nanmax(like)) / 2
    return lat, lon + 360.0 * np.round((middle - lon) / 360.0)


def _degrees(da: xr.DataArray, found: dict[str, Hashable]) -> tuple[Array, Array]:
    lat, lon = (da[found[side]].transpose(*da.dims[-2:]).values.astype(np.float64) for side in ("lat", "lon"))
    return lat, lon


def measure(da: xr.DataArray) -> str:
    """The name of the areas in CF's ``cell_measures``; empty where there is none."""
    words = str(da.attrs.get("cell_measures", da.encoding.get("cell_measures", ""))).split()
    return next((after for word, after in pairwise(words) if word == "area:"), "")
