"""Files in as labelled fields, of any format; out they go by `finescale.data.writing`.

What a path may name is in `finescale.data.named`, the formats in `finescale.data.formats`, files that follow each other
in time in `finescale.data.series`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import xarray as xr

from finescale.data.amounts import in_units
from finescale.data.formats import here, opened, timeless
from finescale.data.growing import UNFINISHED
from finescale.data.named import Entry, Paths, entries, listed, query, title
from finescale.data.place import exists
from finescale.data.radar import rain_rates
from finescale.data.reader import unread
from finescale.data.series import groups, joined
from finescale.data.stamps import time_of
from finescale.errors import InputError, nearest
from finescale.grids import coordinates
from finescale.grids.dimensions import is_time

CHUNK = "16MiB"
"""Size of the chunks that ``chunks="auto"`` makes."""
_KINDS = {"b": "truth values", "c": "complex numbers", "m": "durations", "M": "dates", "V": "records"}


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
        if not exists(path):
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
                    f"{source} has several gridded variables: {', '.join(names)}; name one with --variable "
                    "(fit: data.variable)"
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
    return (
        f"{source}: variable {da.name} holds {kind}, not numbers: convert it, or name another one with --variable "
        "(fit: data.variable)"
    )


def _close(name: str, names: list[str]) -> str:
    hint = nearest(name, names)
    return hint if "did you mean" in hint else ""


def _similar(path: Path) -> str:
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return _close(path.name, names)
