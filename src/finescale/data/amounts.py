"""Amounts and rates, one from the other by the lengths of their intervals.

    rate_k = A_k / (e_k - s_k),    A_k = rate_k (e_k - s_k)

with s, e the bounds of interval k, or, where ``cell_methods`` says ``time: sum`` or ``time: mean`` and there are no
bounds, the usual step in time. Amounts that all count from one beginning, as in forecasts, s_k = s, are differences
first: rate_k = (A_k - A_{k-1}) / (e_k - e_{k-1}).
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.units import conversion, convert_units
from finescale.errors import InputError, Notice
from finescale.grids.coordinates import numbers, with_bounds
from finescale.grids.dimensions import find, related

Array = NDArray[np.float64]


def in_units(ds: xr.Dataset, names: list[Hashable], units: str, source: str) -> xr.Dataset:
    """``ds`` with those of the fields ``names`` in ``units`` that can be: by units alone, or by their intervals.

    Raises:
        InputError: if none can be, or intervals are needed and not known.
    """
    known = [name for name in names if str(ds[name].attrs.get("units", "")).strip()]
    plain = [name for name in known if _convertible(str(ds[name].attrs["units"]), units)]
    timed = {name: way for name in known if name not in plain and (way := _way(str(ds[name].attrs["units"]), units))}
    if not plain and not timed:
        has = ", ".join(f"{name} in {ds[name].attrs.get('units', 'no units')}" for name in names)
        raise InputError(f"{source} has nothing that could be in {units}: {has or 'no field'}")
    out = ds.assign({name: convert_units(ds[name], units) for name in plain})
    for name, way in timed.items():
        out[name] = _rate(ds, name, units, source) if way == "rate" else _amount(ds, name, units, source)
        out[name].encoding = {k: v for k, v in ds[name].encoding.items() if k in ("grid_mapping", "source")}
    nested = any(way == "rate" and _bounds(ds, name)[2] for name, way in timed.items())
    return _adjoining(out, next(iter(timed))) if nested else out


def _convertible(has: str, to: str) -> bool:
    try:
        conversion(has, to)
    except InputError:
        return False
    return True


def _way(has: str, to: str) -> str:
    """ "rate" where ``to`` is ``has`` in a time, "amount" the other way round, empty where neither."""
    if _convertible(f"{has} s-1", to):
        return "rate"
    return "amount" if _convertible(f"{to} s-1", has) else ""


def _rate(ds: xr.Dataset, name: Hashable, units: str, source: str) -> xr.DataArray:
    da = ds[name]
    time, seconds, nested = _intervals(ds, name, source)
    if nested:
        # The first counts from the common beginning; later ones less what was there before.
        da = da - da.shift({time: 1}).fillna(0.0).where(da.notnull())
        seconds = np.diff(seconds, prepend=0.0)
    scale, _ = conversion(f"{ds[name].attrs['units']} s-1", units)
    out = (da * xr.DataArray(scale / seconds, dims=[time])).astype("float32")
    if nested:
        out = out.clip(min=0.0)  # packing makes sums fall by its last digit
    out.attrs = _attrs(ds[name], units, "sum", "mean")
    return out


def _amount(ds: xr.Dataset, name: Hashable, units: str, source: str) -> xr.DataArray:
    time, seconds, nested = _intervals(ds, name, source)
    if nested:
        raise InputError(f"{source}: the intervals of {name} overlap, so that they have no amounts of their own")
    scale, _ = conversion(str(ds[name].attrs["units"]), f"{units} s-1")
    out = (ds[name] * xr.DataArray(scale * seconds, dims=[time])).astype("float32")
    out.attrs = _attrs(ds[name], units, "mean", "sum")
    return out


def _attrs(da: xr.DataArray, units: str, old: str, new: str) -> dict[Any, Any]:
    """Attributes of the other of rate and amount; a standard name is one of either."""
    attrs = {k: v for k, v in da.attrs.items() if k not in ("standard_name", "cell_methods")}
    methods = str(da.attrs.get("cell_methods", ""))
    changed = methods.replace(f"time: {old}", f"time: {new}") if f"time: {old}" in methods else f"time: {new}"
    return attrs | {"units": units, "cell_methods": changed}


def _intervals(ds: xr.Dataset, name: Hashable, source: str) -> tuple[Hashable, Array, bool]:
    """The time dimension, the length of each interval in seconds, and whether all begin at one time.

    Raises:
        InputError: if they are not known, or overlap otherwise.
    """
    time, bounds, nested = _bounds(ds, name)
    if bounds is not None:
        low, high = bounds
        seconds: Array = high - low
        if not np.all(seconds > 0):
            at = int(np.argmin(seconds))
            raise InputError(f"{source}: the bounds of time of {name} have an interval of {seconds[at]:g} s: mend them")
        overlap = np.any(low[1:] < high[:-1] - 1e-3)
        if overlap and not nested:
            raise InputError(
                f"{source}: the intervals of {name} differ and overlap, so that an amount is in several: name files or "
                "messages of one interval"
            )
        if np.ptp(seconds) > 0.01 * seconds.max() and not nested:
            warnings.warn(
                f"{source}: the intervals of {name} differ, from {seconds.min() / 3600:g} to {seconds.max() / 3600:g} "
                "h; each is converted by its own",
                Notice,
                stacklevel=3,
            )
        return time, seconds, nested
    said = "time: sum" in str(ds[name].attrs.get("cell_methods", "")) or "time: mean" in str(
        ds[name].attrs.get("cell_methods", "")
    )
    centres = numbers(ds[time]) if time in ds.coords else np.zeros(0)
    steps = np.diff(centres)
    if said and steps.size and np.all(steps > 0) and np.median(steps) == steps.min():
        # Gaps are no longer intervals: the shortest step, which is the usual one, is the interval's length.
        return time, np.full(centres.size, float(steps.min())), False
    raise InputError(
        f"{source}: the lengths of the intervals of {name} are not known, so that it has no rates or amounts: give "
        f"{time} bounds, or cell_methods = 'time: sum' and an even step"
    )


def _bounds(ds: xr.Dataset, name: Hashable) -> tuple[Hashable, tuple[Array, Array] | None, bool]:
    """The time dimension, lower and upper bounds in seconds, and whether all lower ones are one."""
    da = with_bounds(ds[name], ds)
    time = find(da).get("time")
    if time is None:
        scalar = next((n for n, c in da.coords.items() if c.ndim == 0 and related(c, "bounds")), None)
        raise InputError(f"{name} has no time dimension{f' ({scalar} is one value)' if scalar else ''}")
    if f"{time}__lower" not in da.coords:
        return time, None, False
    low, high = (numbers(da[time], da[f"{time}__{side}"].values) for side in ("lower", "upper"))
    nested = low.size > 1 and np.ptp(low) == 0 and bool(np.all(np.diff(high) > 0))
    return time, (low, high), nested


def _adjoining(ds: xr.Dataset, name: Hashable) -> xr.Dataset:
    """Bounds that adjoin, in place of those that all begin at one time."""
    time = find(ds[name])["time"]
    bounds = related(ds[time], "bounds")
    pairs = ds[bounds].values.copy()
    pairs[1:, 0] = pairs[:-1, 1]
    return ds.assign_coords({bounds: (ds[bounds].dims, pairs, ds[bounds].attrs)})
