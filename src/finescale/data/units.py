"""Conversion between units, written as UDUNITS and the CF conventions have them: ``mm h-1``, ``kg m**-2 s**-1``, ``%``.

pint knows the units and computes with fractions here, so that the factor between two units is the float nearest to the
exact one: 3600 from kg m-2 s-1 to mm/h, not 3600.0000000000005. Beyond pint's definitions there is one rule: 1 kg m-2
of water is 1 mm, as an amount and as a rate.
"""

from __future__ import annotations

import re
import warnings
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import xarray as xr

from finescale.data.lazy import is_lazy, mapped
from finescale.errors import InputError, Notice

if TYPE_CHECKING:
    from pint import UnitRegistry

_DEFINITIONS = """
@alias degree_Celsius = C = deg_C = Celsius = degrees_Celsius = degree_celsius = degree_C = degc
@alias kelvin = Kelvin = deg_K
@context water
    [mass] / [length] ** 2 -> [length]: value / (1000 * kilogram / meter ** 3)
    [length] -> [mass] / [length] ** 2: value * (1000 * kilogram / meter ** 3)
    [mass] / [length] ** 2 / [time] -> [length] / [time]: value / (1000 * kilogram / meter ** 3)
    [length] / [time] -> [mass] / [length] ** 2 / [time]: value * (1000 * kilogram / meter ** 3)
@end
"""
_NUMBER = r"\d{1,4}(?:\.\d{1,8})?(?:[eE][-+]?\d{1,2})?"
_NAME = r"[A-Za-zµμ°%_]+(?:\s?(?:\*\*|\^)\s?)?(?:[-+]?\d|⁻?[¹²³⁴-⁹])?"
_FACTOR = rf"\(?(?:{_NUMBER}|{_NAME})\)?"
# pint evaluates what it is given as an expression: 9**9**9 would not end, and "0-1", a share in some files, be -1.
# Only products and quotients of named units with one-digit powers get there.
_PRODUCT = re.compile(rf"{_FACTOR}(?:(?:\s*[*/.·]\s*|\s+){_FACTOR})*")
_LONGEST = 64
# Where m2 and s-1 lack the sign of a power, but not within 1e-3.
_POWER = re.compile(r"(?<=[^\W\d_])(?<!\d[eE])(?=[-+]?\d)")


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
    has = _text(da)
    if not has:
        warnings.warn(f"variable {da.name} has no units; they are taken to be {to}", UnitsWarning, stacklevel=2)
        return da.assign_attrs(units=to)
    scale, offset = conversion(has, to, f"variable {da.name}")
    if (scale, offset) != (1.0, 0.0):
        dtype, attrs = "float32" if da.dtype.itemsize <= 4 else "float64", da.attrs
        if is_lazy(da):  # arithmetic would read it whole
            da = mapped(da, lambda values: values.astype(dtype) * scale + offset, dtype)
        else:
            da = (da.astype(dtype) * scale + offset).assign_attrs(attrs)
    return da.assign_attrs(units=to)


def conversion(has: str, to: str, what: str = "the field") -> tuple[float, float]:
    """(scale, offset) with value in ``to`` = scale * value in ``has`` + offset.

    Raises:
        InputError: if the units do not measure the same quantity, or are not known.
    """
    found = (1.0, 0.0) if has.strip() == to.strip() else _affine(has.strip(), to.strip())
    if found is None:
        first, second = (text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..." for text in (has, to))
        timed = any(_affine(*pair) for pair in ((f"{has} s-1", to), (f"{to} s-1", has)))
        hint = f", or, by the lengths of its intervals, read FILE?units={second}" if timed else ""
        raise InputError(
            f"{what} is in {first!r}, which cannot be converted to {second!r}: convert it or mend its units attribute"
            f"{hint}"
        )
    return found


@lru_cache(maxsize=256)
def _affine(has: str, to: str) -> tuple[float, float] | None:
    """(scale, offset) of `conversion`; None where there is none."""
    if not all(len(text) <= _LONGEST and _PRODUCT.fullmatch(text) for text in (has, to)):
        return None
    registry = _registry()
    try:
        one: Any
        wanted: Any
        one, wanted = (registry.Quantity(_POWER.sub("**", text.replace("%", "percent"))) for text in (has, to))
        low, high = (registry.Quantity(Fraction(n) * one.magnitude, one.units).to(wanted.units) for n in (0, 1))
        scale = float((high.magnitude - low.magnitude) / wanted.magnitude)
        offset = float(low.magnitude / wanted.magnitude)
    except Exception:  # pint raises its own errors and Python's: of syntax, attributes, arithmetic
        return None
    return (scale, offset) if scale > 0 else None


@lru_cache(maxsize=1)
def _registry() -> UnitRegistry[Any]:
    """pint's units, in fractions, and ours; loaded when two units are first spelt differently."""
    import pint

    registry: UnitRegistry[Any] = pint.UnitRegistry(non_int_type=Fraction)
    registry.load_definitions(_DEFINITIONS.splitlines())
    registry.enable_contexts("water")
    return registry


# Not terrain, train or constraint; precipitable water is vapour.
_RAIN = re.compile(r"(?<![bdfgprt])rain|precip(?!itable)|snowfall")
_SHORT = {"pr", "prec", "prcp", "rr", "tp"}
"""Names that models and services give it; of a rate or a depth."""
# Wind in m s-1 cannot be told from rain by its units; in these it can.
_SPEED = re.compile(r"\b(km|knots?|kn|kts?|miles?|mi|mph|kph)\b")
_OTHERS = ("K", "percent", "Pa")
"""Of the temperature, the probability or the pressure at which it rains."""


def is_rain(da: xr.DataArray) -> bool:
    """Whether a field is rain, or any precipitation: by its standard name where it has one, its names, or its units.

    A speed in m s-1 is rain only by a name: wind is measured in it too.
    """
    units, standard = _text(da), str(da.attrs.get("standard_name") or "").lower()
    words = (standard,) if standard else (str(da.name).lower(), str(da.attrs.get("long_name", "")).lower())
    water = "mm" in units or "kg" in units
    if any(map(_RAIN.search, words)):
        return water or units == "1" or not any(_affine(units, other) for other in _OTHERS)
    return not standard and (
        (str(da.name).lower() in _SHORT and wet_day(units) is not None)
        or ("mm" in units and is_rate(units))
        or ("kg" in units and _affine(units, "kg m-2 s-1") == (1.0, 0.0))
    )


def in_mm_per_hour(da: xr.DataArray) -> xr.DataArray:
    """Rain rates in mm/h; rain in units that are no rate unchanged."""
    return convert_units(da, "mm/h") if is_rate(_text(da)) else da


def same_units(da: xr.DataArray, like: xr.DataArray, notes: list[str]) -> xr.DataArray:
    """``da`` in the units of ``like``; a note where it has none.

    Raises:
        InputError: for units of another quantity.
    """
    has, wanted = _text(da), _text(like)
    if not wanted or has == wanted:
        return da
    if not has:
        notes.append(f"Variable {da.name} has no units; they are taken to be {wanted}.")
        return da.assign_attrs(units=wanted)
    return convert_units(da, wanted)


def wet_day(units: str) -> float | None:
    """1 mm of rain in a day in ``units``, of a rate or a depth; None in others.

    Less its millionth part: a day of just 1 mm, divided by 24 in single precision, is wet.
    """
    for one in ("mm/day", "mm"):
        found = _affine(one, units.strip())
        if found is not None:
            return found[0] * (1 - 1e-6)
    return None


def is_kelvin(units: str) -> bool:
    """Whether units are kelvins."""
    return units.strip() == "K" or _affine(units.strip(), "K") == (1.0, 0.0)


def is_celsius(units: str) -> bool:
    """Whether units are degrees Celsius, however spelt."""
    return _affine(units.strip(), "degC") == (1.0, 0.0)


def is_rate(units: str) -> bool:
    """Whether units are those of a rain rate."""
    return not _SPEED.search(units) and _affine(units.strip(), "mm/h") is not None


def _text(da: xr.DataArray) -> str:
    """The units of ``da``, empty where it has none; a number, as in ``units = 1``, written out."""
    value = da.attrs.get("units")
    return "" if value is None else str(value).strip()
