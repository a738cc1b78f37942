"""Radar values: numbers decoded to quantities, and rain rates of reflectivity.

    Z = 10^(dBZ / 10) in mm⁶ m⁻³,    Z = a R^b,    R = (Z / a)^(1 / b) in mm h⁻¹

Marshall and Palmer (1948) have a = 200, b = 1.6 (https://doi.org/10.1175/1520-0469(1948)005<0165:TDORWS>2.0.CO;2). A
cell that the radar sees, without an echo, has no rain; in dBZ it has `FLOOR`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import xarray as xr

from finescale.errors import InputError, Notice

FLOOR = -32.0
"""dBZ of cells without an echo: the lowest value of products in steps of half a dBZ in a byte."""
_SPELLINGS = ("dbz", "db(z)", "dbzh")


def is_reflectivity(attrs: Mapping[Any, Any]) -> bool:
    """Whether a field's units are dBZ."""
    return str(attrs.get("units", "")).strip().lower() in _SPELLINGS


def nothing(attrs: Mapping[Any, Any]) -> float:
    """The value of a cell without an echo in a field of these attributes."""
    return FLOOR if is_reflectivity(attrs) else 0.0


def decoded(numbers: xr.DataArray, tags: Mapping[str, Any]) -> xr.DataArray:
    """Values of stored numbers: gain · number + offset; missing where it is ``nodata``, `nothing` for ``undetect``."""
    attrs = {key: tags[key] for key in ("long_name", "units") if tags.get(key)}
    values = (numbers.astype("float32") * tags.get("gain", 1.0) + tags.get("offset", 0.0)).astype("float32")
    values = values.assign_attrs(numbers.attrs | attrs)
    if "undetect" in tags:
        values = values.where(numbers != tags["undetect"], nothing(values.attrs))
    return values.where(numbers != tags["nodata"]) if "nodata" in tags else values


def rain_rates(ds: xr.Dataset, zr: tuple[float, float] | None, source: str) -> xr.Dataset:
    """``ds`` with rain rates in place of reflectivities; without a relation a Notice says how to ask for them.

    Raises:
        InputError: if a relation is given and there is no reflectivity.
    """
    found = [name for name, da in ds.data_vars.items() if da.ndim >= 2 and is_reflectivity(da.attrs)]
    if zr is None:
        if found:
            warnings.warn(
                f"{source}: {found[0]} is reflectivity in dBZ and is left so; {source.split('?')[0]}?zr=200,1.6 makes "
                "rain rates of it, by Z = 200 R^1.6",
                Notice,
                stacklevel=2,
            )
        return ds
    unnamed = [n for n, da in ds.data_vars.items() if da.ndim >= 2 and da.attrs.get("units", "") in ("", "unknown")]
    if not found and len(unnamed) == 1:
        found = unnamed  # of the format's own tables, which the reader may not have
    if not found:
        raise InputError(f"{source} has no variable in dBZ, so that zr has nothing to convert: leave it out")
    a, b = zr
    rates = {}
    for name in found:
        dbz = ds[name]
        rate = ((10.0 ** (dbz / 10.0) / a) ** (1.0 / b)).astype("float32").where((dbz > FLOOR) | dbz.isnull(), 0.0)
        attrs = {key: value for key, value in dbz.attrs.items() if key == "grid_mapping"}
        rate.attrs = attrs | {
            "units": "mm h-1",
            "standard_name": "rainfall_rate",
            "long_name": f"rain rate by Z = {a:g} R^{b:g}",
        }
        rate.encoding = {key: value for key, value in dbz.encoding.items() if key in ("grid_mapping", "source")}
        rates[name] = rate
    return ds.assign(rates)
