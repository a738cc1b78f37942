"""One prediction cut into tasks: every window x batch of members is one, and so are a window's marginals.

Noise is keyed by (seed, member, absolute position), so a task is to read a window with its halo, sample, and keep the
core; a result depends neither on the order of tasks nor on an interruption. Small windows that follow each other in
time go through the networks together, as a stack. The model always sees y and x increasing,
so a field stored north to south gives the same members as the same field stored south to north; results keep the
input's order.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finescale.data.finished import Finished
from finescale.data.regions import Part, Region
from finescale.errors import InputError
from finescale.grids.blocks import block_means
from finescale.grids.windows import Window
from finescale.inference.cutting import Windows, stacks, windows
from finescale.inference.domain import Domain
from finescale.inference.given import Given, Read
from finescale.inference.output import Note, Output
from finescale.inference.request import Model, Request
from finescale.model.batch import Ensemble, Members
from finescale.model.uncertainty import Marginals

Array = NDArray[np.float32]
Piece = tuple[range, int]
"""Windows that are sampled together, and the member of the input."""


class Unit(NamedTuple):
    """What is handed out at once, in numbers: some windows of a member of the input, and a part of what they make.

    Attributes:
        first: the first window.
        stop: the one after the last.
        member: of the input.
        part: a batch of members, or marginals.
    """

    first: int
    stop: int
    member: int
    part: int

    @property
    def piece(self) -> Piece:
        """What is read for it."""
        return range(self.first, self.stop), self.member


Result = tuple[int, list[Part], Note]
"""A finished task: its number, parts of the output, and what is noted of it."""


@dataclass(frozen=True)
class Tasks:
    """One prediction, cut into tasks.

    Args:
        model: a downscaler, at the factor wanted.
        given: its input, on its domain.
        request: what is asked, with the number of members.

    Raises:
        InputError: for a variance that the model does not have, or of an ensemble.
    """

    model: Model
    given: Given
    request: Request
    source: str | None = field(init=False)
    """Where the variance that is asked for besides members is from; None without one."""

    def __post_init__(self) -> None:
        asked = self.request.variance
        source = None
        if asked is not False:
            source = self.model.variance_source("auto" if asked is True else asked, self.request.latents)
            if self.inputs > 1:
                raise InputError(
                    f"--variance is that of one coarse field, but the input has {self.inputs} members: select one, or "
                    "leave --variance out"
                )
        object.__setattr__(self, "source", source)

    @property
    def domain(self) -> Domain:
        """Where the prediction lies."""
        return self.given.domain

    @property
    def inputs(self) -> int:
        """Members of the input, each of which gets as many members as are asked for."""
        return self.given.inputs.members

    @cached_property
    def windows(self) -> Windows:
        """How the domain is cut; tasks are numbered in this order."""
        return windows(self.model, self.domain.coarse, self.domain.grid, self.request)

    @cached_property
    def batches(self) -> list[range]:
        size = self.request.count if self.together else self.at_once
        return [range(start, min(start + size, self.request.count)) for start in range(0, self.request.count, size)]

    @cached_property
    def at_once(self) -> int:
        """(Window, member) pairs that are sampled at once."""
        return self.request.batch or self.model.at_once(self.windows.most * self.model.factor.cells)

    @property
    def together(self) -> bool:
        """Whether the members are also what the variance is from: then both are made at once."""
        return self.source == "members" and self.request.count > 1

    def __len__(self) -> int:
        return len(self.windows) * self.inputs * self._each

    @property
    def _each(self) -> int:
        """Tasks of a window and a member of the input."""
        return len(self.batches) + (self.source is not None and not self.together)

    @property
    def members_at_once(self) -> int:
        """Members sampled at once; 0 without members."""
        return len(self.batches[0]) if self.batches else 0

    @cached_property
    def output(self) -> Output:
        """What is written."""
        return Output(self)

    @property
    def pieces(self) -> Iterator[Piece]:
        """What is read at once, one member of the input after another; several tasks are made of each."""
        members = max(map(len, self.batches), default=1)
        if self.source not in (None, "head"):
            members = max(members, self.request.latents)
        for member in range(self.inputs):
            for stack in stacks(self.windows, max(1, self.at_once // members)):
                yield stack, member

    def parts(self, piece: Piece) -> list[list[int]]:
        """The numbers of the tasks of a piece: for every batch of members, and marginals, those of its windows."""
        stack, member = piece
        return [[(number * self.inputs + member) * self._each + part for number in stack] for part in range(self._each)]

    def units(self, done: Container[int]) -> Iterator[Unit]:
        """What is left to do, in order.

        Args:
            done: finished tasks.
        """
        for stack, member in self.pieces:
            for part, tasks in enumerate(self.parts((stack, member))):
                if not all(task in done for task in tasks):
                    yield Unit(stack.start, stack.stop, member, part)

    def made(self, unit: Unit, read: Read) -> Iterator[Result]:
        """Sample all tasks of a unit: an interruption shall not change which windows share a batch."""
        tasks = self.parts(unit.piece)[unit.part]
        for task, result in zip(tasks, self.sampled(read, unit.piece, unit.part), strict=True):
            yield task, *result

    def unchanged(self, done: Finished) -> None:
        """Read again what was read for finished tasks: sampling is dear, reading is not.

        Raises:
            InputError: naming the first window whose input is not what it was.
        """
        for piece in self.pieces:
            noted = [
                {done.hash(task) for task in tasks if task in done} for tasks in zip(*self.parts(piece), strict=True)
            ]
            if not any(noted):
                continue
            read = self.read(piece)
            for n, hashes in enumerate(noted):
                if hashes - {read.hash(n)}:
                    frames = read.windows[n].core[0]
                    raise InputError(
                        f"the input of the interrupted run has changed, first in frames {frames.start} to "
                        f"{frames.stop - 1}: give it as it was, or --overwrite without --resume to begin afresh"
                    )

    def read(self, piece: Piece) -> Read:
        """What the tasks of a piece need from files."""
        stack, member = piece
        return self.given.read([self.windows[number] for number in stack], member)

    def regions(self, window: Window, member: int, part: int) -> dict[str, Region]:
        """Which parts of the output a task makes."""
        members = self._members(part)
        found: dict[str, Region] = {}
        if members or not self.request.count:
            first = member * self.request.count
            place = [slice(first + members.start, first + members.stop)] if members else []
            found |= dict.fromkeys(self.output.names, self._region(window, place))
        if self._uncertain(part):
            found |= dict.fromkeys(self.output.stds, self._region(window, []))
            levels = [slice(0, self.output.levels)]
            found |= dict.fromkeys(self.output.quantiles, self._region(window, levels))
        return found

    def _region(self, window: Window, before: list[slice]) -> Region:
        return self.domain.region(window, before, self.request.members_first)

    def _members(self, part: int) -> range:
        """The batch of members that a part of a window makes; empty for the part that makes marginals alone."""
        return self.batches[part] if part < len(self.batches) else range(0)

    def _uncertain(self, part: int) -> bool:
        """Whether a part of a window makes marginals."""
        return self.source is not None and (self.together or not self._members(part))

    def sampled(self, read: Read, piece: Piece, part: int) -> Iterator[tuple[list[Part], Note]]:
        """The cores of some windows for some members, or of their marginals, or of both."""
        members = self._members(part)
        drawn: Ensemble | None = None
        found: Marginals | None = None
        known = read.known
        if any(known):
            given, seed, steps = self.given.model_inputs(read), self.request.seed, self.request.steps
            if self._uncertain(part) and self.source is not None:
                latents = Members(range(self.request.latents), seed, steps)
                # Latents that no member is asked of need not become fields.
                found = self.model.marginals(given, latents, self.source, fields=bool(members))
                drawn = found.members
            else:
                drawn = self.model.sample(given, Members(self._numbers(members, piece[1]), seed, steps))
        item = count()
        for n, (window, some) in enumerate(zip(read.windows, known, strict=True)):
            at = next(item) if some else None
            cores: dict[str, Array] = {}
            fields: list[Array] = []
            if members:
                fields = self._cores(None if at is None or drawn is None else drawn.fields[at], 1, window, len(members))
            if self._uncertain(part):
                cores = self._marginals(None if at is None else found, at or 0, window)
            if not self.request.count:
                fields = self._cores(None if at is None or found is None else found.mean[at], 0, window)
            cores |= dict(zip(self.output.names, fields, strict=False))
            parts = [
                (name, region, self.domain.oriented(cores[name], self.request.members_first))
                for name, region in self.regions(window, piece[1], part).items()
            ]
            yield parts, [*self._gaps(fields, read, n), *self._before(drawn), read.hash(n)]

    def _numbers(self, members: range, member: int) -> range:
        """The numbers of members in their noise, which differ between the members of the input.

        Those of one input are 0, 1, …; those of K are k, k + K, …, so that more members leave the first as they are.
        """
        return range(members.start * self.inputs + member, members.stop * self.inputs + member, self.inputs)

    def _marginals(self, found: Marginals | None, at: int, window: Window) -> dict[str, Array]:
        """The core of ``window``, item ``at``, of the standard deviation and quantiles; None where nothing is known."""
        stds = self._cores(None if found is None else found.std[at], 0, window, shift=False)
        cores = dict(zip(self.output.stds, stds, strict=True))
        if self.output.quantiles:
            values = self._cores(None if found is None else found.quantiles[at], 1, window, self.output.levels)
            cores |= dict(zip(self.output.quantiles, values, strict=True))
        return cores

    def _cores(self, fields: Any, axis: int, window: Window, *before: int, shift: bool = True) -> list[Array]:
        """The core of what was made of a window, for every variable (along ``axis``) in its own units.

        Args:
            fields: a tensor (…, C, T, H, W); None for missing values.
            axis: of the variables.
            window: the window.
            before: lengths of the axes before (T, H, W) without the variables'.
            shift: False for a difference of values.
        """
        targets = self.given.inputs.targets
        if fields is None:
            return [self.domain.unknown(window, *before) for _ in targets]
        values = fields[(..., *window.scaled(self.model.factor)[2])].float().cpu().numpy()
        own = [target.own(values.take(n, axis), shift) for n, target in enumerate(targets)]
        # Here, so that gaps are those of what is written.
        return own if self.request.rounding is None else [self.request.rounding.rounded(one) for one in own]

    def _before(self, drawn: Ensemble | None) -> list[float]:
        """max |A x − c| of every variable before the constraint, in its own units."""
        targets = self.given.inputs.targets
        gaps = drawn.gap if drawn is not None and drawn.gap else (0.0,) * len(targets)
        return [gap / target.scale for gap, target in zip(gaps, targets, strict=True)]

    def _gaps(self, fields: list[Array], read: Read, number: int) -> list[float]:
        """max |A x − c| of every variable, infinite where it is not finite though its coarse cell is; then max |c|."""
        window = read.windows[number]
        coarse, valid = read.coarse[number][:, *window.inner], self.given.valid(window)
        pairs = [self._gap(*sides, window) for sides in zip(fields, coarse, valid, strict=False)]
        pairs = pairs or [(0.0, 0.0)] * len(coarse)
        return [*(gap for gap, _ in pairs), *(largest for _, largest in pairs)]

    def _gap(
        self, values: Array, coarse: Array, valid: NDArray[np.bool_] | None, window: Window
    ) -> tuple[float, float]:
        area, factor = self.domain.area(window.core), self.model.factor
        values = values if values.ndim > coarse.ndim else values[None]
        with np.errstate(invalid="ignore"):
            gap = np.abs(block_means(values, factor, area) - coarse)
        finite, known = np.isfinite(values), np.isfinite(coarse)
        if valid is not None:
            finite = finite | ~valid
            cells = np.broadcast_to(valid, values.shape[-3:])
            known = known & (block_means(cells.astype(np.float32), factor) > 0)
        if not finite.all():
            # The means are over finite cells alone.
            gap = np.where(block_means(finite.astype(np.float32), factor) < 1, np.inf, gap)
        if not known.any():
            return 0.0, 0.0
        return float(np.nan_to_num(gap[:, known], nan=np.inf, posinf=np.inf).max()), float(np.abs(coarse[known]).max())
