"""Files of every format as datasets of xarray, lazily: which reader, told by a file's first bytes, not by its name.

xarray is given the reader's class: to guess a reader, or to find it by name, it imports every one that is installed,
in an order that crashes at exit (`finescale.data.grib`).
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import shutil
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import xarray as xr

from finescale.data import classic
from finescale.data.named import Entry
from finescale.data.place import MARKS, Place, Remote, fetched, folder, reached
from finescale.data.reader import Engine, Reader, check_types
from finescale.errors import InputError

_HDF5, _GZIP, _PNG, _JPEG = b"\x89HDF\r\n\x1a\n", b"\x1f\x8b", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
TIMELESS = (*_TIFF, _PNG, _JPEG)
"""First bytes of formats that do not hold times: names do."""


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return any((path / mark).is_file() for mark in MARKS)


def here(entry: Entry) -> Entry:
    """An entry whose file lies on this machine: of a remote one its copy; a Zarr store stays where it is.

    Raises:
        InputError: if there is no such file, or it cannot be reached.
    """
    if isinstance(entry.path, Path):
        return entry
    with reached(entry.path):
        if entry.path.zarr_metadata() is not None:
            return entry
    return replace(entry, path=fetched(entry.path), packed=entry.path)


def timeless(path: Place) -> bool:
    """Whether a file is of a format that does not hold times."""
    return isinstance(path, Path) and path.is_file() and _start(path).startswith(TIMELESS)


def opened(entry: Entry, chunks: Any) -> xr.Dataset:
    """A file's dataset, decoded, its values watched over as they are read.

    Raises:
        InputError: for a format that is not read, a reader that is not installed, or keys of GRIB for another format.
    """
    path, settings = entry.path, entry.settings
    if isinstance(path, Remote):
        return _remote(entry, path, chunks)
    start = b"" if path.is_dir() else _start(path)
    if start.startswith(_GZIP):
        return opened(
            replace(entry, path=_unpacked(path, path.stat().st_mtime_ns), packed=entry.packed or path), chunks
        )
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


def _remote(entry: Entry, path: Remote, chunks: Any) -> xr.Dataset:
    """A Zarr store behind a URL; its metadata in one place, where it has them there, save a request for each array."""
    with reached(path):
        mark, content = path.zarr_metadata() or ("", b"")
        together = mark == ".zmetadata" or _told_together(content)
        return read(entry, xr.backends.ZarrBackendEntrypoint, chunks, consolidated=together)


def _told_together(content: bytes) -> bool:
    """Whether a group's zarr.json holds what its arrays are like; some versions of zarr write null if it does not."""
    try:
        return bool(json.loads(content).get("consolidated_metadata"))
    except ValueError:  # what opens the store has better words
        return False


def read(entry: Entry, reader: Engine, chunks: Any, **settings: Any) -> xr.Dataset:
    """A file opened with a reader of xarray."""
    arguments = {"reader": reader, "settings": settings, "marks": entry.settings.marks, "name": entry.name}
    where: Any = entry.path.zarr(read_only=True) if isinstance(entry.path, Remote) else entry.path
    with warnings.catch_warnings():
        # Chunks are as large as what is read at once, whether or not the store's end there.
        warnings.filterwarnings("ignore", "The specified chunks separate", UserWarning)
        return xr.open_dataset(where, engine=Reader, chunks=chunks, backend_kwargs=arguments)


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
    with gzip.open(path) as packed, (folder(str(path)) / name).open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    return Path(plain.name)
