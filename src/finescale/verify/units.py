"""Which field is rain, and fields in one unit."""

from __future__ import annotations

import xarray as xr

from finescale.data import open as stores
from finescale.errors import InputError

_RAIN = ("rain", "precip")


def is_rain(da: xr.DataArray) -> bool:
    """Whether names or units say rain (or any precipitation)."""
    words = " ".join(
        str(v).lower() for v in (da.name, da.attrs.get("standard_name", ""), da.attrs.get("long_name", ""))
    )
    units = str(da.attrs.get("units", ""))
    return (
        any(word in words for word in _RAIN)
        or ("mm" in units and _rate(units))
        or units in ("kg m-2 s-1", "kg m**-2 s**-1")
    )


def in_mm_per_hour(da: xr.DataArray) -> xr.DataArray:
    """Rain rates in mm/h; rain in units that are no rate unchanged."""
    return stores.convert_units(da, "mm/h") if _rate(str(da.attrs.get("units", ""))) else da


def same_units(da: xr.DataArray, like: xr.DataArray, notes: list[str]) -> xr.DataArray:
    """``da`` in the units of ``like``; a note where it has none.

    Raises:
        InputError: for units of another quantity.
    """
    has, wanted = da.attrs.get("units"), like.attrs.get("units")
    if not wanted or has == wanted:
        return da
    if not has:
        notes.append(f"Variable {da.name} has no units; they are taken to be {wanted}.")
        return da.assign_attrs(units=wanted)
    return stores.convert_units(da, str(wanted))


def _rate(units: str) -> bool:
    try:
        stores.conversion(units, "mm/h")
    except InputError:
        return False
    return True
