"""How the domain of a prediction is cut: sequences without gaps in time, windows, and stacks of windows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise

import xarray as xr

from finescale.errors import Notice
from finescale.grids import coordinates
from finescale.grids.grid import Grid
from finescale.grids.windows import Window, cut, shifted
from finescale.inference.request import Model, Request


def windows(model: Model, coarse: xr.DataArray, grid: Grid, request: Request) -> list[Window]:
    """The windows of a field (time, y, x) on its grid, sequence by sequence, in coarse cells."""
    size, halo = request.window or model.window, request.halo
    halo = model.halo if halo is None else halo
    _, y, x = grid.shape
    return [
        shifted(window, start)
        for start, stop in sequences(model, coarse)
        for window in cut((stop - start, y, x), size, halo, multiple=model.multiple)
    ]


def sequences(model: Model, coarse: xr.DataArray) -> list[tuple[int, int]]:
    """First frame, and the one after the last, of every stretch over which something is refined together.

    That ends at gaps in time, where the model sees or makes several frames at once.
    """
    sequential = model.context > 1 or model.factor.time > 1
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


def stacks(windows: Sequence[Window], most: int) -> list[range]:
    """Windows that are sampled together: the same cells at several times, ``most`` at once, in their numbers."""
    found = [range(0)]
    for number, window in enumerate(windows):
        stack = found[-1]
        if stack and len(stack) < most and _alike(windows[stack[0]], window):
            found[-1] = range(stack.start, number + 1)
        else:
            found.append(range(number, number + 1))
    return found[1:]


def _alike(a: Window, b: Window) -> bool:
    """Whether two windows are the same cells, and as many frames, at different times."""
    frames = [window.read[0].stop - window.read[0].start for window in (a, b)]
    return frames[0] == frames[1] and (a.read[1:], a.core[1:]) == (b.read[1:], b.core[1:])
