"""Files of every format as datasets of xarray, lazily: which reader, told by a file's first bytes, not by its name.

xarray is given the reader's class: to guess a reader, or to find it by name, it imports every one that is installed,
in an order that crashes at exit (`finescale.data.grib`).
"""

from __future__ import annotations

import atexit
import gzip
import importlib.util
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import xarray as xr

from finescale.data import classic
from finescale.data.named import Entry
from finescale.data.reader import Engine, Reader, check_types
from finescale.errors import InputError

_HDF5, _GZIP, _PNG, _JPEG = b"\x89HDF\r\n\x1a\n", b"\x1f\x8b", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ZARR_MARKS = ("zarr.json", ".zgroup", ".zmetadata")
TIMELESS = (*_TIFF, _PNG, _JPEG)
"""First bytes of formats that do not hold times: names do."""


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return any((path / mark).is_file() for mark in _ZARR_MARKS)


def timeless(path: Path) -> bool:
    """Whether a file is of a format that does not hold times."""
    return path.is_file() and _start(path).startswith(TIMELESS)


def opened(entry: Entry, chunks: Any) -> xr.Dataset:
    """A file's dataset, decoded, its values watched over as they are read.

    Raises:
        InputError: for a format that is not read, a reader that is not installed, or keys of GRIB for another format.
    """
    path, settings = entry.path, entry.settings
    start = b"" if path.is_dir() else _start(path)
    if start.startswith(_GZIP):
        return opened(replace(entry, path=_unpacked(path, path.stat().st_mtime_ns), packed=path), chunks)
    if start.startswith(b"GRIB"):
        require("cfgrib", "GRIB", "grib")
        from finescale.data import grib

        return grib.opened(entry, chunks)
    if settings.keys:
        key = next(iter(settings.keys))
        raise InputError(
            f"{path} is no GRIB file, so that {key}={settings.keys[key]} selects nothing of it; other formats know "
            "zr, units, missing and undetect"
        )
    if path.is_dir():
        if not is_zarr(path):
            raise InputError(f"the folder {path} is not a Zarr store (it has no zarr.json or .zgroup)")
        return read(entry, xr.backends.ZarrBackendEntrypoint, chunks, consolidated=False)
    if start.startswith(classic.MAGIC):
        classic.check_length(path)
        return read(entry, xr.backends.NetCDF4BackendEntrypoint, chunks)
    if start == _HDF5:
        from finescale.data import odim

        if odim.is_odim(path):
            return odim.opened(entry, chunks)
        check_types(path)
        return read(entry, xr.backends.NetCDF4BackendEntrypoint, chunks)
    if start.startswith(_TIFF):
        require("rioxarray", "GeoTIFF", "geo")
        from finescale.data import tiff

        return tiff.opened(entry, chunks)
    if start.startswith((_PNG, _JPEG)):
        from finescale.data import pictures

        return pictures.opened(entry, chunks)
    raise InputError(f"{entry.name} is not a NetCDF, Zarr, GRIB, GeoTIFF, ODIM or PNG file")


def read(entry: Entry, reader: Engine, chunks: Any, **settings: Any) -> xr.Dataset:
    """A file opened with a reader of xarray."""
    arguments = {"reader": reader, "settings": settings, "marks": entry.settings.marks, "name": entry.name}
    return xr.open_dataset(entry.path, engine=Reader, chunks=chunks, backend_kwargs=arguments)


def require(module: str, kind: str, extra: str) -> None:
    """Refuse a format whose reader is not installed.

    Raises:
        InputError: that names the extra.
    """
    if importlib.util.find_spec(module) is None:
        raise InputError(f"reading {kind} needs {module}: pip install 'finescale[{extra}]'")


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


@cache
def _unpacked(path: Path, _changed: int) -> Path:
    """A compressed file's content, in a folder that goes when the process ends; its readers need a file."""
    name = path.stem if path.suffix == ".gz" else path.name
    with gzip.open(path) as packed, (_folder(path) / name).open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    return Path(plain.name)


@cache
def _folder(path: Path) -> Path:
    """A folder of its own for each file: two may have one name."""
    folder = tempfile.TemporaryDirectory(prefix="finescale-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    return Path(folder.name)
