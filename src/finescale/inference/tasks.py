"""One prediction cut into tasks: every window x batch of members is one, and so are a window's marginals.

Noise is keyed by (seed, member, absolute position), so a task is to read a window with its halo, sample, and keep the
core; a result depends neither on the order of tasks nor on an interruption. Small windows that follow each other in
time go through the networks together, as a stack. The model always sees y and x increasing,
so a field stored north to south gives the same members as the same field stored south to north; results keep the
input's order.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress, count, zip_longest
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from finescale.data.static import StaticFields
from finescale.data.store import Part, Region
from finescale.data.units import conversion, convert_units
from finescale.errors import InputError
from finescale.grids import coordinates, relabel
from finescale.grids.blocks import block_means
from finescale.grids.grid import Grid
from finescale.grids.windows import Window
from finescale.inference.cutting import stacks, windows
from finescale.inference.output import Note, Output
from finescale.inference.request import Model, Request
from finescale.model.batch import Ensemble, Inputs, Members
from finescale.model.uncertainty import Marginals


@dataclass(frozen=True)
class Tasks:
    """One prediction, cut into tasks.

    Args:
        model: a downscaler, at the factor wanted.
        coarse: the field (time, y, x) in its own units and order.
        attrs: global attributes of its store.
        request: what is asked, with the number of members.
        static: static fields, for a model that takes them.

    Raises:
        InputError: for units that are not the model's, or a variance that it does not have.
    """

    model: Model
    coarse: xr.DataArray
    attrs: Mapping[Any, Any]
    request: Request
    static: StaticFields | None = None
    units: tuple[float, float] = field(init=False)
    """(scale, offset) from the input's units to the model's."""
    source: str | None = field(init=False)
    """Where the variance that is asked for besides members is from; None without one."""

    def __post_init__(self) -> None:
        asked = self.request.variance
        source = None
        if asked is not False:
            source = self.model.variance_source("auto" if asked is True else asked, self.request.latents)
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "units", self._units())

    @cached_property
    def grid(self) -> Grid:
        """The coarse grid, y and x increasing."""
        return coordinates.read_grid(self.increasing)

    @cached_property
    def increasing(self) -> xr.DataArray:
        return coordinates.increasing(self.coarse)

    @cached_property
    def flips(self) -> tuple[bool, bool]:
        """Whether y and x of the input decrease."""
        sides = [(self.coarse[dim], self.increasing[dim]) for dim in self.coarse.dims[-2:]]
        y, x = (bool(given[0] != turned[0]) for given, turned in sides)
        return y, x

    @cached_property
    def windows(self) -> list[Window]:
        """How the domain is cut; tasks are numbered in this order."""
        return windows(self.model, self.coarse, self.grid, self.request)

    @cached_property
    def batches(self) -> list[range]:
        size = self.request.count if self.together else self._at_once
        return [range(start, min(start + size, self.request.count)) for start in range(0, self.request.count, size)]

    @cached_property
    def _at_once(self) -> int:
        """(Window, member) pairs that are sampled at once."""
        cells = max(math.prod(n.stop - n.start for n in window.read) for window in self.windows)
        return self.request.batch or self.model.at_once(cells * self.model.factor.cells)

    @cached_property
    def stacks(self) -> list[range]:
        """Windows that are sampled together: the same cells at several times, in numbers of the list of windows."""
        members = max(map(len, self.batches), default=1)
        if self.source not in (None, "head"):
            members = max(members, self.request.latents)
        return stacks(self.windows, max(1, self._at_once // members))

    @property
    def together(self) -> bool:
        """Whether the members are also what the variance is from: then both are made at once."""
        return self.source == "members" and self.request.count > 1

    def __len__(self) -> int:
        return len(self.windows) * self._per_window

    @property
    def _per_window(self) -> int:
        return len(self.batches) + (self.source is not None and not self.together)

    @property
    def members_at_once(self) -> int:
        """Members sampled at once; 0 without members."""
        return len(self.batches[0]) if self.batches else 0

    @cached_property
    def output(self) -> Output:
        """What is written."""
        return Output(self)

    def results(self, done: Mapping[int, Any], files: Executor | None = None) -> Iterator[tuple[int, list[Part], Note]]:
        """Sample the tasks that are not ``done``: number, parts of the output, note.

        Args:
            done: finished tasks.
            files: what reads a window while the one before is computed; None to read each when it is its turn.
        """
        finished, each = set(done), self._per_window
        todo = [stack for stack in self.stacks if not finished.issuperset(_tasks(stack, each))]
        ahead = None if files is None or not todo else files.submit(self.read, todo[0])
        for stack, after in zip_longest(todo, todo[1:]):
            read = self.read(stack) if ahead is None else ahead.result()
            ahead = None if files is None or after is None else files.submit(self.read, after)
            for part in range(each):
                tasks = [number * each + part for number in stack]
                if finished.issuperset(tasks):
                    continue
                batch = self.batches[part] if part < len(self.batches) else range(0)
                # The whole stack again, so that an interruption does not change which windows share a batch.
                for task, result in zip(tasks, self._sampled(stack, *read, batch), strict=True):
                    if task not in finished:
                        yield task, *result

    def unchanged(self, done: Mapping[int, Note]) -> None:
        """Read again what was read for finished tasks: sampling is dear, reading is not.

        Raises:
            InputError: naming the first window whose input, or static fields, are not what they were.
        """
        each = self._per_window
        for stack in self.stacks:
            tasks = [[task for task in range(number * each, (number + 1) * each) if task in done] for number in stack]
            if not any(tasks):
                continue
            blocks, static = self.read(stack)
            for number, block, noted in zip(stack, blocks, tasks, strict=True):
                if any(done[task][3:] != [_hash(block, static)] for task in noted):
                    frames = self.windows[number].core[0]
                    raise InputError(
                        f"the input of the interrupted run has changed, first in frames {frames.start} to "
                        f"{frames.stop - 1}: give it as it was, or --overwrite without --resume to begin afresh"
                    )

    def read(self, stack: range) -> tuple[list[NDArray[np.float32]], Tensor | None]:
        """What the windows of a stack need from files; all reading is here, as HDF5 allows one thread alone.

        Returns:
            coarse cells (t, h, w) of each window with its halo, in the input's units; static fields (S, H, W) on the
            fine cells of them all, None where the model takes none or nothing is known in their cores.
        """
        windows = [self.windows[number] for number in stack]
        blocks = [np.ascontiguousarray(self.increasing[window.read].values, dtype=np.float32) for window in windows]
        known = any(np.isfinite(block[window.inner]).any() for block, window in zip(blocks, windows, strict=True))
        return blocks, None if self.static is None or not known else self._static(self.static, windows[0])

    def _sampled(
        self, stack: range, blocks: list[NDArray[np.float32]], static: Tensor | None, batch: range
    ) -> Iterator[tuple[list[Part], Note]]:
        """The cores of some windows for some members, or of their marginals, or of both."""
        windows = [self.windows[number] for number in stack]
        known = [bool(np.isfinite(block[w.inner]).any()) for block, w in zip(blocks, windows, strict=True)]
        drawn: Ensemble | None = None
        found: Marginals | None = None
        uncertain = self.together or not batch
        if any(known):
            given = self._given(list(compress(blocks, known)), static, list(compress(windows, known)))
            seed, steps = self.request.seed, self.request.steps
            if uncertain and self.source is not None:
                latents = Members(range(self.request.latents), seed, steps)
                # Latents that no member is asked of need not become fields.
                found = self.model.marginals(given, latents, self.source, fields=bool(batch))
                drawn = found.members
            else:
                drawn = self.model.sample(given, Members(batch, seed, steps))
        gap, item = (0.0 if drawn is None else drawn.gap) / self.units[0], count()
        for block, window, some in zip(blocks, windows, known, strict=True):
            at = next(item) if some else None
            parts: list[Part] = []
            note = [0.0, 0.0, gap, _hash(block, static)]
            if batch:
                fields = None if at is None or drawn is None else drawn.fields[at, :, 0]
                values = self._unknown(window, len(batch)) if fields is None else self._core(fields, window)
                note[:2] = self._note(values, block[window.inner], window)
                parts.append((self.output.name, *self._oriented(values, window, [slice(batch.start, batch.stop)])))
            if uncertain:
                parts += self._marginals(None if at is None else found, at or 0, window)
            if not self.request.count:
                mean = self._unknown(window) if at is None or found is None else self._core(found.mean[at, 0], window)
                note[:2] = self._note(mean[None], block[window.inner], window)
                parts.append((self.output.name, *self._oriented(mean, window, [])))
            yield parts, note

    def _marginals(self, found: Marginals | None, at: int, window: Window) -> list[Part]:
        """The core of ``window``, item ``at``, of the standard deviation and quantiles; None where nothing is known."""
        parts: list[Part] = []
        for name, before in self.output.leading.items():
            if name == self.output.name:
                continue
            if found is None:
                values = self._unknown(window, *before.values())
            elif before:
                values = self._core(found.quantiles[at, :, 0], window)
            else:
                values = self._core(found.std[at, 0], window, shift=False)
            parts.append((name, *self._oriented(values, window, [slice(None)] * len(before))))
        return parts

    def _given(self, blocks: list[NDArray[np.float32]], static: Tensor | None, windows: list[Window]) -> Inputs:
        """Windows of the same cells as the model takes them, in the model's units."""
        scale, offset = self.units
        block = np.stack(blocks)[:, None]
        if (scale, offset) != (1.0, 0.0):
            block = block * np.float32(scale) + np.float32(offset)
        area = self._area(windows[0].read)
        return Inputs(
            torch.from_numpy(block),
            None if area is None else torch.from_numpy(area).float(),
            static,
            [window.start for window in windows],
        )

    def _core(self, fine: Tensor, window: Window, shift: bool = True) -> NDArray[np.float32]:
        """The core of what was made of a window, in the input's units; without ``shift`` a difference of values."""
        values = fine[(..., *window.scaled(self.model.factor)[2])].float().cpu().numpy()
        scale, offset = self.units
        if (scale, offset) == (1.0, 0.0):
            return values
        return (values - np.float32(offset if shift else 0.0)) / np.float32(scale)

    def _unknown(self, window: Window, *before: int) -> NDArray[np.float32]:
        cells = (c.stop - c.start for c in window.scaled(self.model.factor)[0])
        return np.full((*before, *cells), np.nan, dtype=np.float32)

    def _static(self, static: StaticFields, window: Window) -> Tensor:
        """Static fields (S, H, W) on the fine cells that a window reads."""
        return torch.from_numpy(static.at(self._fine.window(*window.scaled(self.model.factor)[1])))

    @cached_property
    def _fine(self) -> Grid:
        return self.grid.refine(self.model.factor)

    def _area(self, cells: tuple[slice, slice, slice]) -> NDArray[np.float64] | None:
        """Fine cell areas of some coarse cells; None where all are equal."""
        return self.grid.window(*cells).refine(self.model.factor).cell_area if self.grid.geographic else None

    def _units(self) -> tuple[float, float]:
        wanted = str(next(iter(self.model.variables.values()), {}).get("units") or "")
        has = str(self.coarse.attrs.get("units", "")).strip()
        if not has or not wanted:
            convert_units(self.coarse.isel({self.coarse.dims[0]: slice(0, 0)}), wanted)  # warns of missing units
            return 1.0, 0.0
        return conversion(has, wanted, f"variable {self.coarse.name}")

    def _note(self, values: NDArray[np.float32], coarse: NDArray[np.float32], window: Window) -> Note:
        """max |A x − c|, infinite where a member is not finite though its coarse cell is, and max |c|."""
        area, factor = self._area(window.core), self.model.factor
        with np.errstate(invalid="ignore"):
            gap = np.abs(block_means(values, factor, area) - coarse)
        finite = np.isfinite(values)
        if not finite.all():
            # The means are over finite cells alone.
            gap = np.where(block_means(finite.astype(np.float32), factor) < 1, np.inf, gap)
        known = np.isfinite(coarse)
        if not known.any():
            return [0.0, 0.0]
        return [
            float(np.nan_to_num(gap[:, known], nan=np.inf, posinf=np.inf).max()),
            float(np.abs(coarse[known]).max()),
        ]

    def _oriented(
        self, values: NDArray[np.float32], window: Window, before: Sequence[slice]
    ) -> tuple[Region, NDArray[np.float32]]:
        """Region, from ``before`` on, and values in the order of the input's own axes."""
        t, y, x = window.scaled(self.model.factor)[0]
        sides = []
        for axis, cells, flip, n in zip((-2, -1), (y, x), self.flips, self._fine.shape[-2:], strict=True):
            sides.append(slice(n - cells.stop, n - cells.start) if flip else cells)
            values = np.flip(values, axis) if flip else values
        return relabel.file_order(before, (t, *sides)), np.moveaxis(values, -3, 0)


def _tasks(stack: range, each: int) -> range:
    """Numbers of the tasks of some windows, with so many each."""
    return range(stack.start * each, stack.stop * each)


def _hash(block: NDArray[np.float32], static: Tensor | None) -> int:
    """48 bits of a hash of what is read for a window: exact as a number in JSON."""
    digest = hashlib.sha256(block.tobytes())
    if static is not None:
        digest.update(static.numpy().tobytes())
    return int.from_bytes(digest.digest()[:6], "big")
