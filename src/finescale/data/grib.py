"""GRIB files: messages on one grid, one value of each variable at each time, level and member.

cfgrib makes variables of messages. What it would drop in silence is refused here: messages of one variable that differ
in nothing it tells apart (accumulations of one and of twelve hours to the same time), levels of two kinds, several
grids. Variables on one grid at different heights (2 m, 10 m) are one dataset.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import Any, TextIO

import numpy as np
import xarray as xr

from finescale.data import formats
from finescale.data.messages import check_sections
from finescale.data.named import LISTED, Entry
from finescale.data.proj import bind_proj
from finescale.errors import InputError, nearest

GRID = ("gridType", "Nx", "Ny")
VARIABLE = ("shortName", "typeOfLevel", "stepType")
CELL = ("level", "number", "validityDate", "validityTime")
"""What tells messages of a variable apart; `INTERVAL` does not for cfgrib."""
INTERVAL = "stepRange"
_METHODS = {"accum": "sum", "avg": "mean", "max": "maximum", "min": "minimum"}
Header = dict[str, Any]


def opened(entry: Entry, chunks: Any) -> xr.Dataset:
    """The messages that the settings' keys select, as a dataset with times and their bounds.

    Raises:
        InputError: if none is selected, or more than one grid, kind of level or interval; the message lists them.
    """
    check_sections(entry.file, entry.name)
    bind_proj()
    _silence()
    from cfgrib.xarray_plugin import CfGribBackend

    keys = entry.settings.keys
    with _quiet():
        headers = list(_headers(entry, keys))
    chosen, wanted = _selected(entry, headers)
    _check(entry, chosen)
    kinds = list(dict.fromkeys(tuple(header[key] for key in VARIABLE) for header in chosen))
    parts = []
    for kind in kinds:
        # One kind alone needs no keys of ours: some files' names and levels are told only after decoding.
        mine = wanted | (dict(zip(VARIABLE, kind, strict=True)) if len(kinds) > 1 else {})
        with _quiet():
            ds = formats.read(entry, CfGribBackend, chunks, indexpath="", filter_by_keys=mine, errors="ignore")
        ours = [header for header in chosen if tuple(header[key] for key in VARIABLE) == kind]
        parts.append(_named(_timed(ds, ours), kind, chosen))
    return _together(entry, parts)


@cache
def _silence() -> TextIO:
    """Let eccodes neither say on stderr what is odd in a message, when it is decoded, nor end the process for it."""
    os.environ.setdefault("ECCODES_NO_ABORT", "1")
    from gribapi.bindings import ffi, lib

    nowhere = open(os.devnull, "w")  # noqa: SIM115  (as long as the process)
    lib.grib_context_set_logging_file(lib.grib_context_get_default(), ffi.cast("FILE *", nowhere))
    return nowhere


@contextmanager
def _quiet() -> Iterator[None]:
    """What eccodes and cfgrib write on stderr by themselves, such as that seconds are left out, stays unseen."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _headers(entry: Entry, keys: Mapping[str, str]) -> Iterator[Header]:
    """What the messages say of themselves; None where they do not."""
    import eccodes

    with entry.file.open("rb") as file:
        while (handle := eccodes.codes_grib_new_from_file(file, headers_only=True)) is not None:
            header: Header = {}
            for key in {*GRID, *VARIABLE, *CELL, INTERVAL, "units", "startStep", "endStep", *keys}:
                try:
                    # Text where it is to be compared with what was typed.
                    header[key] = eccodes.codes_get(handle, key)
                except eccodes.CodesInternalError:
                    header[key] = None
            eccodes.codes_release(handle)
            yield header


def _selected(entry: Entry, headers: Sequence[Header]) -> tuple[list[Header], dict[str, Any]]:
    """The messages that the keys select, and the keys with values of the messages' own types."""
    chosen, wanted = list(headers), {}
    for key, text in entry.settings.keys.items():
        values = {_text(header[key]): header[key] for header in headers if header[key] is not None}
        if not values:
            raise InputError(
                f"{entry.name}: its GRIB messages have no key {key!r}{nearest(key, [*VARIABLE, INTERVAL, 'level'])}"
            )
        kept = [header for header in chosen if _text(header[key]) == text]
        if not kept:
            raise InputError(
                f"{entry.name} has no GRIB message with {key}={text}"
                f"{' among those selected' if len(chosen) < len(headers) else ''}; its {key} is {_some(values)}"
            )
        chosen, wanted[key] = kept, values[text]
    return chosen, wanted


def _check(entry: Entry, chosen: Sequence[Header]) -> None:
    """Refuse what is ambiguous, with what there is in one line."""
    for keys in (GRID,):
        found = Counter(tuple(header[key] for key in keys) for header in chosen)
        if len(found) > 1:
            grids = _some(["&".join(f"{k}={_text(v)}" for k, v in zip(keys, grid, strict=True)) for grid in found])
            raise InputError(f"{entry.name} has fields on several grids: {grids}; name one: {_like(entry, grids)}")
    names = list(dict.fromkeys(header["shortName"] for header in chosen))
    for name in names:
        ours = [header for header in chosen if header["shortName"] == name]
        for key in ("typeOfLevel", "stepType"):
            values = list(dict.fromkeys(_text(header[key]) for header in ours))
            if len(values) > 1:
                raise InputError(
                    f"{entry.name} has {name} of several {key}: {_some(values)}; name one: "
                    f"{_like(entry, f'shortName={name}&{key}={values[0]}')}"
                )
        cells = Counter(tuple(header[key] for key in CELL) for header in ours)
        if max(cells.values()) > 1:
            twice = next(cell for cell, count in cells.items() if count > 1)
            ranges = [_text(h[INTERVAL]) for h in ours if tuple(h[key] for key in CELL) == twice]
            raise InputError(
                f"{entry.name} has {name} more than once at the same time, of the intervals {_some(ranges)} (hours of "
                f"the forecast); name one: {_like(entry, f'shortName={name}&{INTERVAL}={ranges[0]}')}"
            )


def _timed(ds: xr.Dataset, headers: Sequence[Header]) -> xr.Dataset:
    """``ds`` along its valid time, with the bounds of accumulations and means."""
    if "valid_time" not in ds.coords:
        return ds
    if ds["valid_time"].ndim == 2 and 1 in ds["valid_time"].shape:
        single = ds["valid_time"].dims[ds["valid_time"].shape.index(1)]
        ds = ds.isel({single: 0})
    dims = ds["valid_time"].dims
    if len(dims) == 1 and dims[0] != "valid_time":
        # What it stood for, a lead or a time of reference, is said by the valid time.
        ds = ds.swap_dims({dims[0]: "valid_time"}).drop_vars([dims[0]])
    elif not dims:
        ds = ds.expand_dims("valid_time").assign({n: v for n, v in ds.data_vars.items() if v.ndim < 2})
    method = _METHODS.get(headers[0]["stepType"])
    if len(ds["valid_time"].dims) != 1 or method is None:
        return ds
    for da in ds.data_vars.values():
        da.attrs.setdefault("cell_methods", f"time: {method}")
    lengths = {_moment(header): _length(header) for header in headers}
    ends = ds["valid_time"].values.astype("datetime64[ns]")
    hours = [lengths.get(str(end.astype("datetime64[s]"))) for end in ends]
    if any(length is None for length in hours):
        return ds
    starts = ends - np.array(hours, dtype="timedelta64[s]").astype("timedelta64[ns]")
    ds["valid_time"].attrs["bounds"] = "valid_time_bnds"
    return ds.assign_coords(valid_time_bnds=(("valid_time", "bnds"), np.stack([starts, ends], axis=1)))


def _moment(header: Header) -> str:
    """The valid time as numpy writes it."""
    date, clock = int(header["validityDate"]), int(header["validityTime"])
    day = datetime(date // 10000, date // 100 % 100, date % 100)
    return (day + timedelta(hours=clock // 100, minutes=clock % 100)).isoformat()


def _length(header: Header) -> int | None:
    """Seconds of a message's interval; None where its steps are not whole hours."""
    try:
        return 3600 * (int(header["endStep"]) - int(header["startStep"]))
    except (TypeError, ValueError):
        return None


def _named(ds: xr.Dataset, kind: tuple[Any, ...], headers: Sequence[Header]) -> xr.Dataset:
    """Variables without a name of their own by their kind, where several would have it."""
    kinds = {tuple(header[key] for key in VARIABLE) for header in headers if header["shortName"] == kind[0]}
    if kind[0] == "unknown" and len(kinds) > 1:
        return ds.rename({name: f"{name}_{kind[1]}" for name in ds.data_vars})
    return ds


def _together(entry: Entry, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """One dataset; scalar coordinates that differ, such as heights, become attributes of their variables."""
    if len(parts) == 1:
        return parts[0]
    kept = []
    for ds in parts:
        own = [name for name, c in ds.coords.items() if c.ndim == 0 and name != "time"]
        for name in ds.data_vars:
            said = {str(c): float(ds[c]) for c in own if ds[c].dtype.kind in "fiu"}
            ds[name].attrs |= {f"GRIB_{key}": value for key, value in said.items()}
        kept.append(ds.drop_vars([*own, *(name for name in ("time",) if name in ds.coords and not ds[name].ndim)]))
    bounded = [ds for ds in kept if "valid_time_bnds" in ds.coords]
    if bounded and len(bounded) < len(kept):
        # Instants have no interval: bounds would be taken for theirs. The variables' attributes keep the step's kind.
        kept = [ds.drop_vars("valid_time_bnds", errors="ignore") for ds in kept]
        for ds in kept:
            ds["valid_time"].attrs.pop("bounds", None)
    try:
        return xr.merge(kept, join="exact", compat="equals", combine_attrs="override")
    except (ValueError, xr.MergeError):
        names = [str(name) for ds in kept for name in ds.data_vars]
        raise InputError(
            f"{entry.name} has variables at different times or levels: {_some(names)}; name one: "
            f"{_like(entry, f'shortName={_short(parts[0])}')}"
        ) from None


def _short(ds: xr.Dataset) -> str:
    return next((str(da.attrs.get("GRIB_shortName", name)) for name, da in ds.data_vars.items()), "tp")


def _like(entry: Entry, keys: str) -> str:
    """How to write a choice."""
    return f"{entry.name.split('/')[-1]}?{keys.split(', ')[0]}"


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _some(values: Any) -> str:
    """All values in a line, where they are many the first."""
    texts = [str(value) for value in values]
    return ", ".join(texts[: 2 * LISTED]) + (f" and {len(texts) - 2 * LISTED} more" if len(texts) > 2 * LISTED else "")
