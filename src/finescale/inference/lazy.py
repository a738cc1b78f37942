"""A prediction as dask arrays: a block for every window and batch of members, computed when it is asked for.

What is computed at once is what `Tasks.results` would compute at once, a stack of windows, so that values are the same
to the bit; its blocks share it. One is computed at a time, as files are read by one thread and networks use all.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.utils import SerializableLock
from numpy.typing import NDArray

from finescale.inference.tasks import Piece, Tasks

Array = NDArray[np.float32]
Key = tuple[int, ...]
"""The first cells of a block."""


def lazily(tasks: Tasks) -> xr.Dataset:
    """The output's dataset, of which nothing is computed yet; residuals, which are of all of it, are not there."""
    blocks: dict[str, dict[Key, da.Array]] = {name: {} for name in tasks.output.shapes}
    lock = SerializableLock()
    for piece in tasks.pieces:
        for part, _ in enumerate(tasks.parts(piece)):
            made: Any = dask.delayed(partial(_computed, tasks, piece, part, lock), pure=False)()
            for number, window in enumerate(tasks.windows[n] for n in piece[0]):
                for name, region in tasks.regions(window, piece[1], part).items():
                    shape = tuple(side.stop - side.start for side in region)
                    block = da.from_delayed(made[number][name], shape, np.float32, meta=np.empty((), np.float32))
                    blocks[name][tuple(side.start for side in region)] = block
    return tasks.output.template({name: _assembled(found) for name, found in blocks.items()})


def _computed(tasks: Tasks, piece: Piece, part: int, lock: Any) -> list[dict[str, Array]]:
    """The parts of every window of a stack."""
    with lock:
        read = tasks.read(piece)
        return [{name: values for name, _, values in parts} for parts, _ in tasks.sampled(read, piece, part)]


def _assembled(blocks: dict[Key, da.Array]) -> da.Array:
    """An array of blocks that fill a box, by their first cells."""

    def nested(before: Key, axis: int) -> Any:
        if axis == len(starts):
            return blocks[before]
        return [nested((*before, start), axis + 1) for start in starts[axis]]

    starts = [sorted(set(firsts)) for firsts in zip(*blocks, strict=True)]
    return da.block(nested((), 0))
