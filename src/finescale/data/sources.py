"""Coarse values of another source, on its own grid and calendar, brought to the blocks that are asked for.

With weights W_t (t, n) of overlap of wanted intervals with the source's, W (h·w, m·l) of wanted cells with its cells
(`finescale.data.placing`), and v = 1 where the field f is known:

    c = W_t W (f v) / W_t W v,     unknown where less than half of a block is covered by known cells

which is first-order conservative and takes a mean over an interval of time from the means over the source's. A
predictor whose cells are larger than the blocks is interpolated linearly between their centres instead: it has no total
to be kept, and its steps would be shown to the networks as if they were there.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.blocks import ALONE, NO_DATES, Blocks, Numbers, cells
from finescale.data.placing import CIRCLE, Scattered, Separable, placing
from finescale.errors import InputError, Notice
from finescale.grids.coordinates import increasing
from finescale.grids.factor import Factor

Array = NDArray[np.float32]
HELD = 2**26
"""Values of a source that are kept in memory, 256 MiB; of larger ones what is asked for is read each time."""
FRAMES = 1024
"""Frames that are compared with a source's at a time."""
PLACINGS = 64
"""Placements that are kept, of blocks that are asked for again."""


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
    def _placings(self) -> dict[Any, Separable | Scattered]:
        return {}

    @cached_property
    def _held(self) -> Array | None:
        return np.asarray(self._field.values, dtype=np.float32) if self._field.size <= HELD else None

    def on(self, blocks: Blocks) -> Array:
        """(t, h, w) on blocks, NaN where unknown."""
        placing, (frames, times) = self.placing(blocks), self.in_time(blocks)
        box = placing.box
        if box is None or times.size == 0:
            return np.full((len(blocks.low), blocks.y.size - 1, blocks.x.size - 1), np.nan, dtype=np.float32)
        part = self._read((frames, *box))
        known = np.isfinite(part)
        share, total = (
            np.tensordot(times, placing.apply(values.astype(np.float64), box), 1)
            for values in (known, np.where(known, part, 0.0))
        )
        enough = share >= 0.5
        return np.where(enough, total / np.where(enough, share, 1.0), np.nan).astype(np.float32)

    def placing(self, blocks: Blocks) -> Separable | Scattered:
        """The weights that bring the field to the cells of blocks.

        Raises:
            InputError: for grids that are not related.
        """
        key = (blocks.y.tobytes(), blocks.x.tobytes(), blocks.crs)
        if key not in self._placings:
            while len(self._placings) >= PLACINGS:
                self._placings.pop(next(iter(self._placings)))
            self._placings[key] = placing(self._field, self.cells, blocks, self.smooth, self.file)
        return self._placings[key]

    def in_time(self, blocks: Blocks) -> tuple[slice, Numbers]:
        """The frames that touch wanted intervals, and (t, frames) their shares of each.

        Raises:
            InputError: for times of another kind.
        """
        mine = self.cells
        if (mine.clock is None) != (blocks.clock is None):
            raise InputError(f"{self.file} and the other field do not both have times: give both a time coordinate")
        if mine.calendar != blocks.calendar:
            raise InputError(
                f"{self.file} has times of the calendar {mine.calendar or 'of numbers'}, the other field of "
                f"{blocks.calendar or 'numbers'}: convert one of them (xarray: convert_calendar)"
            )
        # Both are in the order of time.
        first = int(np.searchsorted(mine.high, blocks.low[0], side="right"))
        frames = slice(first, max(first, int(np.searchsorted(mine.low, blocks.high[-1]))))
        low, high = mine.low[frames], mine.high[frames]
        lengths = np.minimum.outer(blocks.high, high) - np.maximum.outer(blocks.low, low)
        return frames, np.clip(lengths, 0.0, None) / (blocks.high - blocks.low)[:, None]

    def _read(self, box: tuple[slice, slice, slice]) -> Array:
        return np.asarray(self._held[box] if self._held is not None else self._field[box].values, dtype=np.float32)


def covered(source: Source, field: xr.DataArray) -> NDArray[np.bool_]:
    """The frames of a field ([realization,] time, y, x) for which a source has values somewhere on it.

    Where that is in part, one line says so.

    Raises:
        InputError: if they have no time, or no place, in common.
    """
    blocks = cells(field)
    whole = slice(None)
    parts = (blocks.window(slice(t, t + FRAMES), whole, whole) for t in range(0, len(blocks.low), FRAMES))
    times = np.concatenate([source.in_time(part)[1].sum(1) >= 0.5 for part in parts])
    share = 1 - source.placing(blocks).covered
    name = source.field.name
    if not times.any():
        raise InputError(f"{source.file} has no {name} at any time of {field.name}: choose files of the same times")
    if share == 1:
        raise InputError(f"{source.file} has no {name} where {field.name} lies: choose files of the same place")
    said = []
    if not times.all():
        said.append(f"{np.count_nonzero(~times)} of {times.size} times")
    if share > 0:
        said.append(f"{share:.1%} of the cells")
    if said:
        warnings.warn(f"{source.file} has no {name} at {' and '.join(said)} of {field.name}", Notice, stacklevel=2)
    return times


DERIVED = ("day of year", "hour", "latitude", "cell size", "cadence")
"""Predictors that come of times and places: angles of the year and of the (solar) day, degrees, and logarithms of the
side of coarse cells in km, and of the length of coarse frames in hours."""


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
    if name == "cadence":
        if blocks.calendar == NO_DATES:
            raise InputError("the predictor cadence needs times that are dates")
        length = blocks.high - blocks.low
        known = (length != ALONE) & (length > 0)  # bounds of an instant have none
        return [np.log(np.where(known, length, np.nan) / 3600.0)[:, None, None]]
    y, x = (0.5 * (edges[1:] + edges[:-1]) for edges in (blocks.y, blocks.x))
    if name in ("latitude", "cell size"):
        if blocks.crs != "latlon" and name == "latitude":
            raise InputError("the predictor latitude needs a grid of latitudes and longitudes")
        if name == "latitude":
            return [y[None, :, None]]
        metres = np.abs(np.diff(blocks.y)).mean() * (np.pi / 180 * 6_371_000.0 if blocks.crs == "latlon" else 1.0)
        return [np.log(metres / 1000.0)[None, None, None]]
    if blocks.clock is None or np.isnan(blocks.clock).any():
        raise InputError(f"the predictor {name} needs times that are dates")
    year, day = blocks.clock[..., 0], blocks.clock[..., 1]
    turns = year[..., None]
    if name == "hour":
        turns = day[..., None] + (x / CIRCLE if blocks.crs == "latlon" else np.zeros(1))
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
