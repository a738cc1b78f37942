"""Files out: NetCDF and Zarr, written whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finescale.data.atomic import explained, sole_writer
from finescale.data.formats import is_zarr
from finescale.data.growing import UNFINISHED, UNTIL, check_remote, complete, growing
from finescale.data.named import Paths, entries
from finescale.data.place import Place, Remote, exists, place
from finescale.errors import InputError
from finescale.grids import relabel
from finescale.grids.curvilinear import AREA
from finescale.signals import check, deferred, ending_at_checks

_ATTRIBUTE = re.compile(r"(?![ -/:-@\[-^`{-~])[^\x00-\x1f/\x7f\ud800-\udfff\ufffe\uffff]{1,255}(?<! )")
"""A name in NetCDF: no control characters, no slash, no mark or blank first, no blank last."""
_LONGEST_NAME = 255
"""Bytes of a name in NetCDF, and of a file; an output needs some for the name under which it grows."""
_LONGEST_OUTPUT = 200


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
    if not exists(where.parent) or not where.parent.is_dir():
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
    return exists(one) and exists(other) and os.path.samefile(one, other)


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
    # A signal acts between two chunks, or not at all once the output gets its name. `explained` inside too: what failed
    # is there then, and a full disk still full.
    with (
        deferred(),
        explained(where),
        sole_writer(where),
        growing(where, overwrite) as temporary,
        explained(where),
        ending_at_checks(),
    ):
        check()
        if where.suffix == ".nc":
            for da in ds.data_vars.values():
                if da.dtype.kind == "f" and da.ndim > 2:
                    da.encoding |= {"zlib": True, "complevel": 1, "shuffle": True}
            assert isinstance(temporary, Path)
            ds.to_netcdf(temporary, engine="netcdf4")
        else:
            ds.assign_attrs({UNFINISHED: UNTIL}).to_zarr(temporary, mode="w", consolidated=False)
            complete(temporary)
        check()


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
