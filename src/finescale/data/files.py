"""Files in and out as labelled fields: any format read, NetCDF and Zarr written whole or not at all.

What a path may name is in `finescale.data.named`, the formats in `finescale.data.formats`, files that follow each other
in time in `finescale.data.series`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finescale.data.amounts import in_units
from finescale.data.atomic import explained, sole_writer
from finescale.data.formats import here, is_zarr, opened, timeless
from finescale.data.growing import UNFINISHED, UNTIL, check_remote, complete, growing
from finescale.data.named import Entry, Paths, entries, listed, query, title
from finescale.data.place import Place, Remote, place
from finescale.data.radar import rain_rates
from finescale.data.reader import unread
from finescale.data.series import groups, joined
from finescale.data.stamps import time_of
from finescale.errors import InputError, nearest
from finescale.grids import coordinates, relabel
from finescale.grids.curvilinear import AREA
from finescale.grids.dimensions import is_time
from finescale.signals import ending_at_checks

CHUNK = "16MiB"
"""Size of the chunks that ``chunks="auto"`` makes."""
_KINDS = {"b": "truth values", "c": "complex numbers", "m": "durations", "M": "dates", "V": "records"}
_ATTRIBUTE = re.compile(r"(?![ -/:-@\[-^`{-~])[^\x00-\x1f/\x7f\ud800-\udfff\ufffe\uffff]{1,255}(?<! )")
"""A name in NetCDF: no control characters, no slash, no mark or blank first, no blank last."""
_LONGEST_NAME = 255
"""Bytes of a name in NetCDF, and of a file; an output needs some for the name under which it grows."""
_LONGEST_OUTPUT = 200


def open_store(paths: Paths, chunks: Any = "auto") -> xr.Dataset:
    """Open what ``paths`` name, lazily: one store, or several files that follow each other in time as one.

    Args:
        paths: a file, the folder of a Zarr store, a glob, or several of them, each as `finescale.data.named` has it.
        chunks: dask chunks as in xarray; ``{}`` for those on disk, None for no dask where there is one store whose
            values are those stored.

    Raises:
        InputError: for a path that is missing, unreadable, truncated or of another format, a reader not installed, or
            files that do not belong together.
    """
    found, source = entries(paths), title(paths)
    computes = any(entry.settings.computes for entry in found)
    if chunks is None and (computes or len(found) > 1):
        chunks = "auto"  # without dask values would be read to be put together
    if len(found) == 1:
        return _ready(_opened(found[0], chunks), found[0], source)
    parts = [(str(entry.path), _opened(entry, chunks)) for entry in found]
    if len({(entry.settings.units, entry.settings.zr) for entry in found}) > 1:
        raise InputError(f"{source}: files of one field are read alike: give all of them the same units and zr")
    return _ready(joined(parts), found[0], source)


def open_field(paths: Paths, variable: str | None = None, chunks: Any = "auto") -> xr.DataArray:
    """Open one variable as ([realization,] time, y, x), with bounds and grid mapping; see `open_store` and `select`."""
    return select(open_store(paths, chunks), variable, title(paths))


def fields(paths: Paths) -> list[list[str]]:
    """Of several paths those that are one field together, as lists that `open_store` takes (`series.groups`).

    Of a glob whose files hold no times, such as photographs, each is a field of its own.

    Raises:
        InputError: for a path that is missing or cannot be read.
    """
    each = []
    for text in listed(paths):
        found = entries(text)
        apart = len(found) > 1 and all(timeless(here(e).path) and time_of(e.path, e.stamp) is None for e in found)
        each += [f"{e.path}{query(text)}" for e in found] if apart else [text]
    return groups(each, open_store)


def _chunks_of_a_size() -> AbstractContextManager[Any]:
    import dask

    set_to: AbstractContextManager[Any] = dask.config.set({"array.chunk-size": CHUNK})
    return set_to


def _opened(entry: Entry, chunks: Any) -> xr.Dataset:
    entry, path = here(entry), entry.path
    if isinstance(path, Path):
        if not _exists(path):
            raise InputError(f"{path} does not exist{_similar(path)}")
        if not (path.is_file() or path.is_dir()):
            raise InputError(f"{path} is neither a file nor a folder, but a pipe or a device: save it as a file first")
    try:
        with _chunks_of_a_size() if chunks is not None else nullcontext():
            ds = opened(entry, chunks)
    except InputError:
        raise
    except Exception as error:  # every reader raises classes of its own for damaged files
        raise InputError(f"{path} {unread(error)}") from error
    if UNFINISHED in ds.attrs:
        raise InputError(f"{path} is not finished: wait for the run that writes it, or continue it with --resume")
    when = time_of(path, entry.stamp) if entry.stamp or timeless(entry.path) else None
    if when is None or any(is_time(coord) for coord in ds.coords.values()):
        return ds  # what a file says of its times goes before its name
    return ds.assign_coords(time=((), when, {"standard_name": "time"}))


def _ready(ds: xr.Dataset, entry: Entry, source: str) -> xr.Dataset:
    """``ds`` with what was asked of its values."""
    ds = rain_rates(ds, entry.settings.zr, source)
    return in_units(ds, gridded(ds), entry.settings.units, source) if entry.settings.units else ds


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
        for key in ("bounds", "grid_mapping", "ancillary_variables", "cell_measures")
        for names in (v.attrs.get(key), v.encoding.get(key))
        if isinstance(names, str)
        for name in names.split()
    }
    numeric = {n: da for n, da in ds.data_vars.items() if str(n) not in related and da.dtype.kind in "fiu"}
    with _named(str(ds.encoding.get("source", "the dataset"))):
        planes = [n for n, da in numeric.items() if coordinates.has_plane(da) and not coordinates.is_place(da)]
        # Those with a dimension beyond cannot be read; where there are no others, what is said of them says it.
        return [n for n in planes if not coordinates.beyond(ds[n])] or planes


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Put the name of the file before what is said of it, unless it is named already."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(source) else f"{source}: {error}") from error


def _plane(da: xr.DataArray) -> bool:
    """Whether a variable that is not numeric looks like a field."""
    return da.ndim > 1 and coordinates.has_plane(da)


def _no_numbers(da: xr.DataArray, source: str) -> str:
    kind = _KINDS.get(da.dtype.kind, "text")
    return f"{source}: variable {da.name} holds {kind}, not numbers: convert it, or name another one with --variable"


def check_output(path: str | Path | Remote, overwrite: bool = False) -> Place:
    """Where a NetCDF or Zarr output may be written; an unfinished one behind a URL is for `open_output` to judge.

    Raises:
        InputError: for another suffix, a folder that is missing, or an output that exists without ``overwrite``.
    """
    where = place(path)
    if where.suffix not in (".nc", ".zarr"):
        raise InputError(f"the output {where} must end in .nc or .zarr")
    if len(os.fsencode(where.name)) > _LONGEST_OUTPUT:
        raise InputError(
            f"the name of the output {where.name[:20]}… is too long: give it at most {_LONGEST_OUTPUT} bytes"
        )
    if isinstance(where, Remote):
        check_remote(where, overwrite)
        return where
    if not _exists(where.parent) or not where.parent.is_dir():
        raise InputError(f"the folder {where.parent} of the output does not exist: create it first")
    if not os.access(where.parent, os.W_OK | os.X_OK):
        raise InputError(f"the folder {where.parent} of the output may not be written: check its permissions")
    if not where.exists() and not where.is_symlink():
        return where
    if not overwrite:
        raise InputError(f"the output {where} exists: choose another name or give --overwrite")
    zarr = where.is_dir() and is_zarr(where)
    if (where.suffix == ".nc" and where.is_dir()) or (where.suffix == ".zarr" and not zarr):
        raise InputError(
            f"{where} is there and is no {where.suffix[1:]} output, so that it is not overwritten: name another"
        )
    return where


def check_apart(source: Paths, out: str | Path | None) -> None:
    """Refuse to write over what is being read.

    Raises:
        InputError: if the output is one of the files or folders that ``source`` names.
    """
    if out is None:
        return
    where = place(out)
    if any(_same(entry.path, where) for entry in entries(source)):
        raise InputError(f"the output {out} is the input itself: choose another name")


def _same(one: Place, other: Place) -> bool:
    if isinstance(one, Remote) or isinstance(other, Remote):
        return one == other
    return _exists(one) and _exists(other) and os.path.samefile(one, other)


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
    where = check_output(path, overwrite)
    ds = prepared(in_file_order(ds))
    for name, given in (encoding or {}).items():
        ds[name].encoding |= dict(given)
    # Inside too: what failed is there then, and a full disk still full.
    with explained(where), sole_writer(where), growing(where, overwrite) as temporary, explained(where):
        if where.suffix == ".nc":
            for da in ds.data_vars.values():
                if da.dtype.kind == "f" and da.ndim > 2:
                    da.encoding |= {"zlib": True, "complevel": 1, "shuffle": True}
            assert isinstance(temporary, Path)
            with ending_at_checks():
                ds.to_netcdf(temporary, engine="netcdf4")
        else:
            with ending_at_checks():
                ds.assign_attrs({UNFINISHED: UNTIL}).to_zarr(temporary, mode="w", consolidated=False)
                complete(temporary)


def in_file_order(ds: xr.Dataset) -> xr.Dataset:
    """Ensembles (realization, time, y, x) as files have them, see `relabel.file_order`."""
    ds = ds.copy()
    for name in list(ds.data_vars):
        first, *others = ds[name].dims or ("",)
        if first == "realization" and len(others) == 3:
            ds[name] = ds[name].transpose(*relabel.file_order([first], others))
    return ds


def attributes(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Those that NetCDF takes: a store takes names and values that a file does not."""

    def plain(value: Any) -> bool:
        values = value if isinstance(value, list | tuple) else [value]
        return all(isinstance(one, str | bytes | int | float | np.generic | np.ndarray) for one in values)

    return {key: value for key, value in attrs.items() if plain(value) and _ATTRIBUTE.fullmatch(str(key))}


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
    for attrs in (ds.attrs, *(variable.attrs for variable in ds.variables.values())):
        for key in attrs.keys() - attributes(attrs).keys():
            del attrs[key]
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
    # Bounds belong to their coordinates and areas to their fields; as coordinates themselves xarray would list them.
    apart = [name for c in ds.coords.values() if (name := c.attrs.get("bounds")) in ds.coords]
    return ds.reset_coords([*apart, *([AREA] if AREA in ds.coords else [])])


def _exists(path: Path) -> bool:
    """Whether ``path`` is there; a name that no file can have is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _close(name: str, names: list[str]) -> str:
    hint = nearest(name, names)
    return hint if "did you mean" in hint else ""


def _similar(path: Path) -> str:
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return _close(path.name, names)
