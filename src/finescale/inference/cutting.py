"""How the domain of a prediction is cut: sequences without gaps in time, windows, and stacks of windows."""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import xarray as xr

from finescale.errors import Notice
from finescale.grids import coordinates
from finescale.grids.grid import Grid
from finescale.grids.windows import Cut, Triple, Window, cut, shifted
from finescale.inference.request import Model, Request

AT_ONCE, FRAMES = 2**24, 96
"""Fine cells of a window, and frames of its core, where coarse frames are refined together."""


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of a prediction, sequence by sequence, each made when it is asked for.

    Attributes:
        cuts: of every sequence its first frame, and how it is cut.
    """

    cuts: list[tuple[int, Cut]]

    @cached_property
    def _ends(self) -> list[int]:
        """Of every sequence the number after its last window's."""
        return list(accumulate(len(found) for _, found in self.cuts))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: int) -> Window:
        at = bisect_right(self._ends, number)
        start, found = self.cuts[at]
        return shifted(found[number - (self._ends[at - 1] if at else 0)], start)

    def __iter__(self) -> Iterator[Window]:
        return map(self.__getitem__, range(len(self)))

    @property
    def most(self) -> int:
        """Coarse cells that a window reads at most."""
        return max(found.most for _, found in self.cuts)

    def starts(self, axis: int) -> set[int]:
        """First cells of the cores along an axis."""
        return {first * (axis == 0) + core.start for first, found in self.cuts for core, _, _ in found.axes[axis]}


def windows(model: Model, coarse: xr.DataArray, grid: Grid, request: Request) -> Windows:
    """The windows of a field (time, y, x) on its grid, sequence by sequence, in coarse cells."""
    _, y, x = grid.shape
    found = sequences(model, coarse)
    alike = {}
    for n in {stop - start for start, stop in found}:
        size, halo = _sizes(model, request, (n, y, x))
        alike[n] = cut((n, y, x), size, halo, multiple=model.multiple)
    return Windows([(start, alike[stop - start]) for start, stop in found])


def _sizes(model: Model, request: Request, shape: Triple) -> tuple[Triple, Triple]:
    """A window's core and its halo.

    Where the constraint lets coarse frames see each other (`Model.across`) a window is as many of them as can be held,
    so that steps from one to the next are as those within.
    """
    size, halo = request.window or model.window, model.halo if request.halo is None else request.halo
    around = model.across if request.halo is None else halo[0]
    if request.window is not None or not around:
        return size, halo
    plane = math.prod(min(n, s + 2 * h) for n, s, h in zip(shape[1:], size[1:], halo[1:], strict=True))
    fits, frames = AT_ONCE // (plane * model.factor.cells), min(shape[0], -(-FRAMES // model.factor.time))
    core = frames if shape[0] <= min(fits, frames) else min(frames, fits - 2 * around)
    if core < min(shape[0], 2 * around):  # more would be made about it than is kept
        return size, halo
    return (core, *size[1:]), (around, *halo[1:])


def sequences(model: Model, coarse: xr.DataArray) -> list[tuple[int, int]]:
    """First frame, and the one after the last, of every stretch over which something is refined together.

    That ends at gaps in time, where the model sees or makes several frames at once.
    """
    sequential = model.context > 1 or model.factor.time > 1 or model.neighbours > 0
    gaps = coordinates.breaks(coarse) if sequential else ()
    found = list(pairwise((0, *gaps, coarse.shape[-3])))
    shortest = min(stop - start for start, stop in found)
    if shortest < model.context:
        warnings.warn(
            f"a sequence of {shortest} coarse frames is shorter than the {model.context} that the model saw in "
            "training: its context is shortened",
            Notice,
            stacklevel=2,
        )
    return found


def stacks(windows: Iterable[Window], most: int) -> Iterator[range]:
    """Windows that are sampled together: the same cells at several times, ``most`` at once, in their numbers."""
    start, first, stop = 0, None, 0
    for stop, window in enumerate(windows):
        if first is None or stop - start == most or not _alike(first, window):
            if first is not None:
                yield range(start, stop)
            start, first = stop, window
    yield range(start, stop + 1)


def _alike(a: Window, b: Window) -> bool:
    """Whether two windows are the same cells, and as many frames, at different times."""
    frames = [window.read[0].stop - window.read[0].start for window in (a, b)]
    return frames[0] == frames[1] and (a.read[1:], a.core[1:]) == (b.read[1:], b.core[1:])
