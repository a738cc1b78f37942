"""Which dimension of a field is time, y, x or the members.

Dimensions are told apart by the CF attributes of their coordinates (``axis``, ``standard_name``, ``units``), by holding
dates, then by name.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import xarray as xr

from finescale.errors import InputError

AXES = ("time", "y", "x")
LONGEST = 10**7
"""Cells along an axis, such as minutes of nineteen years: coordinates are in memory whole."""

NAMES = {
    "realization": {"realization", "number", "ensemble", "ensemble_member", "member", "sample", "ens"},
    "time": {"time", "valid_time", "t", "date", "datetime", "times"},
    "y": {
        "y",
        "lat",
        "latitude",
        "rlat",
        "grid_latitude",
        "projection_y_coordinate",
        "northing",
        "nlat",
        "south_north",
        "yc",
        "j",
        "nj",
    },
    "x": {
        "x",
        "lon",
        "longitude",
        "rlon",
        "grid_longitude",
        "projection_x_coordinate",
        "easting",
        "nlon",
        "west_east",
        "xc",
        "i",
        "ni",
    },
}
_STANDARD = {
    "realization": {"realization"},
    "time": {"time"},
    "y": {"latitude", "grid_latitude", "projection_y_coordinate"},
    "x": {"longitude", "grid_longitude", "projection_x_coordinate"},
}
_LETTERS = {"E": "realization", "T": "time", "Y": "y", "X": "x"}
NORTH = {"degrees_north", "degree_north", "degrees_n", "degree_n", "degreesn", "degreen"}
EAST = {"degrees_east", "degree_east", "degrees_e", "degree_e", "degreese", "degreee"}


def find(da: xr.DataArray) -> dict[str, Hashable]:
    """Map ``realization``, ``time``, ``y``, ``x`` (those found) to the names of the dimensions of ``da``.

    Raises:
        InputError: if y or x is not found or two dimensions claim one axis; the message lists the dimensions there are.
    """
    found: dict[str, Hashable] = {}
    for dim in da.dims:
        axis = _axis_of(da, dim)
        if axis is None:
            continue
        if axis in found:
            raise InputError(f"{label(da)} has two {axis} dimensions, {found[axis]} and {dim}: select from one first")
        found[axis] = dim
    lost = [axis for axis in ("y", "x") if axis not in found]
    if lost:
        raise InputError(
            f"{label(da)} has no {' and no '.join(lost)} dimension among ({_sizes(da)}): "
            "name them y and x or lat and lon, or give their coordinates a standard_name or axis"
        )
    return found


def has_plane(da: xr.DataArray) -> bool:
    """Whether ``da`` has a y and an x dimension."""
    axes = [_axis_of(da, dim) for dim in da.dims]
    return "y" in axes and "x" in axes


def find_axis(da: xr.DataArray, axis: str) -> Hashable | None:
    """The dimension of an axis; None where there is none."""
    return next((dim for dim in da.dims if _axis_of(da, dim) == axis), None)


def beyond(da: xr.DataArray) -> list[str]:
    """The dimensions beside time, y, x and members that have more than one value, such as levels."""
    return [str(dim) for dim in da.dims if _axis_of(da, dim) is None and da.sizes[dim] > 1]


def canonical(da: xr.DataArray) -> xr.DataArray:
    """``da`` transposed to ([realization,] time, y, x).

    The member dimension is renamed ``realization``; the others keep their names. A missing time axis is added with
    length 1 (from a scalar time coordinate where there is one); other dimensions of length 1 are dropped.

    Raises:
        InputError: for missing or empty dimensions, or further ones longer than 1.
    """
    empty = [str(dim) for dim, n in da.sizes.items() if n == 0]
    if empty:
        raise InputError(f"{label(da)} has no cells along {', '.join(empty)} ({_sizes(da)}): it is empty")
    long = [str(dim) for dim, n in da.sizes.items() if n > LONGEST]
    if long:
        raise InputError(f"{label(da)} has more than {LONGEST:,} cells along {long[0]} ({_sizes(da)}): select a part")
    da = _time_from_auxiliary(da)
    axes = find(da)
    extra = [dim for dim in da.dims if dim not in axes.values()]
    long = [str(dim) for dim in extra if da.sizes[dim] > 1]
    if long:
        raise InputError(
            f"{label(da)} has a dimension beside time, y and x ({_sizes(da)}): "
            f"select one value of {', '.join(long)} first"
        )
    da = da.isel({dim: 0 for dim in extra})
    if "time" not in axes:
        name = next((name for name in da.coords if da[name].ndim == 0 and is_time(da[name])), "time")
        da, axes["time"] = da.expand_dims(name), name
    if axes.get("realization", "realization") != "realization":
        da = da.rename({axes["realization"]: "realization"})
    order = [axes[axis] for axis in AXES]
    return da.transpose(*(["realization"] if "realization" in axes else []), *order)


def _axis_of(da: xr.DataArray, dim: Hashable) -> str | None:
    if dim in da.coords:
        axis = axis_by_attributes(da[dim])
        if axis is not None:
            return axis
    return next((axis for axis, names in NAMES.items() if str(dim).lower() in names), None)


def axis_by_attributes(coord: xr.DataArray) -> str | None:
    letter, standard = text(coord, "axis"), text(coord, "standard_name")
    if letter in _LETTERS:
        return _LETTERS[letter]
    for axis, names in _STANDARD.items():
        if standard in names:
            return axis
    units = str(coord.attrs.get("units", "")).lower()
    if units in NORTH:
        return "y"
    if units in EAST:
        return "x"
    return "time" if is_date(coord) else None


def is_date(coord: xr.DataArray) -> bool:
    if coord.dtype.kind == "M":
        return True
    return coord.dtype.kind == "O" and coord.size > 0 and hasattr(coord.values.flat[0], "timetuple")


def is_time(coord: xr.DataArray) -> bool:
    return axis_by_attributes(coord) == "time" or str(coord.name).lower() in NAMES["time"]


def _time_from_auxiliary(da: xr.DataArray) -> xr.DataArray:
    """Make a one-dimensional auxiliary time (a forecast's valid time along its lead) the time dimension."""
    if any(_axis_of(da, dim) == "time" and da.sizes[dim] > 1 for dim in da.dims):
        return da
    for name, coord in da.coords.items():
        if (
            coord.ndim == 1
            and name not in da.dims
            and is_date(coord)
            and not str(name).endswith(("__lower", "__upper"))
        ):
            clash = [dim for dim in da.dims if _axis_of(da, dim) == "time" and dim != coord.dims[0]]
            return da.isel({dim: 0 for dim in clash}, drop=True).swap_dims({coord.dims[0]: name})
    return da


def related(da: xr.DataArray, key: str) -> str:
    """The name in a CF attribute, which xarray moves to the encoding on request."""
    return text(da, key) or str(da.encoding.get(key, ""))


def text(da: xr.DataArray, key: str) -> str:
    """A CF attribute that is text by definition; empty where there is none.

    Raises:
        InputError: if it is something else.
    """
    value = da.attrs.get(key, "")
    if not isinstance(value, str):
        raise InputError(f"the attribute {key} of {da.name} is {value!r}, not text: correct or delete it")
    return value


def label(da: xr.DataArray) -> str:
    return f"variable {da.name}" if da.name is not None else "the field"


def _sizes(da: xr.DataArray) -> str:
    return ", ".join(f"{dim}: {n}" for dim, n in da.sizes.items()) or "no dimensions"


def texts(time: xr.DataArray) -> list[str]:
    """Values as text, times as ISO text to the millisecond whatever kind of date they are: equal where they are."""
    values = time.values
    if values.dtype.kind == "M":
        return [str(v) for v in np.datetime_as_string(values, unit="ms")]
    if values.dtype.kind == "O":
        return [v.isoformat(timespec="milliseconds") if hasattr(v, "isoformat") else str(v) for v in values]
    return [f"{v:.6g}" if isinstance(v, float) else str(v) for v in values.tolist()]
