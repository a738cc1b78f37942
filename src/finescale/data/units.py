"""Conversion between the units in which rain, temperature and a few other quantities are stored."""

from __future__ import annotations

import re
import warnings

import xarray as xr

from finescale.errors import InputError, Notice

_SPELLINGS = {
    "hr": "h",
    "hour": "h",
    "hours": "h",
    "day": "d",
    "days": "d",
    "sec": "s",
    "second": "s",
    "seconds": "s",
} | dict.fromkeys(
    ("degC", "degc", "celsius", "Celsius", "degree_Celsius", "degrees_Celsius", "degree_celsius", "deg_C", "°C", "C"),
    "degC",
)
_SPELLINGS |= dict.fromkeys(("kelvin", "Kelvin", "degK", "deg_K"), "K") | {"percent": "%", "mbar": "hPa"}
# unit -> (quantity, scale, offset): value in the quantity's base unit = scale * value + offset. 1 kg m-2 of water is
# 1 mm.
_UNITS = {
    "h-1 mm": ("rate", 1.0, 0.0), "d-1 mm": ("rate", 1 / 24, 0.0), "mm s-1": ("rate", 3600.0, 0.0),
    "mm min-1": ("rate", 60.0, 0.0),
    "kg m-2 s-1": ("rate", 3600.0, 0.0), "h-1 kg m-2": ("rate", 1.0, 0.0), "d-1 kg m-2": ("rate", 1 / 24, 0.0),
    "m s-1": ("rate", 3.6e6, 0.0), "h-1 m": ("rate", 1000.0, 0.0), "cm h-1": ("rate", 10.0, 0.0),
    "mm": ("depth", 1.0, 0.0), "m": ("depth", 1000.0, 0.0), "kg m-2": ("depth", 1.0, 0.0),
    "K": ("temperature", 1.0, 0.0), "degC": ("temperature", 1.0, 273.15),
    "Pa": ("pressure", 1.0, 0.0), "hPa": ("pressure", 100.0, 0.0), "1": ("share", 1.0, 0.0), "%": ("share", 0.01, 0.0),
}  # fmt: skip


class UnitsWarning(Notice):
    """A field without units is taken to have those wanted."""


def convert_units(da: xr.DataArray, to: str | None) -> xr.DataArray:
    """``da`` in the units ``to``; unchanged when ``to`` is empty.

    Units spelt differently are equal. A field without units is passed through with a `UnitsWarning`.

    Raises:
        InputError: if the units do not measure the same quantity, or are not known.
    """
    if not to:
        return da
    has = str(da.attrs.get("units", "")).strip()
    if not has:
        warnings.warn(f"variable {da.name} has no units; they are taken to be {to}", UnitsWarning, stacklevel=2)
        return da.assign_attrs(units=to)
    scale, offset = conversion(has, to, f"variable {da.name}")
    converted = (
        da
        if (scale, offset) == (1.0, 0.0)
        else da.astype("float32" if da.dtype.itemsize <= 4 else "float64") * scale + offset
    )
    return converted.assign_attrs(da.attrs | {"units": to})


def conversion(has: str, to: str, what: str = "the field") -> tuple[float, float]:
    """(scale, offset) with value in ``to`` = scale * value in ``has`` + offset.

    Raises:
        InputError: if the units do not measure the same quantity, or are not known.
    """
    first, second = _plain(has), _plain(to)
    if first == second:
        return 1.0, 0.0
    if first not in _UNITS or second not in _UNITS or _UNITS[first][0] != _UNITS[second][0]:
        raise InputError(
            f"{what} is in {has!r}, which cannot be converted to {to!r}: convert it or correct its units attribute"
        )
    (_, a, b), (_, c, d) = _UNITS[first], _UNITS[second]
    return a / c, (b - d) / c


def _plain(units: str) -> str:
    """One spelling of a unit: factors in alphabetical order, ``mm/h`` and ``mm h**-1`` as ``h-1 mm``."""
    text = units.strip().replace("**", "").replace("^", "").replace("⁻¹", "-1").replace("·", " ").replace("*", " ")
    text = re.sub(r"/\s*([a-zA-Z°%]+)(\d*)", lambda m: f" {m[1]}-{m[2] or 1}", text)
    factors = []
    for factor in re.sub(r"(?<=[a-zA-Z])\.(?=[a-zA-Z])", " ", text).split():
        match = re.fullmatch(r"(.*?)(-?\d+)?", factor)
        base, power = (match.group(1), match.group(2)) if match else (factor, None)
        factors.append(_SPELLINGS.get(base, base) + ("" if power in (None, "1") and base else power or ""))
    return " ".join(sorted(factors))


_RAIN = ("rain", "precip")


def is_rain(da: xr.DataArray) -> bool:
    """Whether names or units say rain (or any precipitation)."""
    words = " ".join(
        str(v).lower() for v in (da.name, da.attrs.get("standard_name", ""), da.attrs.get("long_name", ""))
    )
    units = str(da.attrs.get("units", ""))
    return (
        any(word in words for word in _RAIN)
        or ("mm" in units and is_rate(units))
        or units in ("kg m-2 s-1", "kg m**-2 s**-1")
    )


def in_mm_per_hour(da: xr.DataArray) -> xr.DataArray:
    """Rain rates in mm/h; rain in units that are no rate unchanged."""
    return convert_units(da, "mm/h") if is_rate(str(da.attrs.get("units", ""))) else da


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
    return convert_units(da, str(wanted))


def is_rate(units: str) -> bool:
    """Whether units are those of a rain rate."""
    try:
        conversion(units, "mm/h")
    except InputError:
        return False
    return True
