"""Coarse values of another source, on its own grid and calendar, brought to the blocks that are asked for.

With overlaps W_t (t, n), W_y (h, m), W_x (w, l) of wanted blocks with the source's cells (lengths; along y differences
of sin φ where φ is latitude), and v = 1 where the field f is known:

    c = W_t W_y W_x (f v) / W_t W_y W_x v,     unknown where less than half of a block is covered by known cells

which is first-order conservative (Jones 1999, Mon. Wea. Rev. 127) and takes a mean over an interval of time from the
means over the source's. A predictor whose cells are larger than the blocks is interpolated linearly between their
centres instead: it has no total to be kept, and its steps would be shown to the networks as if they were there.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.blocks import Blocks, Numbers, cells
from finescale.data.regrid import overlap
from finescale.errors import InputError, Notice
from finescale.grids.coordinates import increasing
from finescale.grids.factor import Factor

Array = NDArray[np.float32]
HELD = 2**26
"""Values of a source that are kept in memory, 256 MiB; of larger ones what is asked for is read each time."""
CIRCLE = 360.0
"""Degrees of longitude."""


@dataclass(frozen=True, eq=False)
class Source:
    """One variable of another source.

    Attributes:
        field: (time, y, x), in the units wanted.
        smooth: interpolate linearly where its cells are larger than the blocks.
        file: what errors call it.
    """

    field: xr.DataArray
    smooth: bool
    file: str

    @cached_property
    def _field(self) -> xr.DataArray:
        return increasing(self.field)

    @cached_property
    def cells(self) -> Blocks:
        """Where the source's own values are."""
        return cells(self._field)

    @cached_property
    def _held(self) -> Array | None:
        return np.asarray(self._field.values, dtype=np.float32) if self._field.size <= HELD else None

    def on(self, blocks: Blocks) -> Array:
        """(t, h, w) on blocks, NaN where unknown."""
        weights = [self._in_time(blocks), self._along_y(blocks), self._along_x(blocks)]
        sides = [_columns(weight) for weight in weights]
        if any(side is None for side in sides):
            return np.full([len(weight) for weight in weights], np.nan, dtype=np.float32)
        box = tuple(side for side in sides if side is not None)
        part = self._held[box] if self._held is not None else np.asarray(self._field[box].values, dtype=np.float32)
        known = np.isfinite(part)
        share = _applied(known.astype(np.float64), weights, box)
        total = _applied(np.where(known, part, 0.0).astype(np.float64), weights, box)
        enough = share >= 0.5
        return np.where(enough, total / np.where(enough, share, 1.0), np.nan).astype(np.float32)

    def _in_time(self, blocks: Blocks) -> Numbers:
        """(t, n) shares of each wanted interval."""
        mine = self.cells
        if (mine.times is None) != (blocks.times is None):
            raise InputError(f"{self.file} and the other field do not both have times: give both a time coordinate")
        if mine.calendar != blocks.calendar:
            raise InputError(
                f"{self.file} has times of the calendar {mine.calendar or 'of numbers'}, the other field of "
                f"{blocks.calendar or 'numbers'}: convert one of them (xarray: convert_calendar)"
            )
        lengths = np.minimum.outer(blocks.high, mine.high) - np.maximum.outer(blocks.low, mine.low)
        return np.clip(lengths, 0.0, None) / (blocks.high - blocks.low)[:, None]

    def _along_y(self, blocks: Blocks) -> Numbers:
        """(h, m) shares of each wanted row."""
        mine = self.cells
        if mine.crs != blocks.crs:
            raise InputError(
                f"{self.file} is on a grid of {mine.crs or 'no known projection'}, the other field on one of "
                f"{blocks.crs or 'no known projection'}: bring it to the other's first"
            )
        if self._interpolates(mine.y, blocks.y):
            return _linear(mine.y, blocks.y)
        old, new = (np.sin(np.deg2rad(e)) if mine.crs == "latlon" else e for e in (mine.y, blocks.y))
        return overlap(old, new) / np.abs(np.diff(new))[:, None]

    def _along_x(self, blocks: Blocks) -> Numbers:
        """(w, l) shares of each wanted column; longitudes are compared on the circle."""
        mine = self.cells
        linear = self._interpolates(mine.x, blocks.x)
        if mine.crs != "latlon":
            return _linear(mine.x, blocks.x) if linear else overlap(mine.x, blocks.x) / np.diff(blocks.x)[:, None]
        turns = np.round((blocks.x.mean() - mine.x.mean()) / CIRCLE) + np.arange(-1, 2)
        if linear:
            # A source around the whole circle goes on beyond its ends, where others end.
            around = abs(mine.x[-1] - mine.x[0] - CIRCLE) < 1e-3 * CIRCLE
            if not around:
                return np.sum([_linear(mine.x + CIRCLE * turn, blocks.x) for turn in turns], axis=0)
            edges = np.concatenate([mine.x[:-1] + CIRCLE * turn for turn in turns] + [mine.x[-1:] + CIRCLE * turns[-1]])
            return np.sum(np.split(_linear(edges, blocks.x), len(turns), axis=1), axis=0)
        lengths = np.sum([overlap(mine.x + CIRCLE * turn, blocks.x) for turn in turns], axis=0)
        return lengths / np.diff(blocks.x)[:, None]

    def _interpolates(self, old: Numbers, new: Numbers) -> bool:
        return self.smooth and np.abs(np.diff(old)).mean() > 1.01 * np.abs(np.diff(new)).mean()


def covered(source: Source, field: xr.DataArray) -> NDArray[np.bool_]:
    """The frames of a field ([realization,] time, y, x) for which a source has values somewhere on it.

    Where that is in part, one line says so.

    Raises:
        InputError: if they have no time, or no place, in common.
    """
    blocks = cells(field)
    times = source._in_time(blocks).sum(1) >= 0.5
    sides = [weight.sum(1) > 0 for weight in (source._along_y(blocks), source._along_x(blocks))]
    name = source.field.name
    if not times.any():
        raise InputError(f"{source.file} has no {name} at any time of {field.name}: choose files of the same times")
    if not all(side.any() for side in sides):
        raise InputError(f"{source.file} has no {name} where {field.name} lies: choose files of the same place")
    said = []
    if not times.all():
        said.append(f"{np.count_nonzero(~times)} of {times.size} times")
    share = 1 - float(np.prod([side.mean() for side in sides]))
    if share > 0:
        said.append(f"{share:.1%} of the cells")
    if said:
        warnings.warn(f"{source.file} has no {name} at {' and '.join(said)} of {field.name}", Notice, stacklevel=2)
    return times


def _columns(weight: Numbers) -> slice | None:
    """The source's cells that count; None where none does."""
    found = np.flatnonzero(weight.any(axis=0))
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else None


def _applied(part: Numbers, weights: Sequence[Numbers], box: Sequence[slice]) -> Numbers:
    """W_t W_y W_x part."""
    for axis, (weight, side) in enumerate(zip(weights, box, strict=True)):
        part = np.moveaxis(np.tensordot(weight[:, side], part, (1, axis)), 0, axis)
    return part


def _linear(old: Numbers, new: Numbers) -> Numbers:
    """(n, m) weights of linear interpolation from cell centres to cell centres; none beyond the outermost edges."""
    centres, wanted = 0.5 * (old[1:] + old[:-1]), 0.5 * (new[1:] + new[:-1])
    weights = np.stack([np.interp(wanted, centres, unit) for unit in np.eye(centres.size)], axis=1)
    return weights * ((wanted >= old[0]) & (wanted <= old[-1]))[:, None]


DERIVED = ("day of year", "hour", "latitude", "cell size")
"""Predictors that come of times and places: angles of the year and of the (solar) day, degrees, and km (logarithm)."""


@dataclass(frozen=True, eq=False)
class Predictors:
    """The predictors that a model sees.

    Attributes:
        sources: those from files, by name.
        names: all, in the order in which the model sees them.
    """

    sources: Mapping[str, Source]
    names: Sequence[str]

    def on(self, blocks: Blocks) -> Array:
        """(P, t, h, w) on blocks, NaN where unknown; angles give their sine and cosine.

        Raises:
            InputError: for what times or places are wanted for and the field does not have.
        """
        shape = len(blocks.low), blocks.y.size - 1, blocks.x.size - 1
        found: list[NDArray[np.floating]] = []
        for name in self.names:
            found += [self.sources[name].on(blocks)] if name in self.sources else derived(name, blocks)
        return np.stack([np.broadcast_to(one, shape).astype(np.float32) for one in found])


def derived(name: str, blocks: Blocks) -> list[Numbers]:
    """The channels of a predictor of `DERIVED`, each broadcastable to (t, h, w).

    Raises:
        InputError: where the field has no dates, or no latitude.
    """
    y, x = (0.5 * (edges[1:] + edges[:-1]) for edges in (blocks.y, blocks.x))
    if name in ("latitude", "cell size"):
        if blocks.crs != "latlon" and name == "latitude":
            raise InputError("the predictor latitude needs a grid of latitudes and longitudes")
        if name == "latitude":
            return [y[None, :, None]]
        metres = np.abs(np.diff(blocks.y)).mean() * (np.pi / 180 * 6_371_000.0 if blocks.crs == "latlon" else 1.0)
        return [np.log(metres / 1000.0)[None, None, None]]
    if blocks.times is None or blocks.calendar == "":
        raise InputError(f"the predictor {name} needs times that are dates")
    dates = xr.DataArray(blocks.times.ravel(), dims="time").dt
    hour = np.asarray(dates.hour + dates.minute / 60 + dates.second / 3600, dtype=np.float64)
    if name == "hour":
        longitude = x / CIRCLE if blocks.crs == "latlon" else np.zeros(1)
        turns = hour.reshape(blocks.times.shape)[..., None] / 24 + longitude
    else:
        share = (np.asarray(dates.dayofyear, dtype=np.float64) - 1 + hour / 24) / np.asarray(dates.days_in_year)
        turns = share.reshape(blocks.times.shape)[..., None]
    angle = 2 * np.pi * turns
    return [part.mean(axis=1)[:, None, :] for part in (np.sin(angle), np.cos(angle))]


@dataclass(frozen=True, eq=False)
class Partner:
    """What another source has to say of a fine field.

    Attributes:
        field: a fine field (time, y, x).
        values: of each variable, the other source's own; None where conditions are block means of the fine field.
        predictors: None without.
    """

    field: xr.DataArray
    values: Sequence[Source] | None
    predictors: Predictors | None

    @cached_property
    def _cells(self) -> Blocks:
        return cells(self.field)

    def of(self, t: slice, y: slice, x: slice, factor: Factor) -> tuple[Array | None, Array | None]:
        """Coarse values (C, t, h, w) and predictors (P, t, h, w) of a box of fine cells, whole blocks of ``factor``."""
        blocks = self._cells.window(t, y, x).coarsen(factor)
        values = None if self.values is None else np.stack([one.on(blocks) for one in self.values])
        return values, None if self.predictors is None else self.predictors.on(blocks)
