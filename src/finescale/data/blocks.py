"""Blocks of a field's cells in time and space: where coarse values are wanted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.grids.coordinates import canonical, numbers, read_grid
from finescale.grids.factor import Factor

Numbers = NDArray[np.float64]
NO_DATES = ""
"""The calendar of times that are numbers, or of a field without times."""
ALONE = 1.0
"""Seconds that a frame without bounds is said to last where there is no other."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Boxes of (t, h, w) coarse cells.

    Attributes:
        low: (t,) when each begins, in seconds of the calendar's 1970.
        high: (t,) when it ends.
        clock: (t, f, 2) of the f fine frames in it: which share of the year and of the day had passed at their labels;
            NaN for times that are no dates, None without any.
        calendar: of the times.
        y: h + 1 edges.
        x: w + 1 edges.
        crs: as in `finescale.grids.grid.Grid`.
    """

    low: Numbers
    high: Numbers
    clock: Numbers | None
    calendar: str
    y: Numbers
    x: Numbers
    crs: str

    def window(self, t: slice, y: slice, x: slice) -> Blocks:
        """Some of them."""
        clock = None if self.clock is None else self.clock[t]
        return Blocks(self.low[t], self.high[t], clock, self.calendar, _edges(self.y, y), _edges(self.x, x), self.crs)

    def coarsen(self, factor: Factor) -> Blocks:
        """Blocks of so many of them; their numbers must be divisible."""
        clock = None if self.clock is None else self.clock.reshape(len(self.low) // factor.time, -1, 2)
        return Blocks(
            self.low[:: factor.time],
            self.high[factor.time - 1 :: factor.time],
            clock,
            self.calendar,
            self.y[:: factor.y],
            self.x[:: factor.x],
            self.crs,
        )


def cells(field: xr.DataArray) -> Blocks:
    """The cells of a field ([realization,] time, y, x) as blocks of one.

    A frame lasts as its bounds say, or else half the usual step to either side of its label: also beside a gap.
    """
    field = canonical(field)
    grid, time = read_grid(field), field.dims[-3]
    if time not in field.coords:
        edges = np.arange(field.sizes[time] + 1, dtype=np.float64)
        return Blocks(edges[:-1], edges[1:], None, NO_DATES, grid.y, grid.x, grid.crs)
    coord = field[time]
    first, calendar = epoch(coord)
    sides = [f"{time}__{side}" for side in ("lower", "upper")]
    if all(side in field.coords for side in sides):
        ends = np.stack([numbers(coord, field[side].values) for side in sides])
        low, high = ends.min(axis=0), ends.max(axis=0)
    else:
        centres = numbers(coord)
        half = 0.5 * float(np.median(np.diff(centres))) if centres.size > 1 else 0.5 * ALONE
        low, high = centres - half, centres + half
    return Blocks(first + low, first + high, clock_of(coord), calendar, grid.y, grid.x, grid.crs)


def epoch(coord: xr.DataArray) -> tuple[float, str]:
    """The first time in seconds since 1970 of its calendar, and the calendar; of numbers the number itself."""
    first = coord.values[0]
    if coord.dtype.kind == "M":
        return float((first - np.datetime64("1970-01-01", "ns")) / np.timedelta64(1, "s")), "standard"
    if coord.dtype.kind == "O":
        return float((first - type(first)(1970, 1, 1)).total_seconds()), str(first.calendar)
    return float(first), NO_DATES


def clock_of(coord: xr.DataArray | xr.Variable) -> Numbers:
    """(n, 1, 2) shares of the year, in the calendar's own years, and of the day; NaN for numbers."""
    if coord.dtype.kind not in "MO":
        return np.full((coord.size, 1, 2), np.nan)
    values = coord.values
    dates = xr.DataArray(values, dims="time").dt
    day = np.asarray(dates.hour + dates.minute / 60 + dates.second / 3600, dtype=np.float64) / 24
    if values.dtype.kind == "M":
        before = (values.astype("M8[D]") - values.astype("M8[Y]")).astype(np.float64)
    else:
        before = np.array([one.dayofyr - 1 for one in values], dtype=np.float64)
    year = (before + day) / np.asarray(dates.days_in_year)
    return np.stack([year, day], axis=-1)[:, None]


def _edges(edges: Numbers, part: slice) -> Numbers:
    start, stop, _ = part.indices(edges.size - 1)
    return edges[start : stop + 1]
