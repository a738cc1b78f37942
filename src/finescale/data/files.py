"""Files in and out: NetCDF, Zarr, GRIB and GeoTIFF as labelled fields; NetCDF and Zarr written whole or not at all.

The format is told by a file's first bytes, not by its name, and xarray is given the reader's class: to guess a reader,
or to find it by name, it imports every one that is installed, in an order that crashes at exit (`_bind_proj`).
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import xarray as xr

from finescale.data import classic
from finescale.data.atomic import atomic, explained, sole_writer
from finescale.data.reader import Engine, Reader, check_types, first_line, watched
from finescale.errors import InputError, nearest
from finescale.grids import coordinates, relabel
from finescale.signals import ending_at_checks

_HDF5, _TIFF = b"\x89HDF\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
CHUNK = "16MiB"
"""Size of the chunks that ``chunks="auto"`` makes."""
_ZARR_MARKS = ("zarr.json", ".zgroup", ".zmetadata")
_KINDS = {"b": "truth values", "c": "complex numbers", "m": "durations", "M": "dates", "V": "records"}
_LONGEST_NAME = 255
"""Bytes of a name in NetCDF, and of a file; an output needs some for the name under which it grows."""
_LONGEST_OUTPUT = 200


def open_store(path: str | Path, chunks: Any = "auto") -> xr.Dataset:
    """Open a NetCDF, Zarr, GRIB or GeoTIFF store lazily.

    Args:
        path: a file, or the folder of a Zarr store.
        chunks: dask chunks as in xarray; ``{}`` for those on disk, None for no dask.

    Raises:
        InputError: for a path that is missing, unreadable, truncated or of another format, or a reader not installed.
    """
    path = Path(path)
    if not _exists(path):
        raise InputError(f"{path} does not exist{_similar(path)}")
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is neither a file nor a folder, but a pipe or a device: save it as a file first")
    try:
        with dask.config.set({"array.chunk-size": CHUNK}):
            return _open(path, chunks)
    except InputError:
        raise
    except PermissionError:
        raise InputError(f"{path} may not be read: check its permissions") from None
    except Exception as error:  # every reader raises classes of its own for damaged files
        raise InputError(f"{path} cannot be read: it may be truncated or damaged ({first_line(error)})") from error


def open_field(path: str | Path, variable: str | None = None, chunks: Any = "auto") -> xr.DataArray:
    """Open one variable as ([realization,] time, y, x), with bounds and grid mapping; see `open_store` and `select`."""
    return select(open_store(path, chunks), variable, str(path))


def select(ds: xr.Dataset, variable: str | None = None, source: str = "the dataset") -> xr.DataArray:
    """The variable of ``ds`` as ([realization,] time, y, x), with its bounds and grid mapping attached.

    Without a name the only gridded variable is taken.

    Raises:
        InputError: if the variable is absent, several are gridded and none is named, or none is.
    """
    names = [str(name) for name in gridded(ds)]
    if variable is None:
        if len(names) != 1:
            others = (
                ", ".join(f"{name} ({', '.join(map(str, ds[name].dims))})" for name in ds.data_vars) or "none at all"
            )
            if names:
                raise InputError(
                    f"{source} has several gridded variables: {', '.join(names)}; name one with --variable"
                )
            plane = [name for name, da in ds.data_vars.items() if da.dtype.kind not in "fiu" and _plane(da)]
            if plane:
                raise InputError(_no_numbers(ds[plane[0]], source))
            raise InputError(
                f"{source} has no variable with a y and an x dimension; it has {others}: "
                "name them y and x or lat and lon"
            )
        variable = names[0]
    if variable in ds.data_vars and ds[variable].dtype.kind not in "fiu":
        raise InputError(_no_numbers(ds[variable], source))
    if variable not in ds.data_vars:
        raise InputError(
            f"{source} has no variable {variable!r}; it has {', '.join(names) or 'none that is gridded'}"
            f"{_close(variable, names)}"
        )
    with _named(source):
        coordinates.check_axes(ds[variable])
        field = coordinates.canonical(coordinates.with_bounds(ds[variable], ds))
        coordinates.check_latitudes(field)
    return field


def gridded(ds: xr.Dataset) -> list[Hashable]:
    """The names of the numeric data variables with a y and an x dimension, without bounds and ancillary ones."""
    related = {
        name
        for v in ds.variables.values()
        for key in ("bounds", "grid_mapping", "ancillary_variables")
        for names in (v.attrs.get(key), v.encoding.get(key))
        if isinstance(names, str)
        for name in names.split()
    }
    numeric = {n: da for n, da in ds.data_vars.items() if str(n) not in related and da.dtype.kind in "fiu"}
    with _named(str(ds.encoding.get("source", "the dataset"))):
        return [n for n, da in numeric.items() if coordinates.has_plane(da)]


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Put the name of the file before what is said of it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _plane(da: xr.DataArray) -> bool:
    """Whether a variable that is not numeric looks like a field."""
    return da.ndim > 1 and coordinates.has_plane(da)


def _no_numbers(da: xr.DataArray, source: str) -> str:
    kind = _KINDS.get(da.dtype.kind, "text")
    return f"{source}: variable {da.name} holds {kind}, not numbers: convert it, or name another one with --variable"


def check_output(path: str | Path, overwrite: bool = False) -> Path:
    """The path of a NetCDF or Zarr output that may be written.

    Raises:
        InputError: for another suffix, a folder that is missing, or an output that exists without ``overwrite``.
    """
    path = Path(path)
    if path.suffix not in (".nc", ".zarr"):
        raise InputError(f"the output {path} must end in .nc or .zarr")
    if len(os.fsencode(path.name)) > _LONGEST_OUTPUT:
        raise InputError(
            f"the name of the output {path.name[:20]}… is too long: give it at most {_LONGEST_OUTPUT} bytes"
        )
    if not _exists(path.parent) or not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} of the output does not exist: create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"the folder {path.parent} of the output may not be written: check its permissions")
    if not path.exists() and not path.is_symlink():
        return path
    if not overwrite:
        raise InputError(f"the output {path} exists: choose another name or give --overwrite")
    if (path.suffix == ".nc" and path.is_dir()) or (path.suffix == ".zarr" and not (path.is_dir() and _is_zarr(path))):
        raise InputError(
            f"{path} is there and is no {path.suffix[1:]} output, so that it is not overwritten: name another"
        )
    return path


def check_apart(source: str | Path, out: str | Path | None) -> None:
    """Refuse to write over what is being read.

    Raises:
        InputError: if both are one file or folder.
    """
    if out is not None and _exists(Path(out)) and os.path.samefile(source, out):
        raise InputError(f"the output {out} is the input itself: choose another name")


def write(
    ds: xr.Dataset,
    path: str | Path,
    overwrite: bool = False,
    encoding: Mapping[Hashable, Mapping[str, Any]] | None = None,
) -> None:
    """Write ``ds`` to NetCDF (.nc) or Zarr (.zarr), in float32 and compressed, under its name only once it is whole.

    Args:
        ds: the dataset; dask arrays are computed chunk by chunk.
        path: the output.
        overwrite: whether to replace an output that exists.
        encoding: encodings of variables, beyond the compression.

    Raises:
        InputError: if the output exists or the write fails; nothing is then left under the name.
    """
    path = check_output(path, overwrite)
    ds = prepared(ds)
    for name, given in (encoding or {}).items():
        ds[name].encoding |= dict(given)
    # Inside too: what failed is there then, and a full disk still full.
    with explained(path), sole_writer(path), atomic(path) as temporary, explained(path):
        if path.suffix == ".nc":
            for da in ds.data_vars.values():
                if da.dtype.kind == "f" and da.ndim > 2:
                    da.encoding |= {"zlib": True, "complevel": 1, "shuffle": True}
            with ending_at_checks():
                ds.to_netcdf(temporary, engine="netcdf4")
        else:
            with ending_at_checks():
                ds.to_zarr(temporary, mode="w", consolidated=False)
                consolidate(temporary)


def consolidate(path: Path) -> None:
    """Put a Zarr store's metadata in one place, where xarray looks for them: it warns of a store without."""
    import zarr

    with warnings.catch_warnings():
        # Zarr's own warnings: the specification of its format 3 does not have them yet, and a journal is none of it.
        warnings.simplefilter("ignore", UserWarning)
        zarr.consolidate_metadata(str(path))


def prepared(ds: xr.Dataset) -> xr.Dataset:
    """``ds`` without what its source files said of their storage, floats in float32, no fill values in coordinates.

    Raises:
        InputError: for names that no file takes.
    """
    ds = ds.copy()
    for name in (*ds.variables, *ds.dims):
        if len(str(name).encode(errors="surrogateescape")) > _LONGEST_NAME or "/" in str(name):
            raise InputError(
                f"the name {str(name)[:40]!r} cannot be written: give it at most {_LONGEST_NAME} bytes and no slash"
            )
    for name, variable in ds.variables.items():
        if name in ds.coords:
            variable.encoding = {
                k: v
                for k, v in variable.encoding.items()
                if k in ("units", "calendar", "dtype") and "units" in variable.encoding
            }
            variable.encoding["_FillValue"] = None
        else:
            variable.encoding = {"dtype": "float32", "_FillValue": float("nan")} if variable.dtype.kind == "f" else {}
            mapping = variable.attrs.pop("grid_mapping", None)
            if mapping in ds.variables:
                variable.encoding["grid_mapping"] = mapping
    for name in list(ds.data_vars):
        first, *others = ds[name].dims or ("",)
        if first == "realization" and len(others) == 3:
            ds[name] = ds[name].transpose(*relabel.file_order([first], others))
    # Bounds belong to their coordinates; as coordinates themselves xarray would list them in a global attribute.
    return ds.reset_coords([name for c in ds.coords.values() if (name := c.attrs.get("bounds")) in ds.coords])


def _is_zarr(path: Path) -> bool:
    return any((path / mark).is_file() for mark in _ZARR_MARKS)


def _exists(path: Path) -> bool:
    """Whether ``path`` is there; a name that no file can have is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _open(path: Path, chunks: Any) -> xr.Dataset:
    if path.is_dir():
        if not _is_zarr(path):
            raise InputError(f"the folder {path} is not a Zarr store (it has no zarr.json or .zgroup)")
        return _read(path, xr.backends.ZarrBackendEntrypoint, chunks, consolidated=False)
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(classic.MAGIC):
        classic.check_length(path)
        return _read(path, xr.backends.NetCDF4BackendEntrypoint, chunks)
    if start == _HDF5:
        check_types(path)
        return _read(path, xr.backends.NetCDF4BackendEntrypoint, chunks)
    if start.startswith(b"GRIB"):
        _require("cfgrib", "GRIB", "grib")
        _bind_proj()
        from cfgrib.xarray_plugin import CfGribBackend

        return _read(path, CfGribBackend, chunks, indexpath="")
    if start.startswith(_TIFF):
        return _open_tiff(path, chunks)
    raise InputError(f"{path} is not a NetCDF, Zarr, GRIB or GeoTIFF file")


def _read(path: Path, reader: Engine, chunks: Any, **settings: Any) -> xr.Dataset:
    return xr.open_dataset(path, engine=Reader, chunks=chunks, backend_kwargs={"reader": reader, "settings": settings})


def _bind_proj() -> None:
    """Load pyproj, where it is installed, before eccodes; GeoTIFF and coastlines may need it later in the process.

    eccodes puts its libraries, a PROJ among them, into the global scope (RTLD_GLOBAL, by findlibs). A pyproj loaded
    after it takes its symbols from that PROJ in place of its own, another version: projections fail, and objects that
    both define are destroyed twice at exit, "double free or corruption". One loaded before is bound (RTLD_NOW).
    """
    if "gribapi" not in sys.modules and importlib.util.find_spec("pyproj"):
        importlib.import_module("pyproj")


def _open_tiff(path: Path, chunks: Any) -> xr.Dataset:
    _require("rioxarray", "GeoTIFF", "geo")
    import rioxarray

    da = rioxarray.open_rasterio(path, masked=True)
    assert isinstance(da, xr.DataArray)
    da.attrs = {
        key: value for key, value in da.attrs.items() if key not in ("scale_factor", "add_offset", "_FillValue")
    }
    bands = {f"band_{int(band)}": da.sel(band=band, drop=True) for band in da["band"].values}
    ds = watched(xr.Dataset({"band": bands["band_1"]} if len(bands) == 1 else bands), path)
    return ds if chunks is None else ds.chunk(chunks)


def _require(module: str, kind: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise InputError(f"reading {kind} needs {module}: pip install 'finescale[{extra}]'")


def _close(name: str, names: list[str]) -> str:
    hint = nearest(name, names)
    return hint if "did you mean" in hint else ""


def _similar(path: Path) -> str:
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return _close(path.name, names)
