"""Where and when a field lies: what a model remembers of its training data, and whether a truth is among them.

An `Extent` holds the stretches of time between gaps, first to last, and the edges of y and x. A model keeps those of
its training data in its configuration (section ``trained``), an ensemble as the attribute `ATTRIBUTE`, as JSON; a
truth is compared with them by `seen`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.named import Paths, names
from finescale.errors import InputError
from finescale.grids.coordinates import canonical, read_grid
from finescale.grids.dimensions import texts

ATTRIBUTE = "finescale_trained_on"
STRETCHES = 256
"""Most stretches of time; where there are more gaps, the shortest count as if they were none."""
NAMES = 16
"""Most names of files."""
GAP = 1.5
"""Steps in time of so many usual ones are gaps."""
CIRCLE = 360.0
"""Degrees of longitude."""

Ends = tuple[Any, Any]


@dataclass(frozen=True)
class Extent:
    """Where and when fields on the same cells lie.

    Attributes:
        files: their files' names, without folders.
        variable: their variable.
        time: (first, last) of each stretch without a gap, ISO texts of dates, or numbers; None where there are none.
        y: lower and upper edge; None where there are no coordinates.
        x: likewise.
        crs: "latlon", the name of a grid mapping, or empty.
    """

    files: tuple[str, ...]
    variable: str
    time: tuple[Ends, ...] | None
    y: Ends | None
    x: Ends | None
    crs: str = ""

    @property
    def text(self) -> str:
        """In one line, for people: ``rain of may.nc, june.nc; 2020-05-01T00:00 to …; y 48 to 50; x 2 to 4``."""
        parts = [f"{self.variable} of {', '.join(self.files)}"]
        if self.time:
            first, last = (_short(end) for end in (min(self.time)[0], max(pair[1] for pair in self.time)))
            gaps = len(self.time) - 1
            parts.append(f"{first} to {last}" + (f" with {gaps} gap{'s' if gaps > 1 else ''}" if gaps else ""))
        sides = ("lat", "lon") if self.crs == "latlon" else ("y", "x")
        ends = zip(sides, (self.y, self.x), strict=True)
        return "; ".join(parts + [f"{name} {pair[0]:g} to {pair[1]:g}" for name, pair in ends if pair])

    def plain(self) -> dict[str, Any]:
        """As JSON and YAML have it."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found


@dataclass(frozen=True)
class Seen:
    """What of a truth is among training data.

    Attributes:
        times: how many of its times, on cells that are.
        of_times: how many times it has.
        share: the share of its cells, at times that are.
        files: names of those training files.
        certain: whether coordinates of all axes tell so; otherwise some are missing.
    """

    times: int
    of_times: int
    share: float
    files: tuple[str, ...]
    certain: bool

    def says(self, system: str) -> str:
        """One sentence, of the model that made ``system``."""
        model = "the model's training data" if system == "ensemble" else f"the training data of {system}"
        cells = "all cells" if self.share == 1 else f"{max(round(100 * self.share), 1)} % of the cells"
        whole = self.share == 1 and self.times == self.of_times
        verdict = "these are" if whole else "in part these are"
        doubt = "" if self.certain else ", as far as their coordinates tell"
        return (
            f"{self.times} of {self.of_times} times and {cells} of the truth are in {model} "
            f"({', '.join(self.files)}){doubt}: {verdict} no scores of skill on new data."
        )


def extent(field: xr.DataArray, paths: Paths) -> Extent:
    """The extent of a field that was read from ``paths``."""
    field = canonical(field)
    grid, (time, y, x) = read_grid(field), field.dims[-3:]
    sides = [
        (float(min(edges[0], edges[-1])), float(max(edges[0], edges[-1]))) if dim in field.coords else None
        for dim, edges in ((y, grid.y), (x, grid.x))
    ]
    stretches = None
    if time in field.coords:
        stretches = _stretches(_comparable(field[time]), _steps(field[time]))
    return Extent(names(paths), str(field.name or ""), stretches, sides[0], sides[1], grid.crs)


def merged(extents: Sequence[Extent]) -> list[Extent]:
    """One extent for all fields of one variable on the same cells."""
    found: dict[Any, Extent] = {}
    for one in extents:
        key = (one.variable, one.y, one.x, one.crs, one.time is None)
        if key not in found:
            found[key] = one
            continue
        old = found[key]
        times = None if old.time is None or one.time is None else tuple(dict.fromkeys(old.time + one.time))
        found[key] = replace(old, files=tuple(dict.fromkeys(old.files + one.files)), time=times)
    return [replace(one, files=_shortened(one.files), time=_fewer(one.time)) for one in found.values()]


def parse(values: Any, source: str) -> list[Extent]:
    """Extents from what `Extent.plain` gave.

    Args:
        values: a list of mappings, or its JSON text.
        source: what errors call it.

    Raises:
        InputError: for anything else.
    """
    try:
        listed = json.loads(values) if isinstance(values, str) else values
        return [_parsed(one) for one in listed]
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{source} does not say what a model was trained on: leave it as finescale wrote it"
        ) from error


def seen(truth: xr.DataArray, extents: Sequence[Extent]) -> Seen | None:
    """What of a truth (T, H, W) lies within ``extents``; None where no cell does at any time.

    An axis that has no coordinate, in the truth or in the extent, tells nothing apart. Longitudes are compared on the
    circle.
    """
    truth = canonical(truth)
    grid, (time, y, x) = read_grid(truth), truth.dims[-3:]
    moments = _comparable(truth[time]) if time in truth.coords else None
    times = np.zeros(truth.sizes[time], dtype=bool)
    cells = np.zeros((truth.sizes[y], truth.sizes[x]), dtype=bool)
    files: dict[str, None] = {}
    certain = True
    for one in extents:
        if one.crs and grid.crs and one.crs != grid.crs:
            continue
        known = [
            moments is not None and one.time is not None,
            y in truth.coords and one.y is not None,
            x in truth.coords and one.x is not None,
        ]
        if not any(known):
            continue
        when = _when(moments, one.time, times.size)
        rows = _inside(grid.y, one.y if known[1] else None)
        columns = _inside(grid.x, one.x if known[2] else None, CIRCLE if grid.crs == "latlon" else None)
        if when.any() and rows.any() and columns.any():
            times |= when
            cells |= rows[:, None] & columns
            files |= dict.fromkeys(one.files)
            certain &= all(known)
    if not times.any():
        return None
    return Seen(int(times.sum()), times.size, float(cells.mean()), _shortened(tuple(files)), certain)


def _short(end: Any) -> str:
    return end.removesuffix(".000").removesuffix(":00") if isinstance(end, str) else f"{end:g}"


def _parsed(one: Mapping[str, Any]) -> Extent:
    time, y, x = one["time"], one["y"], one["x"]
    return Extent(
        tuple(str(name) for name in one["files"]),
        str(one["variable"]),
        None if time is None else tuple(_ends(pair) for pair in time),
        None if y is None else _ends(y, texts=False),
        None if x is None else _ends(x, texts=False),
        str(one["crs"]),
    )


def _ends(pair: Any, texts: bool = True) -> Ends:
    """Two numbers, or two texts."""
    low, high = pair
    alike = isinstance(low, str) == isinstance(high, str)
    kinds = (str, int, float) if texts else (int, float)
    if not alike or not all(isinstance(end, kinds) and not isinstance(end, bool) for end in (low, high)):
        raise ValueError(pair)
    return low, high


def _comparable(time: xr.DataArray) -> NDArray[Any]:
    """Times that compare: ISO texts of dates, or numbers; of lead times their seconds."""
    if time.dtype.kind in "MO":
        return np.array(texts(time))
    values = time.values / np.timedelta64(1, "s") if time.dtype.kind == "m" else time.values
    return values.astype(np.float64)


def _steps(time: xr.DataArray) -> NDArray[np.float64]:
    """Steps (n − 1,) from a time to the next, in any unit."""
    steps = np.diff(time.values)
    if steps.dtype.kind == "O":  # dates of other calendars
        steps = np.array([step.total_seconds() for step in steps])
    return steps.astype(np.float64)


def _stretches(values: NDArray[Any], steps: NDArray[np.float64]) -> tuple[Ends, ...]:
    """(first, last) of each stretch of ``values`` (n,) whose ``steps`` (n − 1,) are no gaps."""
    gaps = np.flatnonzero(steps >= GAP * np.median(steps)) if steps.size else np.array([], dtype=int)
    if gaps.size >= STRETCHES:
        gaps = np.sort(gaps[np.argsort(-steps[gaps], kind="stable")[: STRETCHES - 1]])
    first, last = [0, *(gaps + 1).tolist()], [*gaps.tolist(), values.size - 1]
    return tuple((values[a].item(), values[b].item()) for a, b in zip(first, last, strict=True))


def _fewer(time: tuple[Ends, ...] | None) -> tuple[Ends, ...] | None:
    """At most `STRETCHES`, in order; of several fields neighbours are joined."""
    if time is None or len(time) <= STRETCHES:
        return time
    ordered = sorted(time)
    group = -(-len(ordered) // STRETCHES)
    parts = [ordered[k : k + group] for k in range(0, len(ordered), group)]
    return tuple((part[0][0], max(last for _, last in part)) for part in parts)


def _shortened(files: tuple[str, ...]) -> tuple[str, ...]:
    return files if len(files) <= NAMES else (*files[: NAMES - 1], f"{len(files) - NAMES + 1} more")


def _when(moments: NDArray[Any] | None, time: tuple[Ends, ...] | None, count: int) -> NDArray[np.bool_]:
    """(count,) which moments lie within stretches; all where either is not known."""
    if moments is None or time is None:
        return np.ones(count, dtype=bool)
    found = np.zeros(count, dtype=bool)
    for first, last in time:
        if isinstance(first, str) == (moments.dtype.kind == "U"):
            found |= (moments >= first) & (moments <= last)
    return found


def _inside(edges: NDArray[np.float64], ends: Ends | None, circle: float | None = None) -> NDArray[np.bool_]:
    """Which cells have their centre between two edges; all where these are not known."""
    centres = (edges[:-1] + edges[1:]) / 2
    if ends is None:
        return np.ones(centres.shape, dtype=bool)
    beyond = centres - ends[0]
    if circle is not None:
        beyond = np.mod(beyond, circle)
    return (beyond > 0) & (beyond < ends[1] - ends[0])
