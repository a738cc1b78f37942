"""The grids that coordinates describe.

A coordinate gives cell edges: CF bounds where the file has them, otherwise halfway between neighbours.

A DataArray cannot carry bounds (n, 2), since they have a dimension of their own; `with_bounds` attaches them as two
plain coordinates ``<dim>__lower`` and ``<dim>__upper`` that survive slicing and that the functions here look for.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.errors import InputError
from finescale.grids.curvilinear import cell_areas, is_place, with_places
from finescale.grids.dimensions import (
    NAMES,
    NORTH,
    axis_by_attributes,
    beyond,
    canonical,
    find,
    find_axis,
    has_plane,
    label,
    related,
)
from finescale.grids.grid import Grid

__all__ = [
    "beyond",
    "canonical",
    "check_axes",
    "check_latitudes",
    "even",
    "find",
    "has_plane",
    "increasing",
    "is_place",
    "numbers",
    "read_grid",
    "with_bounds",
]

TOLERANCE = 0.01
"""How far spacings may vary, in cells, on an axis taken as uniform."""


def with_bounds(da: xr.DataArray, ds: xr.Dataset) -> xr.DataArray:
    """Attach the CF bounds and the grid mapping that ``ds`` has for the coordinates of ``da``."""
    for dim in da.dims:
        if dim in da.coords:
            name = related(da[dim], "bounds")
            if name in ds.variables and ds[name].dims[:1] == (dim,) and ds[name].shape == (da.sizes[dim], 2):
                pair = ds[name].variable.load()
                da = da.assign_coords(
                    {f"{dim}__lower": (dim, pair.values[:, 0]), f"{dim}__upper": (dim, pair.values[:, 1])}
                )
    plane = [find_axis(da, axis) for axis in ("y", "x")]
    if None not in plane:
        da = with_places(da, ds, (plane[0], plane[1]))
    mapping = related(da, "grid_mapping")
    if mapping in ds.variables and mapping not in da.coords and ds[mapping].ndim == 0:
        da = da.assign_coords({mapping: ds[mapping].variable})
    return da


def read_grid(da: xr.DataArray) -> Grid:
    """The grid of ``da``; time in seconds since its first time.

    Edges come from bounds (`with_bounds`) or lie halfway between cell centres. One cell without bounds takes the
    spacing of the other horizontal axis, or 1.

    Raises:
        InputError: for times that do not increase, or horizontal spacing that varies by more than 1 % of a cell.
    """
    da = canonical(da)
    time, y, x = da.dims[-3:]
    edges = {dim: _edges(da, dim, axis) for axis, dim in (("y", y), ("x", x))}
    spacing = next((abs(e[1] - e[0]) for e in edges.values() if e is not None), 1.0)
    sides = [_around(da, dim, spacing) if known is None else known for dim, known in edges.items()]
    times = _edges(da, time, "time")
    return Grid(np.array([-0.5, 0.5]) if times is None else times, sides[0], sides[1], _crs(da, y), cell_areas(da))


def check_axes(da: xr.DataArray) -> None:
    """Refuse coordinates that are named as a dimension and lie on several: they are no axis.

    Raises:
        InputError: naming the coordinate and its dimensions.
    """
    for dim in da.dims:
        if dim in da.coords and da[dim].dims != (dim,):
            raise InputError(
                f"{label(da)} has the coordinate {dim} on the dimensions {', '.join(map(str, da[dim].dims))}, but an "
                f"axis has {dim} alone: rename these dimensions, such as to y and x"
            )


def check_latitudes(da: xr.DataArray) -> None:
    """Refuse latitudes beyond a pole.

    Raises:
        InputError: naming the latitude.
    """
    y = da.dims[-2]
    if y in da.coords and _crs(da, y) == "latlon" and da[y].dtype.kind in "fiu":
        farthest = float(da[y].values[np.abs(da[y].values).argmax()])
        if abs(farthest) > 90 * (1 + 1e-6):
            raise InputError(f"{label(da)} has the latitude {farthest:g} in {y}, beyond the pole: correct it")


def even(edges: NDArray[np.float64]) -> bool:
    """Whether the steps between ``edges`` vary by at most 1 %."""
    steps = np.abs(np.diff(edges))
    return bool(np.ptp(steps) <= TOLERANCE * np.median(steps))


def breaks(da: xr.DataArray) -> tuple[int, ...]:
    """The frames that begin a new sequence, after a gap in time: a step of at least 1.5 times the usual one.

    Raises:
        InputError: if times are uneven otherwise, so that frames do not follow one another at one cadence.
    """
    da = canonical(da)
    time = da.dims[-3]
    if time not in da.coords or da.sizes[time] < 3:
        return ()
    steps = np.diff(numbers(da[time]))
    usual = float(np.median(steps))
    gaps = steps >= 1.5 * usual
    odd = np.abs(steps - usual) > TOLERANCE * usual
    if np.any(odd & ~gaps):
        at = int(np.argmax(odd & ~gaps))
        raise InputError(
            f"{label(da)} has uneven times (the usual step is {usual:g} s, but {steps[at]:g} s between frames {at} and "
            f"{at + 1}), which cannot be used as a sequence: select an evenly spaced part"
        )
    return tuple(int(n) + 1 for n in np.flatnonzero(gaps))


def increasing(da: xr.DataArray) -> xr.DataArray:
    """``da`` as ([realization,] time, y, x) with y and x increasing: the orientation that models see."""
    da = canonical(da)
    turned = [dim for dim in da.dims[-2:] if dim in da.coords and da.sizes[dim] > 1 and da[dim][0] > da[dim][-1]]
    return da.isel({dim: slice(None, None, -1) for dim in turned})


def numbers(coord: xr.DataArray, values: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """Values (the coordinate's own by default) as floats; dates and times as seconds since the coordinate's first."""
    first, values = coord.values[:1], coord.values if values is None else values
    if coord.dtype.kind in "mM":
        return (values - first) / np.timedelta64(1, "s")
    if coord.dtype.kind == "O":
        try:
            return np.array([(v - first[0]).total_seconds() for v in values], dtype=np.float64)
        except (AttributeError, TypeError):
            raise InputError(
                f"the coordinate {coord.name} holds {values[0]!r}, which is neither a number nor a date"
            ) from None
    try:
        number = values.astype(np.float64)
    except ValueError:
        raise InputError(
            f"the coordinate {coord.name} holds {values[0]!r}, which is neither a number nor a date"
        ) from None
    return (
        number - float(first[0])
        if axis_by_attributes(coord) == "time" or str(coord.name).lower() in NAMES["time"]
        else number
    )


def _edges(da: xr.DataArray, dim: Hashable, axis: str) -> NDArray[np.float64] | None:
    """n + 1 edges; None for a single cell without bounds."""
    n = da.sizes[dim]
    if dim not in da.coords:
        return np.arange(n + 1, dtype=np.float64) - 0.5 if n > 1 else None
    coord = da[dim]
    centres = numbers(coord)
    steps: NDArray[np.float64] = np.diff(centres)
    if not np.all(np.isfinite(centres)) or not (np.all(steps > 0) or (axis != "time" and np.all(steps < 0))):
        bad = int(np.argmax(~(steps > 0) if steps.size and steps[0] > 0 else ~(steps < 0))) if steps.size else 0
        what = "do not increase" if axis == "time" else "neither increase nor decrease throughout"
        raise InputError(
            f"the {axis} coordinate {dim} is unusable: its values {what} (see cell {bad}); sort it and drop duplicates"
        )
    if axis != "time" and n > 2:
        typical = np.median(steps)
        off = np.abs(steps - typical) / np.abs(typical)
        if off.max() > TOLERANCE:
            at = int(off.argmax())
            raise InputError(
                f"the {axis} coordinate {dim} is not evenly spaced: the step is {typical:g}, but {steps[at]:g} between "
                f"cells {at} and {at + 1}; regrid to an even grid first"
            )
    if f"{dim}__lower" in da.coords:
        edges = _edges_from_bounds(da, dim, coord, centres)
        if edges is not None:
            return edges
    if n == 1:
        return None
    if axis != "time":
        line = np.polynomial.Polynomial.fit(np.arange(n), centres, 1)
        if np.abs(line(np.arange(n)) - centres).max() <= TOLERANCE * abs(steps.mean()):
            # Rounding of single-precision coordinates would otherwise make cells of unequal width.
            fitted = np.asarray(line(np.arange(n + 1) - 0.5), dtype=np.float64)
            return np.round(fitted, 9 - math.floor(math.log10(abs(steps.mean())))) + 0.0  # no -0
    middle = (centres[:-1] + centres[1:]) / 2
    return np.concatenate([centres[:1] - steps[0] / 2, middle, centres[-1:] + steps[-1] / 2])


def _around(da: xr.DataArray, dim: Hashable, spacing: float) -> NDArray[np.float64]:
    """Edges of a single cell."""
    centre = float(da[dim].values[0]) if dim in da.coords else 0.0
    return np.array([centre - spacing / 2, centre + spacing / 2])


def _edges_from_bounds(
    da: xr.DataArray, dim: Hashable, coord: xr.DataArray, centres: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    ends = np.stack([numbers(coord, da[f"{dim}__{side}"].values) for side in ("lower", "upper")])
    low, high = ends.min(axis=0), ends.max(axis=0)
    if centres.size > 1 and centres[1] < centres[0]:
        low, high = high, low
    width = np.abs(high - low)
    # Intervals with gaps between them are no grid: the labels then say more than the bounds.
    if not np.all(width > 0) or np.any(np.abs(high[:-1] - low[1:]) > 1e-3 * width.min()):
        return None
    return np.append(low, high[-1]).astype(np.float64)


def _crs(da: xr.DataArray, y: Hashable) -> str:
    attrs = da[y].attrs if y in da.coords else {}
    units, standard = str(attrs.get("units", "")).lower(), attrs.get("standard_name")
    if standard == "latitude" or units in NORTH or (not attrs and str(y).lower() in ("lat", "latitude")):
        return "latlon"
    if standard == "grid_latitude":
        return "rotated_latitude_longitude"
    mapping = related(da, "grid_mapping")
    kind = str(da[mapping].attrs.get("grid_mapping_name", mapping)) if mapping in da.coords else ""
    return "latlon" if kind == "latitude_longitude" else kind
