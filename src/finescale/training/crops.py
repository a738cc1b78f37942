"""Random crops of fine fields, with their coarse fields, as training batches.

A crop counts when enough of it is known and, for rain, enough of it is wet (`finescale.training.survey`). Which crops a
step sees depends only on the seed and the step, so an interrupted training goes on with the batches it would have had,
and batches may be made ahead, in any order. Crop i is drawn with probability p_i. Its weight in a loss, where weights
are asked for, is

    w_i = (1/n) / p_i,      E_p[w L] = Σ p_i w_i L_i = (1/n) Σ L_i

so that favoured crops are seen more often, and the expected loss is still the mean over all n.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from finescale.data.sources import Partner
from finescale.data.static import StaticFields
from finescale.errors import InputError
from finescale.grids.factor import Factor, Factors
from finescale.model.batch import Batch
from finescale.operators.coarsen import Coarsen
from finescale.training import survey_cache
from finescale.training.cutting import Augmentation, Cut, Variation, doubled, varied
from finescale.training.fields import SHARE, Field, available, check_crop, nbytes
from finescale.training.processes import here
from finescale.training.survey import Criteria, Survey, Triple, joined, none_counts, survey

Position = NDArray[np.int32]
"""(4,): which field, frame, row and column."""
LEAST = 1e-6
"""Amounts below count as this where crops are favoured by amount."""


class Crops:
    """Crops of one or several fine fields.

    With a range of factors every batch draws one, and its crops are cut to whole blocks of it.

    Args:
        fields: of every fine field its C variables (time, y, x), in the model's units, lazy or not. By the first one
            crops are chosen and varied in amount.
        factor: the whole factor, by which crops must be divisible, or the factors to draw from.
        crop: (T, H, W) fine cells of a crop, for a range of factors the largest.
        criteria: which crops count.
        stride: cells between candidate positions in space; None for a quarter of the crop.
        augmentation: how `draw` chooses and varies them.
        frames: coarse frames of a crop at each factor; None for as many as T holds.
        static: static fields that crops carry.
        neighbours: coarse frames before, and after, each one that crops carry too.
        motion: whether crops carry how fast coarse frames move.
        partners: of every field, what other sources say of it.
        weighted: give batches that are drawn the weights of their crops.
        memory: bytes up to which fields are held in memory; beyond, crops are read when they are drawn. None for a
            quarter of what is available, shared by the processes of this machine. Batches are the same.
        stores: the files of each field, beside which the survey of one that is not held is kept.

    Raises:
        InputError: if a field is smaller than the crop, or no crop fulfils the criteria.
    """

    def __init__(
        self,
        fields: Sequence[Sequence[xr.DataArray]],
        factor: Factor | Factors,
        crop: Triple,
        criteria: Criteria | None = None,
        stride: int | None = None,
        augmentation: Augmentation | None = None,
        frames: Callable[[Factor], int] | None = None,
        static: StaticFields | None = None,
        partners: Sequence[Partner] | None = None,
        *,
        neighbours: int = 0,
        motion: bool = False,
        weighted: bool = False,
        memory: int | None = None,
        stores: Sequence[Sequence[Path]] | None = None,
    ) -> None:
        self.factors = factor if isinstance(factor, Factors) else Factors.parse(factor)
        self.crop, self.criteria, self.frames = crop, criteria or Criteria(), frames
        self.augmentation, self.weighted = augmentation or Augmentation(), weighted
        self.neighbours, self.motion = neighbours, motion
        self.stride = stride or max(1, crop[1] // 4)
        first, last = self.factors.time[0], self.factors.time[-1]
        if self.augmentation.skips and all(self._most_apart(time) == 1 for time in range(first, last + 1)):
            raise InputError("data.skips has no frames to leave out: crops take all there are; set data.neighbours")
        hold = nbytes(fields) <= (available() // SHARE // here() if memory is None else memory)
        self.fields: list[Field] = []
        surveys = []
        for index, one in enumerate(fields):
            check_crop(one[0], self.factors, crop)
            partner, like = partners[index] if partners else None, self.fields[-1] if self.fields else None
            self.fields.append(Field(one, hold, static, partner, like))
            surveys.append(self._survey(self.fields[-1], None if stores is None or hold else stores[index]))
        self.surveys = joined(surveys)
        if not any(map(len, self.surveys)):
            ends = zip(*(found.most for found in self.surveys), strict=True)
            known, wet = (max(shares) for shares in ends)
            raise none_counts((known, wet), crop, self.criteria)
        numbers = [np.full((len(found), 1), index, np.int32) for index, found in enumerate(self.surveys)]
        places = [np.hstack([n, found.positions]) for n, found in zip(numbers, self.surveys, strict=True)]
        self.positions = np.concatenate(places)
        amounts = np.concatenate([found.amounts for found in self.surveys]).astype(np.float64)
        weight = np.clip(amounts, LEAST, None) ** self.augmentation.favour
        shares = np.bincount(self.positions[:, 0], weight, len(self.fields))
        weight *= np.clip(shares, LEAST, None)[self.positions[:, 0]] ** -self.augmentation.balance
        self.cumulative = np.cumsum(weight / weight.sum())

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def missing(self) -> float:
        """The share of cells of the fields where a variable is missing."""
        return sum(found.missing for found in self.surveys) / sum(found.cells for found in self.surveys)

    @property
    def furthest(self) -> int:
        """Up to how many times as far apart as they are frames are taken where time is not refined."""
        most = self._most_apart(1) if self.factors.time[0] == 1 else 1
        return 1 if most == 1 else max(1, min(most, max(field.longest for field in self.fields) - 1))

    def fold(self, number: int, of: int, inside: bool = True) -> Crops:
        """The crops of one of ``of`` folds, or those outside it; folds are contiguous stripes along x.

        Crops of other folds that overlap the stripe's border are of neither, so that nothing held out has been seen.
        """
        other = copy.copy(self)
        width = np.array([field.shape[3] for field in self.fields])[self.positions[:, 0]]
        left = self.positions[:, 3] - self.stride // 2
        right = self.positions[:, 3] + self.crop[2] + self.stride // 2
        low, high = number * width / of, (number + 1) * width / of
        keep = (left >= low) & (right <= high) if inside else (right <= low) | (left >= high)
        if not keep.any():
            raise InputError(f"no training crop lies whole in fold {number} of {of}: take fewer folds")
        weight = np.diff(self.cumulative, prepend=0.0)[keep]
        other.positions, other.cumulative = self.positions[keep], np.cumsum(weight / weight.sum())
        return other

    def draw(self, count: int, *key: int, items: slice = slice(None)) -> Batch:
        """A random batch of one factor, which depends on ``key`` alone.

        Args:
            count: crops of the batch.
            key: whole numbers.
            items: which of them are read and returned, where others are another process's.
        """
        rng = np.random.default_rng(key)
        factor = self.factors.draw(rng)
        chosen = np.searchsorted(self.cumulative, rng.random(count), side="right").clip(0, len(self) - 1)
        shifts = [rng.integers(-(self.stride // 2), self.stride // 2 + 1, size=2) for _ in chosen]
        variations = [Variation.drawn(self.augmentation, rng) for _ in chosen]
        chosen, variations = chosen[items], variations[items]
        picks = [self._shifted(self.positions[n], by) for n, by in zip(chosen, shifts[items], strict=True)]
        cuts = [self._cut(pick, factor, how.double, how.every) for pick, how in zip(picks, variations, strict=True)]
        cuts = [varied(cut, how, factor) for cut, how in zip(cuts, variations, strict=True)]
        for cut, how in zip(cuts, variations, strict=True):
            if how.alone:
                more = self.neighbours * factor.time
                cut.fine[:, :more], cut.fine[:, -more:] = np.nan, np.nan
                if cut.velocity is not None:
                    cut.velocity[...] = 0
        return self._batch(cuts, factor, torch.from_numpy(self._weights(chosen)) if self.weighted else None)

    def apart(self, count: int, seed: int = 0, factor: Factor | None = None) -> Batch:
        """The same crops every time, at most ``count``, not overlapping within a frame and not augmented.

        Args:
            count: how many at most.
            seed: which.
            factor: the factor, where there are several; None draws one.
        """
        factor = factor or self.factors.draw(np.random.default_rng(seed))
        return self.at(self.places_apart(count, seed), factor)

    def likely(self, count: int) -> NDArray[np.int32]:
        """Positions (n, 4) of ``count`` crops, as often as `draw` would have them, in the order of fields and times."""
        quantiles = (np.arange(count) + 0.5) / count
        return self.positions[np.searchsorted(self.cumulative, quantiles).clip(0, len(self) - 1)]

    def places_apart(self, count: int, seed: int = 0) -> NDArray[np.int32]:
        """Positions (n, 4) of crops, at most ``count``, that do not overlap within a frame."""
        order = np.random.default_rng(seed).permutation(len(self.positions))
        chosen: list[Position] = []
        for number in order:
            pick = self.positions[number]
            if all(not self._overlap(pick, other) for other in chosen):
                chosen.append(pick)
            if len(chosen) == count:
                break
        return np.array(chosen)

    def side_by_side(self, cells: int) -> NDArray[np.int32]:
        """Positions (n, 4) of all crops that do not overlap, in the order of fields and times.

        Args:
            cells: where they hold more fine cells than this, so many of them, evenly spread.
        """
        length, height, width = self.crop[0], *(-(-n // self.stride) for n in self.crop[1:])
        chosen = []
        for index, field in enumerate(self.fields):
            # The frame from which on a place is free; crops come in the order of time.
            free = np.zeros([-(-n // self.stride) for n in field.shape[2:]], np.int32)
            for pick in self.positions[self.positions[:, 0] == index]:
                t, y, x = int(pick[1]), int(pick[2]) // self.stride, int(pick[3]) // self.stride
                place = free[y : y + height, x : x + width]
                if (place <= t).all():
                    place[...] = t + length
                    chosen.append(pick)
        wanted = max(1, cells // math.prod(self.crop))
        return np.array(chosen)[np.linspace(0, len(chosen) - 1, min(wanted, len(chosen))).round().astype(int)]

    def at(self, positions: NDArray[np.int32], factor: Factor) -> Batch:
        """The crops at some positions, not augmented."""
        return self._batch([self._cut(pick, factor) for pick in positions], factor)

    def _survey(self, field: Field, stores: Sequence[Path] | None) -> Survey:
        """The survey of a field, kept beside its stores where it has any."""
        gaps = field.gaps if self.crop[0] > 1 else ()
        if not stores:
            return survey(field, self.crop, self.stride, self.criteria, gaps)
        key = survey_cache.key_of(field.variables, stores, self.crop, self.stride, self.criteria)
        found = survey_cache.kept(key, stores)
        if found is None:
            found = survey(field, self.crop, self.stride, self.criteria, gaps)
            survey_cache.keep(found, key, stores)
        return found

    def _weights(self, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """w = (1/n) / p of some crops."""
        below = np.where(chosen > 0, self.cumulative[chosen - 1], 0.0)
        weights: NDArray[np.float32] = (1 / (len(self) * (self.cumulative[chosen] - below))).astype(np.float32)
        return weights

    def _overlap(self, a: Position, b: Position) -> bool:
        return bool(a[0] == b[0] and np.all(np.abs(a[1:] - b[1:]) < self.crop))

    def _shifted(self, pick: Position, by: NDArray[np.int64]) -> Position:
        """A position moved by some rows and columns, within its field; not at all to a crop that does not count."""
        moved = pick.copy()
        moved[2:] += by
        moved[2:] = np.clip(moved[2:], 0, np.array(self.fields[pick[0]].shape[2:]) - self.crop[1:])
        return moved if self.criteria.accept(self._box(moved, self.crop)) else pick

    def _box(self, pick: Position, size: Triple) -> NDArray[np.float32]:
        return self.fields[pick[0]].box(*_cells(pick, size))

    def _cut(self, pick: Position, factor: Factor, double: bool = False, every: int = 1) -> Cut:
        """What a crop carries, in whole blocks of the factor; of cells of double size where they count.

        Of the frames it takes every so many-th, as far as those of the longest crop go.
        """
        _, y, x = (n // f * f for n, f in zip(self.crop, factor, strict=True))
        t, every = self._taken(factor, every)
        if double and self.fields[pick[0]].partner is None:
            wide = self._widened(pick)
            if wide is not None:
                return doubled(self._piece(wide, (t, 2 * y, 2 * x), factor, every))
        return self._piece(pick, (t, y, x), factor, every)

    def _most_apart(self, time: int) -> int:
        """Up to how many times as far apart as they are frames are taken at a time factor: those of crops of several,
        and those about one."""
        frames, every = self._taken(Factor(time), 1 + self.augmentation.skips)
        return every if frames > 1 or self.neighbours else 1

    def _taken(self, factor: Factor, every: int) -> tuple[int, int]:
        """How many frames a crop has, and which of them it takes where every so many-th is wanted."""
        whole = self.crop[0] // factor.time
        frames = factor.time * (whole if self.frames is None else min(whole, self.frames(factor)))
        return frames, every if frames == 1 else min(every, (self.crop[0] - 1) // (frames - 1))

    def _widened(self, pick: Position) -> Position | None:
        """Where a crop of twice the rows and columns lies about this one; None where none does that counts."""
        size = (self.crop[0], 2 * self.crop[1], 2 * self.crop[2])
        room = np.array(self.fields[pick[0]].shape[2:]) - size[1:]
        if (room < 0).any():
            return None
        wide = pick.copy()
        wide[2:] = np.clip(wide[2:] - np.array(self.crop[1:]) // 2, 0, room)
        return wide if self.criteria.accept(self._box(wide, size)) else None

    def _piece(self, pick: Position, size: Triple, factor: Factor, every: int = 1) -> Cut:
        """So many cells of a field from a position on, of every so many-th frame, and what is known of them."""
        field, cells = self.fields[pick[0]], _cells(pick, size, every)
        coarse, predictors = (None, None) if field.partner is None else field.partner.of(*cells, factor)
        static = None if field.static is None else field.static[:, *cells[1:]]
        velocity = field.velocity(*cells, factor) if self.motion else None
        return Cut(self._values(field, cells, factor), field.area[cells[1:]], static, coarse, predictors, velocity)

    def _values(self, field: Field, cells: tuple[slice, slice, slice], factor: Factor) -> NDArray[np.float32]:
        """The fine cells of a crop, with the frames of its neighbours, unknown beyond the ends of its sequence."""
        if not self.neighbours:
            return field.box(*cells)
        t, *space = cells
        more = self.neighbours * factor.time
        start, stop = field.sequence(t.start)
        # Whole coarse frames alone.
        before = min(more, (t.start - start) // t.step // factor.time * factor.time)
        after = min(more, max(0, stop - t.stop) // t.step // factor.time * factor.time)
        values = field.box(slice(t.start - before * t.step, t.stop + after * t.step, t.step), *space)
        return np.pad(values, ((0, 0), (more - before, more - after), (0, 0), (0, 0)), constant_values=np.nan)

    def _batch(self, cuts: Sequence[Cut], factor: Factor, weight: Tensor | None = None) -> Batch:
        fine, area, static, coarse, predictors, velocity = (_stacked(parts) for parts in zip(*cuts, strict=True))
        assert fine is not None and area is not None
        near = None
        if coarse is None:
            coarse = Coarsen(factor, area[:, None, None], ~fine.isnan())(fine)
        if self.neighbours:
            n, more = self.neighbours, self.neighbours * factor.time
            count, fine = coarse.shape[2] - 2 * n, fine[:, :, more : fine.shape[2] - more].contiguous()
            near = torch.stack([coarse[:, :, n + by : n + by + count] for by in range(-n, n + 1) if by], 1)
            coarse = coarse[:, :, n : n + count].contiguous()
        return Batch(
            coarse,
            area,
            static,
            predictors=predictors,
            neighbours=near,
            velocity=velocity,
            fine=fine,
            weight=weight,
        )


def _cells(pick: Position, size: Triple, every: int = 1) -> tuple[slice, slice, slice]:
    """Frames, of which every so many-th is taken, rows and columns; frames end with the last that is taken."""
    t, y, x = (int(n) for n in pick[1:])
    last = t + (size[0] - 1) * every
    return slice(t, last + 1, every), slice(y, y + size[1]), slice(x, x + size[2])


def _stacked(parts: Sequence[NDArray[np.float32] | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.from_numpy(np.stack(there)) if there else None
