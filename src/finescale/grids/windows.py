"""All tile arithmetic in (time, y, x).

A domain of n cells along one axis is cut into cores [b_k, b_{k+1}) that partition it. Window k reads its core and a
margin of blend + halo cells on either side, and owns the weight

    w_k(p) = r_k(p) - r_{k+1}(p),      r_k(p) = clip((p + ½ - b_k + blend) / (2·blend), 0, 1)

with r_0 = 1 and r_K = 0 at the borders of the domain. The sum over k telescopes to 1 at every cell p: a partition of
unity. w_k is 1 in the core's interior, a linear ramp across ±blend around a border, and exactly 0 in the halo. The
weight in three dimensions is the outer product. Read ranges start at multiples of a given number of cells, so that a
network that halves its grid a few times sees the same alignment in every window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from finescale.errors import InputError
from finescale.grids.factor import Factor

AXES = ("time", "y", "x")
Triple = tuple[int, int, int]
Slices = tuple[slice, slice, slice]
Weights = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
Side = tuple[slice, slice, NDArray[np.float64]]
"""Core, read and weights of a window along one axis."""


@dataclass(frozen=True, eq=False)
class Window:
    """One tile: what it reads, what it owns, and how much of the result at each cell it read is its own.

    Attributes:
        core: slices of the domain that this window owns; cores partition the domain.
        read: slices of the domain that it reads: the core, the blend margin and the halo.
        weights: one vector per axis over ``read``; their outer product is the blend weight.
    """

    core: Slices
    read: Slices
    weights: Weights

    @property
    def inner(self) -> Slices:
        """The core relative to ``read``: ``array[read][inner]`` is ``array[core]``."""
        t, y, x = (slice(c.start - r.start, c.stop - r.start) for c, r in zip(self.core, self.read, strict=True))
        return t, y, x

    @property
    def weight(self) -> NDArray[np.float64]:
        """The blend weight over ``read``, (t, y, x)."""
        t, y, x = self.weights
        return t[:, None, None] * y[:, None] * x

    @property
    def start(self) -> Triple:
        """The first cell (t, y, x) that is read."""
        t, y, x = (r.start for r in self.read)
        return t, y, x

    def scaled(self, factor: Factor | Triple) -> tuple[Slices, Slices, Slices]:
        """(core, read, inner) on a grid refined by ``factor`` (t, y, x)."""
        return _scaled(self.core, factor), _scaled(self.read, factor), _scaled(self.inner, factor)


@dataclass(frozen=True, eq=False)
class Cut:
    """The windows of a domain in order, the last axis fastest, each made when it is asked for: decades have millions.

    Attributes:
        axes: of each axis the cores, reads and weights.
    """

    axes: tuple[list[Side], list[Side], list[Side]]

    def __len__(self) -> int:
        return math.prod(map(len, self.axes))

    def __getitem__(self, number: int) -> Window:
        rest, at_x = divmod(range(len(self))[number], len(self.axes[2]))
        at_t, at_y = divmod(rest, len(self.axes[1]))
        t, y, x = self.axes[0][at_t], self.axes[1][at_y], self.axes[2][at_x]
        return Window((t[0], y[0], x[0]), (t[1], y[1], x[1]), (t[2], y[2], x[2]))

    def __iter__(self) -> Iterator[Window]:
        return map(self.__getitem__, range(len(self)))

    @property
    def most(self) -> int:
        """Cells that a window reads at most."""
        return math.prod(max(read.stop - read.start for _, read, _ in axis) for axis in self.axes)


def cut(
    shape: Triple, size: Triple, halo: Triple = (0, 0, 0), blend: Triple = (0, 0, 0), multiple: Triple = (1, 1, 1)
) -> Cut:
    """Cut a domain of ``shape`` (t, y, x) cells into windows, the last axis fastest.

    Args:
        shape: cells of the domain.
        size: cells of a core, rounded up to ``multiple``; larger than the domain gives one window along that axis.
        halo: context cells beyond the blend margin, read but of weight 0.
        blend: half width of the ramp around an interior border.
        multiple: cores and reads start at multiples of this, counted from the domain's first cell.

    Raises:
        InputError: for numbers below what makes sense, or a blend margin wider than a core.
    """
    for name, values, least in (
        ("shape", shape, 1),
        ("window", size, 1),
        ("halo", halo, 0),
        ("blend", blend, 0),
        ("multiple", multiple, 1),
    ):
        if len(values) != 3 or any(int(v) != v or v < least for v in values):
            raise InputError(f"{name} {tuple(values)} must be three whole numbers (time, y, x) of at least {least}")
    t, y, x = (_cut_axis(*arguments) for arguments in zip(AXES, shape, size, halo, blend, multiple, strict=True))
    return Cut((t, y, x))


def shifted(window: Window, frames: int) -> Window:
    """The window of a sequence that begins at frame ``frames`` of the domain."""
    (core, *core_space), (read, *read_space) = window.core, window.read
    moved = slice(core.start + frames, core.stop + frames), slice(read.start + frames, read.stop + frames)
    return Window((moved[0], *core_space), (moved[1], *read_space), window.weights)  # type: ignore[arg-type]


def pad_to(n: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is at least ``n``."""
    return -(-n // multiple) * multiple


def _cut_axis(axis: str, n: int, size: int, halo: int, blend: int, multiple: int) -> list[Side]:
    size = pad_to(size, multiple)
    borders = [*range(0, n, size), n]
    if blend > size and len(borders) > 2:
        raise InputError(
            f"a blend of {blend} cells along {axis} is wider than a window's core of {size}: take larger windows"
        )
    margin = blend + halo
    # r_0 is 1 everywhere, r_K is 0.
    ends = {0: -np.inf, n: np.inf}
    windows = []
    for start, stop in pairwise(borders):
        read = slice(max(0, (start - margin) // multiple * multiple), min(n, pad_to(stop + margin, multiple)))
        centres = np.arange(read.start, read.stop, dtype=np.float64) + 0.5
        low, high = (_ramp(centres, ends.get(border, border), blend) for border in (start, stop))
        windows.append((slice(start, stop), read, low - high))
    return windows


def _ramp(centres: NDArray[np.float64], border: float, blend: int) -> NDArray[np.float64]:
    if blend == 0:
        return (centres > border).astype(np.float64)
    return np.clip((centres - border + blend) / (2 * blend), 0.0, 1.0)


def _scaled(slices: Slices, factor: Factor | Triple) -> Slices:
    t, y, x = (slice(s.start * f, s.stop * f) for s, f in zip(slices, factor, strict=True))
    return t, y, x
