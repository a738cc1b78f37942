"""ODIM HDF5 of weather radars: Cartesian images and composites (object IMAGE, COMP), one variable a quantity.

``what`` says how values are decoded (gain, offset, nodata, undetect) and when they hold; ``where`` gives the projection
(a PROJ string), the size of the cells and the corners in longitude and latitude. The first row lies in the north.

Source: EUMETNET OPERA data information model for HDF5, version 2.4, sections 3 to 5.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from finescale.data import radar
from finescale.data.named import Entry
from finescale.data.reader import guarded, watched
from finescale.errors import InputError, Notice

if TYPE_CHECKING:
    import netCDF4

IMAGES = ("COMP", "IMAGE")
QUANTITIES = {
    "RATE": ("mm h-1", "rain rate", "rainfall_rate"),
    "ACRR": ("mm", "accumulated rain", "lwe_thickness_of_precipitation_amount"),
    "DBZH": ("dBZ", "reflectivity, horizontal", "equivalent_reflectivity_factor"),
    "TH": ("dBZ", "total reflectivity, horizontal", ""),
    "HGHT": ("km", "height", ""),
}
"""Units, name and CF standard name of quantities."""


def is_odim(path: Path) -> bool:
    """Whether an HDF5 file follows ODIM; one that cannot be opened does not."""
    import netCDF4

    try:
        with netCDF4.Dataset(str(path)) as file:
            return _text(file, "Conventions").startswith("ODIM_H5")
    except OSError:
        return False


def opened(entry: Entry, chunks: Any) -> xr.Dataset:
    """The images of a file, lazy, with times, coordinates in the projection and its grid mapping.

    Raises:
        InputError: for polar data, images of several sizes, or a file that lacks what it must have.
    """
    import netCDF4

    path = entry.file
    with netCDF4.Dataset(str(path)) as file:
        kind = _text(file.groups.get("what"), "object")
        if kind not in IMAGES:
            raise InputError(
                f"{path} holds {kind or 'nothing that it names'}, no image on a grid (COMP or IMAGE): make a composite "
                "of it first"
            )
        coords = _coords(file, path)
        found = dict(_images(file, path))
    if not found:
        raise InputError(f"{path} has no image in it")
    fields: dict[str, xr.DataArray] = {}
    for group, tags in found.items():
        quantity = tags["quantity"]
        if quantity in fields:
            raise InputError(f"{path} has {quantity} more than once, the last time in {group}: split it")
        fields[quantity] = _field(path, group, tags, coords, chunks)
    ds = xr.Dataset(fields, coords=coords, attrs={"source": "ODIM HDF5"})
    start, end = (np.datetime64(tags[key], "ns") for key in ("start", "end"))
    ds = ds.assign_coords(time=("time", [end], {"standard_name": "time"}))
    if end > start:
        ds["time"].attrs["bounds"] = "time_bnds"
        ds = ds.assign_coords(time_bnds=(("time", "bnds"), [[start, end]]))
    return watched(ds, path)


def _field(path: Path, group: str, tags: Mapping[str, Any], coords: Mapping[str, Any], chunks: Any) -> xr.DataArray:
    """One image (time, y, x) with one time, decoded; the NetCDF library reads HDF5."""
    quantity = tags["quantity"]
    units, long_name, standard = QUANTITIES.get(quantity, ("", quantity, ""))
    attrs = {"units": units, "long_name": long_name, "grid_mapping": "projection"}
    attrs |= {"standard_name": standard} if standard else {}
    attrs |= {"cell_methods": "time: sum"} if quantity == "ACRR" else {}
    engine = xr.backends.NetCDF4BackendEntrypoint
    as_stored: Any = dict.fromkeys(("mask_and_scale", "decode_times", "decode_coords", "concat_characters"), False)
    chunks = "auto" if chunks is None else chunks
    raw = guarded(
        xr.open_dataset(path, engine=engine, group=group, chunks=None, cache=False, **as_stored)["data"], path
    )
    shape = coords["y"][1].size, coords["x"][1].size
    if raw.shape != shape:
        raise InputError(f"{path}: {group} has {raw.shape} cells, not {shape} as where says: it is not whole")
    numbers = xr.DataArray(raw.chunk(chunks).data, dims=("y", "x"), attrs=attrs)
    return radar.decoded(numbers, {**tags, "units": units}).expand_dims("time")


def _images(file: netCDF4.Dataset, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(group, how it is decoded) of every image; what a data set does not say, the set above it says."""
    for number, dataset in _numbered(file, "dataset"):
        for part, data in _numbered(dataset, "data"):
            group = f"{number}/{part}"
            whats = [node.groups.get("what") for node in (data, dataset, file)]
            quantity = next((text for what in whats if (text := _text(what, "quantity"))), "")
            if not quantity or "data" not in data.variables:
                raise InputError(f"{path}: {group} names no quantity or has no data: it is not whole")
            tags: dict[str, Any] = {"quantity": quantity, "start": _time(whats, "start"), "end": _time(whats, "end")}
            for key in ("gain", "offset", "nodata", "undetect"):
                said = [what.getncattr(key) for what in whats if what is not None and key in what.ncattrs()]
                if said:
                    tags[key] = float(said[0])
            if not all(tags[key] for key in ("start", "end")):
                raise InputError(f"{path}: {group} does not say when it holds (startdate, date): it is not whole")
            yield group, tags


def _numbered(node: netCDF4.Dataset, word: str) -> Iterator[tuple[str, netCDF4.Dataset]]:
    names = sorted((n for n in node.groups if re.fullmatch(rf"{word}\d+", n)), key=lambda n: int(n.removeprefix(word)))
    yield from ((name, node.groups[name]) for name in names)


def _time(whats: list[Any], end: str) -> str:
    for what in whats:
        for date, clock in ((f"{end}date", f"{end}time"), ("date", "time")):
            day, hour = _text(what, date), _text(what, clock)
            if len(day) == 8 and len(hour) >= 4:
                seconds = hour[4:6] or "00"
                return f"{day[:4]}-{day[4:6]}-{day[6:]}T{hour[:2]}:{hour[2:4]}:{seconds}"
    return ""


def _coords(file: netCDF4.Dataset, path: Path) -> dict[str, Any]:
    """Cell centres in metres, first row in the north, and the grid mapping."""
    where: Any = file.groups.get("where")
    try:
        size = {key: float(where.getncattr(key)) for key in ("xscale", "yscale", "xsize", "ysize")}
        corner = float(where.getncattr("LL_lon")), float(where.getncattr("LL_lat"))
    except (KeyError, AttributeError, TypeError):
        raise InputError(
            f"{path} does not say where it lies (where: xscale, xsize, LL_lon …): it is not whole"
        ) from None
    west, south, mapping = _origin(_text(where, "projdef"), corner, path)
    x = west + (np.arange(size["xsize"]) + 0.5) * size["xscale"]
    y = south + (np.arange(size["ysize"])[::-1] + 0.5) * size["yscale"]
    said = {"units": "m"}
    return {
        "y": ("y", y, said | {"standard_name": "projection_y_coordinate"}),
        "x": ("x", x, said | {"standard_name": "projection_x_coordinate"}),
        "projection": ((), 0, mapping),
    }


def _origin(projection: str, corner: tuple[float, float], path: Path) -> tuple[float, float, dict[str, Any]]:
    """x and y of the lower left corner and the grid mapping; from the corner on where pyproj is not installed."""
    said = {"proj4_params": projection} if projection else {}
    if not projection or importlib.util.find_spec("pyproj") is None:
        why = "names no projection" if not projection else "is counted from its corner without pyproj"
        more = "" if not projection else ": pip install 'finescale[geo]' for coordinates of its projection"
        warnings.warn(f"{path} {why}: y and x begin at 0{more}", Notice, stacklevel=2)
        return 0.0, 0.0, said
    import pyproj

    crs = pyproj.CRS.from_user_input(projection)
    west, south = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*corner)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a PROJ string says less than CF
        return round(west, 1), round(south, 1), crs.to_cf() | said


def _text(node: Any, key: str) -> str:
    """An attribute as text; empty where there is none."""
    return str(node.getncattr(key)) if node is not None and key in node.ncattrs() else ""
