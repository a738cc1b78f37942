"""What is read from files for some windows, and how it is handed to the model.

All reading of a prediction is `Given.read`, which one thread calls: HDF5 allows no more.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import compress

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from finescale.data.sources import Predictors, Source
from finescale.data.static import StaticFields
from finescale.diffusion import Carried
from finescale.grids.coordinates import breaks, increasing
from finescale.grids.motion import seen
from finescale.grids.windows import Window
from finescale.inference.domain import Domain
from finescale.inference.inputs import Inputs
from finescale.inference.masks import Mask
from finescale.inference.motion import Motion
from finescale.model import batch

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Read:
    """What was read for windows of the same cells, with their halos.

    Attributes:
        windows: the windows.
        coarse: of each the coarse cells (C, t, h, w), every variable in its own units.
        predictors: of each (P, t, h, w); None for a model without.
        neighbours: of each the coarse frames before and after (2n, C, t, h, w), each variable in its own units; None
            for a model without.
        carried: how the noise of each is carried along the motion; None where it is not.
        velocity: of each how fast its coarse frames move (2, t, h, w); None for a model without.
        static: static fields (S, H, W) on the fine cells of all; None without, or where nothing is known.
        mask: where fine cells are valid (C, H, W) or (1, H, W); None where all are.
        inner: rows and columns of the core among the fine cells.
    """

    windows: Sequence[Window]
    coarse: list[Array]
    predictors: list[Array] | None
    static: Tensor | None
    mask: NDArray[np.bool_] | None
    inner: tuple[slice, slice]
    neighbours: list[Array] | None = None
    carried: Carried | None = None
    velocity: list[Array] | None = None

    @property
    def known(self) -> list[bool]:
        """Whether anything is known, and a cell valid, in a window's core."""
        some = self.mask is None or bool(self.mask[:, *self.inner].any())
        return [
            some and bool(np.isfinite(block[:, *w.inner]).any())
            for block, w in zip(self.coarse, self.windows, strict=True)
        ]

    def hash(self, number: int) -> int:
        """48 bits of a hash of what was read for a window: exact as a number in JSON."""
        digest = hashlib.sha256(self.coarse[number].tobytes())
        if self.predictors is not None:
            digest.update(self.predictors[number].tobytes())
        if self.neighbours is not None:
            digest.update(self.neighbours[number].tobytes())
        if self.carried is not None:
            digest.update(self.carried.shift[number].numpy().tobytes())
        if self.velocity is not None:
            digest.update(self.velocity[number].tobytes())
        if self.static is not None:
            digest.update(self.static.numpy().tobytes())
        if self.mask is not None:
            digest.update(self.mask.tobytes())
        return int.from_bytes(digest.digest()[:6], "big")


@dataclass(frozen=True, eq=False)
class _Member:
    """One member of the input: its targets, also as sources where they are brought to other cells; and predictors."""

    fields: list[xr.DataArray]
    sources: list[Source]
    predictors: Predictors | None
    motion: Motion | None


@dataclass(frozen=True, eq=False)
class Given:
    """The input of a prediction, on its domain.

    Args:
        inputs: targets and predictors.
        domain: where they are wanted.
        static: static fields, for a model that takes them.
        mask: the fine cells that are valid; None where all are.
        neighbours: coarse frames before, and after, each one that the model sees too.
        moving: whether it sees how fast they move.
        lifetime: of noise that is carried along the motion, in coarse frames; None for noise of its own in every one.
        each: latent frames of a coarse one.
    """

    inputs: Inputs
    domain: Domain
    static: StaticFields | None = None
    mask: Mask | None = None
    neighbours: int = 0
    moving: bool = False
    lifetime: float | None = None
    each: int = 1

    @cached_property
    def _kept(self) -> dict[int, _Member]:
        return {}

    def _of(self, member: int) -> _Member:
        """What is read of a member of the input; kept of one at a time, as sources may hold values."""
        if member not in self._kept:
            self._kept.clear()
            fields = [target.member(member) for target in self.inputs.targets]
            files = [target.file for target in self.inputs.targets if self.domain.given is not None]
            sources = [Source(field, False, file) for field, file in zip(fields, files, strict=False)]
            motion = None
            if self.lifetime is not None or self.moving:
                height, width = self.domain.coarse.shape[-2:]
                frame = partial(self._seen, member)
                motion = Motion(frame, (height, width), self._ends, self.lifetime, self.each)
            self._kept[member] = _Member(list(map(increasing, fields)), sources, self.inputs.told(member), motion)
        return self._kept[member]

    def read(self, windows: Sequence[Window], member: int) -> Read:
        """What the windows need from files, of one member of the input."""
        coarse = [self._coarse(window.read, member) for window in windows]
        _, cells, inner = windows[0].scaled(self.domain.factor)
        mask = None if self.mask is None else self.mask.valid[:, *cells[1:]]
        read = Read(windows, coarse, None, None, mask, inner[1:])
        if not any(read.known):
            return read
        told, predictors, motion = None, self._of(member).predictors, self._of(member).motion
        if predictors is not None:
            told = [predictors.on(self.domain.blocks.window(*window.read)) for window in windows]
        return replace(
            read,
            predictors=told,
            static=None if self.static is None else self._static(self.static, windows[0]),
            neighbours=[self._near(window, member) for window in windows] if self.neighbours else None,
            carried=None if motion is None else motion.carried(windows),
            velocity=[motion.velocity(window) for window in windows] if self.moving and motion is not None else None,
        )

    def valid(self, window: Window) -> list[NDArray[np.bool_] | None]:
        """Where the fine cells of a window's core are valid, for every variable; None where all are."""
        count, (_, y, x) = len(self.inputs.targets), window.scaled(self.domain.factor)[0]
        if self.mask is None:
            return [None] * count
        part = self.mask.valid[:, y, x]
        return list(np.broadcast_to(part, (count, *part.shape[1:])))

    def _static(self, static: StaticFields, window: Window) -> Tensor:
        """Static fields (S, H, W) on the fine cells that a window reads."""
        return torch.from_numpy(static.at(self.domain.fine.window(*window.scaled(self.domain.factor)[1])))

    @cached_property
    def _ends(self) -> list[int]:
        """First frames of sequences without gaps in time, and the frame after the last."""
        return [0, *breaks(self.domain.coarse), self.domain.coarse.shape[-3]]

    def _near(self, window: Window, member: int) -> Array:
        """The coarse frames about those of a window (2n, C, t, h, w), NaN beyond the ends of its sequence."""
        t, n = window.read[0], self.neighbours
        at = bisect_right(self._ends, t.start)
        first, stop = max(self._ends[at - 1], t.start - n), min(self._ends[at], t.stop + n)
        values = self._coarse((slice(first, stop), *window.read[1:]), member)
        wide = ((0, 0), (first - t.start + n, t.stop + n - stop), (0, 0), (0, 0))
        values, count = np.pad(values, wide, constant_values=np.nan), t.stop - t.start
        return np.stack([values[:, n + by : n + by + count] for by in range(-n, n + 1) if by])

    def _seen(self, member: int, frame: int) -> Array:
        """A whole coarse frame (h, w) of the first variable, in which motion is looked for: of rain the logarithm."""
        height, width = self.domain.coarse.shape[-2:]
        cells = slice(frame, frame + 1), slice(height), slice(width)
        first = self.inputs.targets[0]
        values = first.in_model(self._coarse(cells, member)[0, 0])
        return seen(values, first.rain)

    def _coarse(self, cells: tuple[slice, slice, slice], member: int) -> Array:
        given = self._of(member)
        if given.sources:
            blocks = self.domain.blocks.window(*cells)
            found = [source.on(blocks) for source in given.sources]
        else:
            found = [np.asarray(field[cells].values, dtype=np.float32) for field in given.fields]
        return np.stack([target.clipped(values) for target, values in zip(self.inputs.targets, found, strict=True)])

    def model_inputs(self, read: Read) -> batch.Inputs:
        """The windows in which something is known as the model takes them, in its units."""
        known = read.known
        windows = list(compress(read.windows, known))
        coarse = self._in_model(np.stack(list(compress(read.coarse, known))), 1)
        near = None
        if read.neighbours is not None:
            near = torch.from_numpy(self._in_model(np.stack(list(compress(read.neighbours, known))), 2))
        speed = None
        if read.velocity is not None:
            speed = torch.from_numpy(np.stack(list(compress(read.velocity, known))))
        told = None if read.predictors is None else np.stack(list(compress(read.predictors, known)))
        area = self.domain.area(windows[0].read)
        return batch.Inputs(
            torch.from_numpy(coarse),
            None if area is None else torch.from_numpy(area).float(),
            read.static,
            [window.start for window in windows],
            None if told is None else torch.from_numpy(told),
            None if read.mask is None else torch.from_numpy(read.mask.copy()),
            neighbours=near,
            carried=None if read.carried is None else read.carried[torch.tensor(known).nonzero()[:, 0]],
            velocity=speed,
        )

    def _in_model(self, values: Array, axis: int) -> Array:
        """Every variable, along an axis, in the model's units."""
        targets = self.inputs.targets
        return np.stack([target.in_model(np.take(values, n, axis=axis)) for n, target in enumerate(targets)], axis=axis)
