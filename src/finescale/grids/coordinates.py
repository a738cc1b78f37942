"""The grids that coordinates describe, and the coordinates of coarser and finer grids.

A coordinate gives cell edges: CF bounds where the file has them, otherwise halfway between neighbours. A label keeps
its place in its cell: with edges e and label l, the fraction (l - e_i) / (e_{i+1} - e_i) is the same before and after
refinement by a factor, so hours labelled at their start become minutes labelled at their start.

A DataArray cannot carry bounds (n, 2), since they have a dimension of their own; `with_bounds` attaches them as two
plain coordinates ``<dim>__lower`` and ``<dim>__upper`` that survive slicing and that the functions here look for.
"""

from __future__ import annotations

import datetime
import math
import warnings
from collections.abc import Hashable, Iterable
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.errors import InputError, Notice
from finescale.grids.dimensions import (
    AXES,
    EAST,
    NAMES,
    NORTH,
    axis_by_attributes,
    canonical,
    find,
    has_plane,
    is_date,
    label,
    related,
)
from finescale.grids.factor import Factor
from finescale.grids.grid import Grid

__all__ = [
    "canonical",
    "check_latitudes",
    "coarsened_coords",
    "even",
    "file_order",
    "find",
    "has_plane",
    "increasing",
    "read_grid",
    "realization",
    "refined_coords",
    "with_bounds",
]

TOLERANCE = 0.01
"""How far spacings may vary, in cells, on an axis taken as uniform."""
T = TypeVar("T")
_TIME_UNITS = (
    ("days", 86400.0),
    ("hours", 3600.0),
    ("minutes", 60.0),
    ("seconds", 1.0),
    ("milliseconds", 1e-3),
    ("microseconds", 1e-6),
)


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
    return Grid(np.array([-0.5, 0.5]) if times is None else times, sides[0], sides[1], _crs(da, y))


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
    steps = np.diff(_numbers(da[time]))
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
    if refine and factor.y > 1 and grid.geographic and np.abs(grid.y).max() > 90 * (1 + 1e-6):
        raise InputError(
            f"{label(da)} has cells that reach over the pole, to latitude {np.abs(grid.y).max():g}, and cannot be "
            "refined: leave these rows out"
        )
    new = grid.refine(factor) if refine else grid.coarsen(factor)
    changed = {dim: n for dim, n in zip(da.dims[-3:], factor, strict=True) if n > 1}
    lost = [
        str(name)
        for name, c in da.coords.items()
        if set(c.dims) & set(changed) and name not in da.dims and not str(name).endswith(("__lower", "__upper"))
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


def file_order(before: Iterable[T], cells: Iterable[T]) -> tuple[T, ...]:
    """What belongs to the dimensions of an output, (time, members or quantiles, y, x): CDO reads no other order.

    Args:
        before: of the members, quantiles or neither.
        cells: of time, y and x.
    """
    time, *plane = cells
    return (time, *before, *plane)


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
    place = (_numbers(coord) - old[:-1]) / np.diff(old)
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
    centres = _numbers(coord)
    step = float(np.median(np.diff(centres)))
    lower = _numbers(coord, da[f"{dim}__lower"].values) if f"{dim}__lower" in da.coords else centres - step / 2
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


def _numbers(coord: xr.DataArray, values: NDArray[Any] | None = None) -> NDArray[np.float64]:
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
    centres = _numbers(coord)
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
    ends = np.stack([_numbers(coord, da[f"{dim}__{side}"].values) for side in ("lower", "upper")])
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
    mapping = related(da, "grid_mapping")
    kind = str(da[mapping].attrs.get("grid_mapping_name", mapping)) if mapping in da.coords else ""
    return "latlon" if kind == "latitude_longitude" else kind
