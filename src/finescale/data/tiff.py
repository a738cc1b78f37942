"""GeoTIFF: each band a variable, or what the file's own tags say of a single one: quantity, gain, offset, marks.

Radar services put these into tags of GDAL (Finland: ``Quantity``, ``Gain``, ``Offset``, ``Nodata``, ``Undetect``):
value = gain · number + offset, numbers ``Nodata`` missing, numbers ``Undetect`` without an echo.
"""

from __future__ import annotations

import os
from typing import Any
from xml.etree import ElementTree

import numpy as np
import xarray as xr

from finescale.data import radar
from finescale.data.named import Entry
from finescale.data.reader import guarded, watched


def opened(entry: Entry, chunks: Any) -> xr.Dataset:
    """The bands, lazy, their values decoded."""
    os.environ.setdefault("CPL_LOG", os.devnull)  # GDAL says on stderr what is odd in a file, in lines of its own
    import rioxarray

    da = rioxarray.open_rasterio(entry.file, masked=True)
    assert isinstance(da, xr.DataArray)
    tags, crs = _tags(da), da.rio.crs
    da = guarded(da, entry.name)
    if chunks is not None or tags or entry.settings.marks:
        da = da.chunk("auto" if chunks is None else chunks)
    kept = ("long_name", "units", "standard_name", "grid_mapping")
    da.attrs = {key: value for key, value in da.attrs.items() if key in kept and isinstance(value, str)}
    if tags:
        mapping = da.encoding.get("grid_mapping")
        da = radar.decoded(da, tags)
        da.encoding["grid_mapping"] = mapping
    for mark, value in entry.settings.marks.items():
        da = da.where(da != mark, radar.nothing(da.attrs) if value is None else value)
    if crs is not None and crs.is_projected and str(crs.linear_units).lower() in ("metre", "meter", "m"):
        for dim in ("y", "x"):
            da[dim].attrs |= {"units": "m", "standard_name": f"projection_{dim}_coordinate"}
    bands = {f"band_{int(band)}": da.sel(band=band, drop=True) for band in da["band"].values}
    return watched(xr.Dataset({"band": bands["band_1"]} if len(bands) == 1 else bands), entry.name)


def _tags(da: xr.DataArray) -> dict[str, Any]:
    """What the tags say of the values; empty where they say nothing."""
    given = {str(key): value for key, value in da.attrs.items()}
    items: dict[str, tuple[str, str]] = {key.lower(): (str(value), "") for key, value in given.items()}
    try:
        tree = ElementTree.fromstring(str(given.get("GDAL_METADATA", "")).strip())
    except ElementTree.ParseError:
        tree = ElementTree.Element("none")
    for item in tree.iter("Item"):
        items[str(item.get("name", "")).lower()] = ((item.text or "").strip(), str(item.get("unit", "")))
    found: dict[str, Any] = {}
    for tag in ("gain", "offset", "nodata", "undetect"):
        try:
            number = float(items[tag][0])
        except (KeyError, ValueError):
            continue
        if np.isfinite(number):
            found[tag] = number
    if "gain" not in found:
        return {}
    text, unit = items.get("quantity", ("", ""))
    return found | {"long_name": text, "units": unit}
