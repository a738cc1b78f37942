"""Files that follow each other in time, joined to one dataset along time, lazily.

They have the same variables in the same units, on the same cells and calendar, and no time twice; they may come in any
order and leave gaps. Which of several files belong together, where they need not all: `groups`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.errors import InputError
from finescale.grids.dimensions import find, has_plane, is_date, is_time

TOLERANCE = 1e-3
"""How far coordinates of the same cells may lie apart, in cells."""
Named = tuple[str, xr.Dataset]
"""A file's name and its dataset."""


def joined(parts: Sequence[Named]) -> xr.Dataset:
    """One dataset of several along time; attributes and what does not depend on time are those of the first.

    Raises:
        InputError: if files differ in more than time, have no times, or have some twice.
    """
    ready = [(name, _timed(name, ds)) for name, ds in parts]
    first_name, first = ready[0][0], ready[0][1][0]
    for name, (ds, _) in ready[1:]:
        difference = _difference(first, ds)
        if difference:
            raise InputError(f"{name} does not continue {first_name}: {difference}; name files of one field")
    calendars = {name: _calendar(ds[time]) for name, (ds, time) in ready}
    odd = next((name for name in calendars if calendars[name] != calendars[first_name]), None)
    if odd is not None:
        raise InputError(
            f"{odd} has times of the calendar {calendars[odd]}, {first_name} of {calendars[first_name]}: files of one "
            "field need one calendar"
        )
    ready.sort(key=lambda part: part[1][0][part[1][1]].values[0])
    for (name, (before, time)), (after_name, (after, _)) in pairwise(ready):
        last, begins = before[time].values[-1], after[time].values[0]
        if begins <= last:
            what = "both have" if begins in before[time].values else "overlap at"
            raise InputError(f"{name} and {after_name} {what} the time {_iso(begins)}: leave one of them out")
    time = ready[0][1][1]
    return xr.concat(
        [ds.rename({own: time}) if own != time else ds for _, (ds, own) in ready],
        dim=time,
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="override",
    )


def groups(paths: Sequence[str], opened: Callable[[str], xr.Dataset]) -> list[list[str]]:
    """``paths`` parted into fields: those that follow each other in time, step by step, on the same cells are one.

    Files on other cells, after a gap, at times that overlap or another cadence, of other variables or calendars, or
    without times, are fields of their own. Files of one time each have no cadence: all on the same cells are one field.

    Args:
        paths: each names a file, or several that are one field.
        opened: opens one.
    """
    if len(paths) < 2:
        return [list(paths)] if paths else []
    places: list[list[_Piece]] = []
    for number, path in enumerate(paths):
        piece = _Piece.of(number, path, opened(path))
        like = (place for place in places if piece.times is not None and place[0].like(piece))
        found = next(like, None)
        if found is None:
            places.append([piece])
        else:
            found.append(piece)
    runs = [run for place in places for run in _runs(place)]
    runs.sort(key=lambda run: min(piece.number for piece in run))
    return [[piece.path for piece in run] for run in runs]


@dataclass(frozen=True)
class _Piece:
    """One of several paths, and when it holds: ``times`` is None where it does not say."""

    number: int
    path: str
    ds: xr.Dataset
    times: xr.DataArray | None

    @classmethod
    def of(cls, number: int, path: str, ds: xr.Dataset) -> _Piece:
        try:
            timed, time = _timed(path, ds)
        except InputError:
            return cls(number, path, ds, None)
        return cls(number, path, timed, timed[time])

    def like(self, other: _Piece) -> bool:
        """Whether both are on the same cells, of one calendar and cadence."""
        if self.times is None or other.times is None or _calendar(self.times) != _calendar(other.times):
            return False
        steps = [step for piece in (self, other) if (step := piece.step) is not None]
        return (len(steps) < 2 or abs(steps[0] - steps[1]) <= 0.01 * steps[0]) and not _difference(self.ds, other.ds)

    @property
    def step(self) -> float | None:
        """Seconds between its times; None for a single one."""
        values = () if self.times is None else self.times.values
        return float(np.median(_seconds(np.diff(values)))) if len(values) > 1 else None


def _runs(place: list[_Piece]) -> list[list[_Piece]]:
    """Pieces on the same cells, parted where there is a gap in time or an overlap."""
    if place[0].times is None:
        return [place]
    step = next((piece.step for piece in place if piece.step is not None), np.inf)
    ordered = sorted(place, key=lambda piece: piece.times.values[0])  # type: ignore[union-attr]
    runs = [ordered[:1]]
    for piece in ordered[1:]:
        found = next((run for run in reversed(runs) if 0 < _gap(run[-1], piece) <= 1.01 * step), None)
        if found is None:
            runs.append([piece])
        else:
            found.append(piece)
    return runs


def _gap(before: _Piece, after: _Piece) -> float:
    """Seconds from the last time of one to the first of the other."""
    assert before.times is not None and after.times is not None
    return float(_seconds(np.array([after.times.values[0] - before.times.values[-1]]))[0])


def _seconds(steps: NDArray[Any]) -> NDArray[np.float64]:
    if steps.dtype.kind == "O":
        return np.array([step.total_seconds() for step in steps], dtype=np.float64)
    if steps.dtype.kind == "m":
        return np.asarray(steps / np.timedelta64(1, "s"), dtype=np.float64)
    return steps.astype(np.float64)


def _timed(name: str, ds: xr.Dataset) -> tuple[xr.Dataset, Hashable]:
    """``ds`` with a time dimension on its fields, and its name."""
    fields = {n: da for n, da in ds.data_vars.items() if da.ndim >= 2 and has_plane(da)}
    for da in fields.values():
        time = find(da).get("time")
        if time is not None and time in da.coords:
            steps = np.diff(da[time].values)
            if not np.all(_seconds(steps) > 0):
                raise InputError(f"{name}: its times do not increase: sort them and drop duplicates")
            return ds, time
    scalar = next((n for n, c in ds.coords.items() if c.ndim == 0 and is_time(c) and is_date(c)), None)
    if scalar is None:
        raise InputError(
            f"{name} has no times, which files that follow each other need; where names hold them, say how: "
            "rain_{time:%Y%m%d%H%M}.tif"
        )
    return ds.assign({n: da.expand_dims(scalar) for n, da in fields.items()}), scalar


def _difference(first: xr.Dataset, other: xr.Dataset) -> str:
    """What two datasets differ in beside time; empty if in nothing."""
    ours, theirs = (
        {str(n): da for n, da in ds.data_vars.items() if da.ndim >= 2 and has_plane(da)} for ds in (first, other)
    )
    if ours.keys() != theirs.keys():
        return f"it has the variables {', '.join(theirs) or 'none'}, not {', '.join(ours)}"
    for name, da in ours.items():
        has, wanted = theirs[name].attrs.get("units"), da.attrs.get("units")
        if has != wanted:
            return f"{name} is in {has or 'no units'}, not {wanted or 'no units'}"
        for axis in ("y", "x", "realization"):
            mine, own = find(da).get(axis), find(theirs[name]).get(axis)
            if mine != own:
                return f"{name} has the dimension {own}, not {mine}"
            if mine is None:
                continue
            if da.sizes[mine] != theirs[name].sizes[own]:
                return f"{name} has {theirs[name].sizes[own]} cells along {own}, not {da.sizes[mine]}"
            if mine in da.coords and not _alike(da[mine].values, other[own].values):
                return f"its cells along {own} lie elsewhere"
    return ""


def _alike(a: NDArray[Any], b: NDArray[Any]) -> bool:
    if a.dtype.kind not in "fiu" or b.dtype.kind not in "fiu":
        return bool(np.array_equal(a, b))
    step = float(np.abs(np.diff(a)).min()) if a.size > 1 else 1.0
    return bool(np.abs(a - b).max() <= TOLERANCE * step)


def _calendar(time: xr.DataArray) -> str:
    if not is_date(time):
        return "none (numbers)"
    name = str(time.dt.calendar)
    return "standard" if name in ("gregorian", "proleptic_gregorian") else name


def _iso(value: Any) -> str:
    return str(value).split(".")[0].replace(" ", "T")
