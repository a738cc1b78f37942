"""Fine fields as training reads them: boxes of several variables on one grid, in memory or from their store."""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.lazy import stored_chunks, tiles
from finescale.data.sources import Partner
from finescale.data.static import StaticFields
from finescale.data.units import is_rain
from finescale.errors import InputError
from finescale.grids.blocks import block_means
from finescale.grids.coordinates import breaks, read_grid
from finescale.grids.factor import Factor, Factors
from finescale.grids.grid import Grid
from finescale.grids.motion import mean_velocity, motion, resampled, seen
from finescale.training.survey import TILE, Triple

Array = NDArray[np.float32]
SHARE = 4
"""Fields are held in memory where they take no more than a quarter of what is available, unless told otherwise."""
MOVING = Factor(1, 8)
"""Blocks of cells whose motion is looked for."""
ROOM = 2**28
"""Bytes that motions may take of a field that is not held in memory; those of one that is, an eighth of it."""


class Field:
    """C variables on one grid, with the areas of its cells and what else crops carry.

    Args:
        variables: each (time, y, x), in the model's units, lazy or not.
        hold: read them into memory now; otherwise every box is read when it is asked for.
        static: static fields that are interpolated to its cells.
        partner: what other sources say of it.
        like: another field: on the same cells both share areas and static fields.

    Attributes:
        shape: (C, T, H, W).
        chunks: cells (t, y, x) of a chunk of the store; None where there are none.
        gaps: frames that follow a gap in time.
        area: (H, W) cell areas up to a constant.
        static: (S, H, W), where there are static fields.

    Raises:
        InputError: if the variables do not lie on one grid, or the static fields lie elsewhere.
    """

    def __init__(
        self,
        variables: Sequence[xr.DataArray],
        hold: bool = True,
        static: StaticFields | None = None,
        partner: Partner | None = None,
        like: Field | None = None,
    ) -> None:
        first = variables[0]
        for other in variables[1:]:
            if other.shape != first.shape:
                raise InputError(
                    f"the variables {first.name} {first.shape} and {other.name} {other.shape} do not lie on one grid: "
                    "bring them to the same times and cells"
                )
        self.variables, self.partner = list(variables), partner
        self.shape = (len(variables), *size(first))
        self.chunks = _chunks(first)
        self.grid = read_grid(first)
        self.area: Array
        self.static: Array | None = None
        if like is not None and _same_cells(self.grid, like.grid):
            self.area, self.static = like.area, like.static
        else:
            self.area = read_grid(first).cell_area.astype(np.float32)  # of a grid that does not keep it
            self.static = None if static is None else static.at(self.grid)
        self.values = self._read() if hold else None
        room = ROOM if self.values is None else max(ROOM, self.values.nbytes // 8)
        # Found once, as long as there is room.
        self._moving = lru_cache(max(1, room // max(1, 8 * math.prod(self._blocks))))(self._found)

    @cached_property
    def gaps(self) -> tuple[int, ...]:
        """The frames that begin a new sequence.

        Raises:
            InputError: for uneven times, which only crops of several frames mind.
        """
        return breaks(self.variables[0])

    def box(self, t: slice, y: slice, x: slice) -> Array:
        """(C, t, h, w) in single precision; NaN where unknown. Not to be written to."""
        if self.values is not None:
            return self.values[:, t, y, x]
        return np.stack([_values(variable, t, y, x) for variable in self.variables])

    def sequence(self, frame: int) -> tuple[int, int]:
        """The first frame of the sequence without gaps that a frame is of, and the frame after its last."""
        ends = [0, *self.gaps, self.shape[1]]
        at = bisect_right(ends, frame)
        return ends[at - 1], ends[at]

    @property
    def longest(self) -> int:
        """Frames of the longest sequence without gaps."""
        return int(np.diff([0, *self.gaps, self.shape[1]]).max())

    def velocity(self, t: slice, y: slice, x: slice, factor: Factor) -> Array:
        """Coarse cells (2, t, h, w) that a box's coarse frames move by in their length, along y and x.

        That of the mean of the pairs of the box's frames that end or begin in them; 0 where nothing follows. A box may
        have every so many-th frame alone (``t.step``).
        """
        start, stop = self.sequence(t.start)
        step, frames = t.step or 1, []
        for first in range(t.start, t.stop, factor.time * step):
            near = range(first - step, first + factor.time * step, step)
            pairs = [pair for pair in near if start <= pair < stop - step]
            frames.append(mean_velocity([self._moving(pair, step) for pair in pairs], self._blocks))
        cells, blocks = (factor.y, factor.x), (MOVING.y, MOVING.x)
        found = resampled(np.stack(frames, 1), (y, x), cells, blocks)
        by = [factor.time * block / cell for block, cell in zip(blocks, cells, strict=True)]
        return found * np.array(by, np.float32)[:, None, None, None]

    @property
    def _blocks(self) -> tuple[int, int]:
        return self.shape[2] // MOVING.y, self.shape[3] // MOVING.x

    def _found(self, frame: int, step: int) -> Array:
        """Motion (2, h, w) of blocks from a frame to one after it."""
        height, width = (n * MOVING.y for n in self._blocks)
        part = self.box(slice(frame, frame + step + 1, step), slice(height), slice(width))[0]
        known = np.isfinite(part)
        with np.errstate(invalid="ignore"):
            means = block_means(np.where(known, part, 0), MOVING) / block_means(known.astype(np.float32), MOVING)
        return motion(*seen(means.astype(np.float32), is_rain(self.variables[0])))

    def _read(self) -> Array:
        """All values; a part at a time, so that they never are in memory twice."""
        out = np.empty(self.shape, np.float32)
        frames, height, width = self.chunks or (1, 1, self.shape[3])
        for t in range(0, self.shape[1], frames):
            for y, x in tiles((self.shape[2], self.shape[3]), (height, width), max(1, TILE // frames)):
                for variable, into in zip(self.variables, out, strict=True):
                    into[t : t + frames, y, x] = _values(variable, slice(t, t + frames), y, x)
        return out


def size(field: xr.DataArray) -> Triple:
    """(T, H, W) of a field (time, y, x)."""
    frames, height, width = field.shape
    return frames, height, width


def nbytes(fields: Sequence[Sequence[xr.DataArray]]) -> int:
    """What fields take in memory, in single precision."""
    return sum(4 * variable.size for variables in fields for variable in variables)


def available() -> int:
    """Bytes of memory that this machine could give to a process now; half of all where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def check_crop(field: xr.DataArray, factors: Factors, crop: Triple) -> None:
    """Refuse crops (T, H, W) that a field does not hold, or that are not whole blocks; nothing is read.

    Raises:
        InputError: that says which of the two.
    """
    single = factors.single
    if single is not None and any(n % f for n, f in zip(crop, single, strict=True)):
        raise InputError(f"a crop of {crop} cells (time, y, x) is not divisible by the factor {single}")
    if single is None and min(crop[1:]) < factors.space[1]:
        raise InputError(f"a crop of {crop} cells (time, y, x) is smaller than a block of the largest factor")
    if any(n < c for n, c in zip(field.shape, crop, strict=True)):
        raise InputError(
            f"a field of {field.shape} cells (time, y, x) is smaller than the training crop {crop}: "
            "take a larger one, or lower data.crop or data.frames"
        )


def _same_cells(a: Grid, b: Grid) -> bool:
    own = a.area is not None or b.area is not None  # areas that edges do not tell
    return not own and a.crs == b.crs and np.array_equal(a.y, b.y) and np.array_equal(a.x, b.x)


def _values(variable: xr.DataArray, t: slice, y: slice, x: slice) -> Array:
    part = variable.isel(dict(zip(variable.dims, (t, y, x), strict=True)))
    return np.asarray(part.values).astype(np.float32, copy=False)


def _chunks(variable: xr.DataArray) -> Triple | None:
    stored = stored_chunks(variable)
    return None if stored is None else (stored[0], stored[1], stored[2])
