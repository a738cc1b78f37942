"""Coordinates of coarser and finer grids, as an output has them.

A label keeps its place in its cell: with edges e and label l, the fraction (l - e_i) / (e_{i+1} - e_i) is the same
before and after refinement by a factor, so hours labelled at their start become minutes labelled at their start.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Hashable, Iterable
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.errors import InputError, Notice
from finescale.grids.coordinates import breaks, numbers, read_grid
from finescale.grids.curvilinear import measure, new_places
from finescale.grids.dimensions import AXES, EAST, NORTH, canonical, is_date, label, related
from finescale.grids.factor import Factor

T = TypeVar("T")
_TIME_UNITS = (
    ("days", 86400.0),
    ("hours", 3600.0),
    ("minutes", 60.0),
    ("seconds", 1.0),
    ("milliseconds", 1e-3),
    ("microseconds", 1e-6),
)


def refined_coords(da: xr.DataArray, factor: Factor) -> dict[Hashable, xr.Variable]:
    """Coordinates, CF bounds, grid mapping and scalar coordinates of the grid ``factor`` times finer than ``da``'s.

    Raises:
        InputError: if time is refined and its steps are uneven, or a name of the output is taken.
    """
    return _new_coords(da, factor, refine=True)


def coarsened_coords(da: xr.DataArray, factor: Factor) -> dict[Hashable, xr.Variable]:
    """Coordinates, CF bounds, grid mapping and scalar coordinates of blocks of ``factor`` cells of ``da``.

    Raises:
        InputError: if the shape is not divisible by the factor, or time is coarsened and its steps are uneven.
    """
    return _new_coords(da, factor, refine=False)


def _new_coords(da: xr.DataArray, factor: Factor, refine: bool) -> dict[Hashable, xr.Variable]:
    da = canonical(da)
    grid = read_grid(da)
    gaps = breaks(da) if factor.time > 1 else ()
    if gaps and not refine:
        raise InputError(
            f"{label(da)} has a gap in time before frame {gaps[0]}, over which the factor {factor} would average: "
            "select a part without gaps"
        )
    time = da.dims[-3]
    if factor.time > 1 and da.sizes[time] == 1 and time in da.coords and f"{time}__lower" not in da.coords:
        raise InputError(
            f"{label(da)} has one time only, whose length is unknown, so it cannot be refined: give {time} bounds"
        )
    if refine and factor.y > 1 and grid.spherical and np.abs(grid.y).max() > 90 * (1 + 1e-6):
        raise InputError(
            f"{label(da)} has cells that reach over the pole, to latitude {np.abs(grid.y).max():g}, and cannot be "
            "refined: leave these rows out"
        )
    new = grid.refine(factor) if refine else grid.coarsen(factor)
    changed = {dim: n for dim, n in zip(da.dims[-3:], factor, strict=True) if n > 1}
    places = new_places(da, factor, refine)
    lost = [
        str(name)
        for name, c in da.coords.items()
        if name not in {*places, measure(da)}
        and set(c.dims) & set(changed)
        and name not in da.dims
        and not str(name).endswith(("__lower", "__upper"))
    ]
    if lost:
        warnings.warn(
            f"{label(da)}: the output is on another grid and does not have the coordinates {', '.join(lost)}",
            Notice,
            stacklevel=4,
        )
    coords: dict[Hashable, xr.Variable] = {
        name: c.variable.copy()
        for name, c in da.coords.items()
        if not set(c.dims) & set(changed)
        and name not in da.dims[-3:]
        and not str(name).endswith(("__lower", "__upper"))
    }
    _check_names(da, [name for name in places if name not in da.coords])
    coords |= places
    for axis, dim in zip(AXES, da.dims[-3:], strict=True):
        if dim in da.coords:
            old_edges, edges, n = getattr(grid, axis), getattr(new, axis), getattr(factor, axis)
            if axis == "time" and gaps:
                coords |= _time_between_gaps(da, n)
                continue
            ours = _axis_coords(da, dim, axis, old_edges, edges, n if refine else -n)
            _check_names(da, [name for name in ours if name != dim])
            coords |= ours
    if "realization" in da.dims:
        values = da["realization"].values if "realization" in da.coords else np.arange(da.sizes["realization"])
        coords["realization"] = realization(values)
    return coords


def _check_names(da: xr.DataArray, ours: list[Hashable]) -> None:
    """Refuse names that the output needs for itself."""
    taken = {da.name, *da.coords, *da.dims} & {*ours, "bnds"} | {da.name} & {*da.dims, "realization", "quantile"}
    if taken:
        raise InputError(
            f"{label(da)}: the output needs the name {min(map(str, taken))} for itself: rename the input's"
        )


def file_order(before: Iterable[T], cells: Iterable[T], members_first: bool = False) -> tuple[T, ...]:
    """What belongs to the dimensions of an output, (time, members or quantiles, y, x): CDO reads no other order.

    Args:
        before: of the members, quantiles or neither.
        cells: of time, y and x.
        members_first: (members or quantiles, time, y, x) instead.
    """
    time, *plane = cells
    return (*before, time, *plane) if members_first else (time, *before, *plane)


def realization(values: NDArray[Any]) -> xr.Variable:
    """The CF coordinate of ensemble members."""
    return xr.Variable(
        "realization",
        values,
        {"standard_name": "realization", "axis": "E", "long_name": "ensemble member", "units": "1"},
    )


def _axis_coords(
    da: xr.DataArray, dim: Hashable, axis: str, old: NDArray[np.float64], new: NDArray[np.float64], factor: int
) -> dict[Hashable, xr.Variable]:
    """The coordinate and bounds of one axis; ``factor`` is negative for coarsening."""
    coord = da[dim]
    place = (numbers(coord) - old[:-1]) / np.diff(old)
    place = np.repeat(place, factor) if factor > 0 else place.reshape(-1, -factor).mean(axis=1)
    labels = new[:-1] + place * np.diff(new)
    pairs = np.stack([new[:-1], new[1:]], axis=1)
    name = related(coord, "bounds") or f"{dim}_bnds"
    known = axis != "time" or abs(factor) > 1 or f"{dim}__lower" in da.coords
    attrs = {k: v for k, v in coord.attrs.items() if k != "bounds"} | ({"bounds": name} if known else {})
    attrs = _described(coord, axis) | attrs
    if axis == "time":
        variable, bounds = _time_variables(coord, labels, pairs, known)
    else:
        variable, bounds = xr.Variable(dim, labels), xr.Variable((dim, "bnds"), pairs)
    if abs(factor) == 1:
        variable = xr.Variable(dim, coord.values, encoding=variable.encoding)
    variable.attrs = attrs
    return {dim: variable, name: bounds} if known else {dim: variable}


def _described(coord: xr.DataArray, axis: str) -> dict[str, str]:
    """What CF wants said of an axis, where the input leaves it to be guessed."""
    said = {"axis": {"time": "T", "y": "Y", "x": "X"}[axis]}
    units = str(coord.attrs.get("units", "")).lower()
    if axis == "time" and is_date(coord):
        said["standard_name"] = "time"
    elif units in NORTH | EAST or (not units and str(coord.name).lower() in ("lat", "latitude", "lon", "longitude")):
        said["standard_name"] = "latitude" if axis == "y" else "longitude"
        said["units"] = "degrees_north" if axis == "y" else "degrees_east"
    return said


def _time_between_gaps(da: xr.DataArray, factor: int) -> dict[Hashable, xr.Variable]:
    """Refined times where frames do not adjoin: every frame's own interval, one usual step long, is split."""
    dim = da.dims[-3]
    coord, name = da[dim], related(da[dim], "bounds") or f"{dim}_bnds"
    centres = numbers(coord)
    step = float(np.median(np.diff(centres)))
    lower = numbers(coord, da[f"{dim}__lower"].values) if f"{dim}__lower" in da.coords else centres - step / 2
    starts = (lower[:, None] + step * np.arange(factor) / factor).ravel()
    labels = starts + np.repeat(centres - lower, factor) / factor
    variable, bounds = _time_variables(coord, labels, np.stack([starts, starts + step / factor], axis=1))
    variable.attrs = _described(coord, "time") | coord.attrs | {"bounds": name}
    return {dim: variable, name: bounds}


def _time_variables(
    coord: xr.DataArray, labels: NDArray[np.float64], pairs: NDArray[np.float64], bounded: bool = True
) -> tuple[xr.Variable, xr.Variable]:
    """The times and their bounds, in the largest unit in which all are whole; not ``bounded``, bounds are a guess."""
    encoding: dict[str, Any] = {}
    if is_date(coord):
        if coord.dtype.kind == "M":
            start = coord.values[0].astype("datetime64[s]")
            offset = float((coord.values[0].astype("datetime64[us]") - start) / np.timedelta64(1, "s"))
        else:
            start, offset = coord.values[0], 0.0
        every = (np.concatenate([labels, pairs.ravel()]) if bounded else labels) + offset
        unit = next(
            (u for u, s in _TIME_UNITS if np.allclose(every / s, np.rint(every / s), rtol=0, atol=1e-6)), "microseconds"
        )
        since = str(start).replace("T", " ")
        encoding = {"units": f"{unit} since {since}", "calendar": coord.dt.calendar, "dtype": "int64"}
    dim = coord.dims[0]
    return (
        xr.Variable(dim, _dates(coord, labels), encoding=encoding),
        xr.Variable((dim, "bnds"), _dates(coord, pairs), encoding=dict(encoding)),
    )


def _dates(coord: xr.DataArray, seconds: NDArray[np.float64]) -> NDArray[Any]:
    """Seconds since the first value of ``coord``, as dates of its own kind."""
    first = coord.values[0]
    if coord.dtype.kind in "mM":
        micro = np.rint(seconds * 1e6).astype("timedelta64[us]")
        values = first.astype(f"{coord.dtype.kind}8[us]") + micro
        same = values.astype(coord.dtype)
        return same if np.all(same == values) else values
    if coord.dtype.kind == "O":
        flat = [first + datetime.timedelta(microseconds=round(s * 1e6)) for s in seconds.ravel()]
        return np.array(flat, dtype=object).reshape(seconds.shape)
    return float(first) + seconds
