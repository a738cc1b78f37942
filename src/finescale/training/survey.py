"""One pass over a fine field: which crops count, how much falls in them, and what values there are.

Crops lie on a grid of positions, every frame and every ``stride`` cells. The field is gone through in tiles of whole
chunks, never more than about `TILE` cells of it at once. Between neighbouring edges of crops cells are only summed up,
so that of a frame little more than its positions is kept:

    S[a, b] = Σ of cells between edges a, a + 1 of y and b, b + 1 of x     (of known cells, wet cells, amounts)
    crop    = Σ of S over its rows and columns, by a summed-area table, and over its frames

Numbers of cells are whole and so exact. Of more than `MOST` positions an even part is kept: those whose hash is below a
half, a quarter … of its range, which depends on the position alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from finescale.data.lazy import tiles
from finescale.errors import InputError

Array = NDArray[np.float32]
Triple = tuple[int, int, int]
TILE = 2**21
"""Cells that are looked at together: 8 MiB a variable, and some times that on the way."""
MOST = 2**22
"""Positions that are kept, of all fields together: 80 MiB."""


@dataclass(frozen=True)
class Criteria:
    """What makes a crop worth training on.

    Attributes:
        min_valid: least share of known cells; a cell is known where all variables are.
        min_wet: least share of cells where the first variable is above `wet`; 0 to take every crop.
        wet: amount above which a cell counts as wet, in the first variable's units.
    """

    min_valid: float = 0.95
    min_wet: float = 0.0
    wet: float = 0.1

    def accept(self, crop: Array) -> bool:
        """Whether a crop (C, T, H, W) counts."""
        known = np.isfinite(crop).all(0).mean() >= self.min_valid
        return bool(known and (crop[0] > self.wet).mean() >= self.min_wet)


class Source(Protocol):
    """C variables on one grid."""

    shape: tuple[int, int, int, int]
    chunks: Triple | None

    def box(self, t: slice, y: slice, x: slice) -> Array:
        """(C, t, h, w) in single precision."""


@dataclass(frozen=True)
class Survey:
    """What the pass has found.

    Attributes:
        positions: (n, 3) frame, row and column of each crop that counts, in this order.
        amounts: (n,) means of the first variable in them, unknown cells as 0.
        halvings: how often the number of positions was halved.
        cells: of the field (time, y, x).
        missing: cells where not all variables are known.
        wet: cells where the first variable is wet.
        low: least value of each variable; NaN where all are missing.
        high: likewise the largest.
        mean: likewise.
        most: the largest share of known cells in a crop, and of wet ones in those that are known enough.
    """

    positions: NDArray[np.int32]
    amounts: Array
    halvings: int
    cells: int
    missing: int
    wet: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    most: tuple[float, float]

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def share_missing(self) -> float:
        return self.missing / self.cells

    @property
    def wet_share(self) -> float:
        """Of the known cells."""
        return self.wet / max(1, self.cells - self.missing)

    def thinned(self, halvings: int) -> Survey:
        """With the positions that are left after so many halvings."""
        if halvings <= self.halvings:
            return self
        keep = _kept(self.positions, halvings)
        return replace(self, positions=self.positions[keep], amounts=self.amounts[keep], halvings=halvings)


def joined(surveys: Sequence[Survey]) -> list[Survey]:
    """The surveys of several fields with the same part of their positions kept, together at most `MOST`."""
    halvings = max(one.halvings for one in surveys)
    while sum(len(one.thinned(halvings)) for one in surveys) > MOST:
        halvings += 1
    return [one.thinned(halvings) for one in surveys]


def survey(source: Source, crop: Triple, stride: int, criteria: Criteria, gaps: Sequence[int] = ()) -> Survey:
    """Go through a field.

    Args:
        source: the field.
        crop: (T, H, W) cells.
        stride: cells between positions in space.
        criteria: which crops count.
        gaps: frames that follow a gap in time, over which no crop reaches.
    """
    channels, *shape = source.shape
    sides = [_Side(n, size, stride) for n, size in zip(shape[1:], crop[1:], strict=True)]
    found, values = _Found(), _Values(channels)
    torn = np.zeros(shape[0], bool)
    for gap in gaps:
        torn[max(0, gap - crop[0] + 1) : gap] = True
    recent: list[NDArray[np.float64]] = []  # sums over the crops' planes of the frames before, (3, ny, nx)
    for start, sums in _slabs(source, sides, criteria.wet, values):
        for offset in range(sums.shape[1]):
            recent = [*recent, sums[:, offset]][-crop[0] :]
            t = start + offset - crop[0] + 1
            if t >= 0 and not torn[t]:
                found.add(t, sum(recent[1:], recent[0]), crop, stride, criteria)
    return found.survey(values, int(np.prod(shape)))


class _Side:
    """An axis cut at the edges of all crops: ``cuts`` begin its parts, crop i holds the parts first[i]:last[i]."""

    def __init__(self, cells: int, crop: int, stride: int) -> None:
        starts = np.arange(0, cells - crop + 1, stride)
        self.cells, self.cuts = cells, np.unique(np.concatenate([[0], starts, starts + crop]))
        self.cuts = self.cuts[self.cuts < cells]
        self.first = np.searchsorted(self.cuts, starts)
        self.last = np.searchsorted(self.cuts, starts + crop)

    def within(self, cells: slice) -> tuple[slice, NDArray[np.int64]]:
        """The parts that some cells reach into, and where each begins among them."""
        low = int(np.searchsorted(self.cuts, cells.start, side="right")) - 1
        high = int(np.searchsorted(self.cuts, cells.stop))
        return slice(low, high), (self.cuts[low:high] - cells.start).clip(0)


def _slabs(
    source: Source, sides: Sequence[_Side], wet: float, values: _Values
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """First frame and, for each frame, sums (3, t, ny, nx) over the planes of crops: known, wet, amount."""
    _, times, *plane = source.shape
    frames, parts = _plan(source, sides)
    tasks = [(t, y, x) for t in range(0, times, frames) for y, x in parts]

    def read(task: tuple[int, slice, slice]) -> Array:
        return source.box(slice(task[0], min(task[0] + frames, times)), *task[1:])

    bar = tqdm(total=len(tasks), desc="looking through the data", unit="tile", delay=5, leave=False, disable=None)
    with ThreadPoolExecutor(1) as pool, bar:
        ahead = pool.submit(read, tasks[0])
        for number, (t, y, x) in enumerate(tasks):
            tile = ahead.result()
            if number + 1 < len(tasks):
                ahead = pool.submit(read, tasks[number + 1])
            if (y.start, x.start) == (0, 0):
                sums = np.zeros((3, tile.shape[1], *(len(side.cuts) for side in sides)))
            (rows, down), (columns, across) = (s.within(c) for s, c in zip(sides, (y, x), strict=True))
            for into, what in zip(sums, _planes(tile, wet, values), strict=True):
                into[:, rows, columns] += np.add.reduceat(_rows(what, down), across, axis=2)
            bar.update()
            if y.stop == plane[0] and x.stop == plane[1]:
                yield t, _windows(sums, *sides)


def _rows(what: NDArray[Any], cuts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums (t, parts, w) of (t, h, w) over rows between cuts; seven times as fast as reduceat, and without copies."""
    ends = [*cuts[1:], what.shape[1]]
    wide = np.int32 if what.dtype == bool else np.float64
    parts = [what[:, a:b].sum(1, dtype=wide) for a, b in zip(cuts, ends, strict=True)]
    return np.stack(parts, 1).astype(np.float64, copy=False)


def _plan(source: Source, sides: Sequence[_Side]) -> tuple[int, list[tuple[slice, slice]]]:
    """Frames of a slab, and the tiles of a plane."""
    _, times, *plane = source.shape
    chunks = source.chunks or (1, 1, plane[1])
    # A chunk is read once where it is not huge.
    frames = min(chunks[0], times, max(1, 8 * TILE // (chunks[1] * chunks[2])))
    frames = max(1, min(frames, TILE // 4 // math.prod(len(side.cuts) for side in sides)))
    return frames, list(tiles((plane[0], plane[1]), (chunks[1], chunks[2]), max(1, TILE // frames)))


def _planes(tile: Array, wet: float, values: _Values) -> Iterator[NDArray[Any]]:
    """(t, h, w) of a tile (C, t, h, w): whether known, whether wet, amounts with 0 where unknown."""
    known = np.isfinite(tile)
    everywhere, is_wet = np.logical_and.reduce(known, 0), tile[0] > wet
    amounts = tile if everywhere.all() else np.where(known, tile, np.float32(0))
    values.add(tile, amounts, known, everywhere, is_wet)
    yield from (everywhere, is_wet, amounts[0])


def _windows(sums: NDArray[np.float64], y: _Side, x: _Side) -> NDArray[np.float64]:
    """Sums over the planes of crops (3, t, ny, nx) from those between edges (3, t, a, b)."""
    table = np.zeros((*sums.shape[:2], sums.shape[2] + 1, sums.shape[3] + 1))
    np.cumsum(np.cumsum(sums, 2), 3, out=table[:, :, 1:, 1:])
    rows = table[:, :, y.last] - table[:, :, y.first]
    windows: NDArray[np.float64] = rows[..., x.last] - rows[..., x.first]
    return windows


class _Values:
    """What values there are, tile by tile."""

    def __init__(self, channels: int) -> None:
        self.known = np.zeros(channels, np.int64)
        self.total = np.zeros(channels)
        self.low, self.high = np.full(channels, np.nan), np.full(channels, np.nan)
        self.everywhere = self.wet = 0

    def add(
        self,
        tile: Array,
        amounts: Array,
        known: NDArray[np.bool_],
        everywhere: NDArray[np.bool_],
        wet: NDArray[np.bool_],
    ) -> None:
        over = (1, 2, 3)
        self.known += [np.count_nonzero(one) for one in known]
        self.total += amounts.sum(over, dtype=np.float64)
        self.low = np.fmin(self.low, np.fmin.reduce(tile, axis=over))
        self.high = np.fmax(self.high, np.fmax.reduce(tile, axis=over))
        self.everywhere += int(np.count_nonzero(everywhere))
        self.wet += int(np.count_nonzero(wet & everywhere))


class _Found:
    """The positions so far."""

    def __init__(self) -> None:
        self.positions: list[NDArray[np.int32]] = []
        self.amounts: list[Array] = []
        self.count = self.halvings = 0
        self.most = (0.0, 0.0)

    def add(self, t: int, sums: NDArray[np.float64], crop: Triple, stride: int, criteria: Criteria) -> None:
        """Take those of a frame; ``sums`` (3, ny, nx) over crops."""
        known, wet, amount = sums / np.prod(crop)
        enough = known >= criteria.min_valid
        self.most = (
            max(self.most[0], float(known.max())),
            max(self.most[1], float(wet[enough].max(initial=0.0))),
        )
        y, x = np.nonzero(enough & (wet >= criteria.min_wet))
        positions = np.stack([np.full_like(y, t), y * stride, x * stride], 1).astype(np.int32)
        keep = _kept(positions, self.halvings)
        self.positions.append(positions[keep])
        self.amounts.append(amount[y, x][keep].astype(np.float32))
        self.count += int(keep.sum())
        while self.count > MOST:
            self.halvings += 1
            keeps = [_kept(one, self.halvings) for one in self.positions]
            self.positions = [one[keep] for one, keep in zip(self.positions, keeps, strict=True)]
            self.amounts = [one[keep] for one, keep in zip(self.amounts, keeps, strict=True)]
            self.count = sum(map(len, self.positions))

    def survey(self, values: _Values, cells: int) -> Survey:
        positions = np.concatenate([np.empty((0, 3), np.int32), *self.positions])
        amounts = np.concatenate([np.empty(0, np.float32), *self.amounts])
        with np.errstate(invalid="ignore"):
            mean = np.where(values.known > 0, values.total / np.maximum(values.known, 1), np.nan)
        ends = (tuple(map(float, one)) for one in (values.low, values.high, mean))
        low, high, means = ends
        missing = cells - values.everywhere
        return Survey(positions, amounts, self.halvings, cells, missing, values.wet, low, high, means, self.most)


def _kept(positions: NDArray[np.int32], halvings: int) -> NDArray[np.bool_]:
    return _hash(positions) >> np.uint64(64 - halvings) == 0 if halvings else np.ones(len(positions), bool)


def _hash(positions: NDArray[np.int32]) -> NDArray[np.uint64]:
    """A number of 64 random bits for each position (splitmix64, Steele et al. 2014)."""
    t, y, x = positions.T.astype(np.uint64)
    with np.errstate(over="ignore"):
        z = (t * np.uint64(1_000_003) + y) * np.uint64(1_000_003) + x + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed


def none_counts(most: tuple[float, float], crop: Triple, criteria: Criteria) -> InputError:
    """Which criterion no crop fulfils, and what would."""
    known, wet = most
    size = " x ".join(map(str, crop))
    if known < criteria.min_valid:
        return InputError(
            f"no crop of {size} cells (time, y, x) is known in {criteria.min_valid:.4g} of its cells, but in "
            f"{known:.4g} at most: lower data.min_valid or data.crop, or choose other data"
        )
    return InputError(
        f"no crop of {size} cells (time, y, x) has more than {criteria.wet:g} in {criteria.min_wet:.4g} "
        f"of its cells, but in {wet:.4g} at most: lower data.min_wet or data.wet, or choose other data"
    )
