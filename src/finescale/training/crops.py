"""Random crops of fine fields, with their coarse block means, as training batches.

A crop counts when enough of it is known and, for rain, enough of it is wet. Which crops a step sees depends only on the
seed and the step, so an interrupted training goes on with the batches it would have had.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from finescale.data.sources import Partner
from finescale.data.static import StaticFields
from finescale.errors import InputError
from finescale.grids.coordinates import breaks, read_grid
from finescale.grids.factor import Factor, Factors
from finescale.model.batch import Batch
from finescale.operators.coarsen import Coarsen

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Criteria:
    """What makes a crop worth training on.

    Attributes:
        min_valid: least share of known cells.
        min_wet: least share of cells above `wet`; 0 to take every crop.
        wet: amount above which a cell counts as wet, in the first variable's units.
    """

    min_valid: float = 0.95
    min_wet: float = 0.0
    wet: float = 0.1

    def accept(self, crop: Array) -> bool:
        """Whether a crop (C, T, H, W) counts."""
        known = np.isfinite(crop).all(axis=0)
        return bool(known.mean() >= self.min_valid and (crop[0] > self.wet).mean() >= self.min_wet)


@dataclass(frozen=True)
class Augmentation:
    """How a training crop is chosen and varied; the defaults change nothing but orientation.

    Attributes:
        turn: flip and, where the crop and the factor are square, transpose at random.
        favour: choose crops with probability ∝ (mean amount)^favour, so that the storms which carry most of a score are
            seen more often; 0 for all alike.
        rescale: multiply a crop by exp(rescale · N(0, 1)), so that amounts beyond the training region's are seen; for
            amounts such as rain only.
    """

    turn: bool = True
    favour: float = 0.0
    rescale: float = 0.0


class Crops:
    """Crops of one or several fine fields held in memory; each has one or several variables on one grid.

    With a range of factors every batch draws one, and its crops are cut to whole blocks of it.

    Args:
        fields: of every fine field its variables (time, y, x), in the model's units. By the first one crops are
            chosen and varied in amount.
        factor: the whole factor, by which crops must be divisible, or the factors to draw from.
        crop: (T, H, W) fine cells of a crop, for a range of factors the largest.
        criteria: which crops count.
        stride: cells between candidate positions in space; None for a quarter of the crop.
        augmentation: how `draw` chooses and varies them.
        frames: coarse frames of a crop at each factor; None for as many as T holds.
        static: static fields that crops carry.
        partners: of every field, what other sources say of it.

    Raises:
        InputError: if a field is smaller than the crop, or no crop fulfils the criteria.
    """

    def __init__(
        self,
        fields: Sequence[Sequence[xr.DataArray]],
        factor: Factor | Factors,
        crop: tuple[int, int, int],
        criteria: Criteria | None = None,
        stride: int | None = None,
        augmentation: Augmentation | None = None,
        frames: Callable[[Factor], int] | None = None,
        static: StaticFields | None = None,
        partners: Sequence[Partner] | None = None,
    ) -> None:
        self.factors = factor if isinstance(factor, Factors) else Factors.parse(factor)
        self.crop, self.criteria, self.frames = crop, criteria or Criteria(), frames
        self.augmentation = augmentation or Augmentation()
        self.stride = stride or max(1, crop[1] // 4)
        self.partners = partners
        self.arrays: list[Array] = []
        self.areas: list[Array] = []
        self.statics: list[Array] | None = None if static is None else []
        candidates, amounts, self.most = [], [], (0.0, 0.0)
        for index, variables in enumerate(fields):
            field = variables[0]
            check_crop(field, self.factors, crop)
            array = np.stack([np.asarray(one.astype(np.float32).data) for one in variables])
            self.arrays.append(array)
            self.areas.append(read_grid(field).cell_area.astype(np.float32))
            if static is not None and self.statics is not None:
                self.statics.append(static.at(read_grid(field)))
            for *position, amount in self._candidates(array, breaks(field) if crop[0] > 1 else ()):
                candidates.append((index, *position))
                amounts.append(amount)
        if not candidates:
            raise InputError(self._none())
        self.positions = np.array(candidates)
        weight = np.clip(amounts, 1e-6, None) ** self.augmentation.favour
        self.cumulative = np.cumsum(weight / weight.sum())

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def missing(self) -> float:
        """The share of cells of the fields that are missing."""
        known = sum(int(np.isfinite(array).sum()) for array in self.arrays)
        return 1 - known / sum(array.size for array in self.arrays)

    def fold(self, number: int, of: int, inside: bool = True) -> Crops:
        """The crops of one of ``of`` folds, or those outside it; folds are contiguous stripes along x.

        Crops of other folds that overlap the stripe's border are of neither, so that nothing held out has been seen.
        """
        other = copy.copy(self)
        width = np.array([array.shape[3] for array in self.arrays])[self.positions[:, 0]]
        left = self.positions[:, 3] - self.stride // 2
        right = self.positions[:, 3] + self.crop[2] + self.stride // 2
        low, high = number * width / of, (number + 1) * width / of
        keep = (left >= low) & (right <= high) if inside else (right <= low) | (left >= high)
        if not keep.any():
            raise InputError(f"no training crop lies whole in fold {number} of {of}: take fewer folds")
        weight = np.diff(self.cumulative, prepend=0.0)[keep]
        other.positions, other.cumulative = self.positions[keep], np.cumsum(weight / weight.sum())
        return other

    def draw(self, count: int, *key: int) -> Batch:
        """A random batch of one factor, which depends on ``key`` alone."""
        rng = np.random.default_rng(key)
        factor = self.factors.draw(rng)
        picks = self.positions[np.searchsorted(self.cumulative, rng.random(count), side="right").clip(0, len(self) - 1)]
        return self._batch([self._jittered(pick, rng) for pick in picks], rng, factor)

    def apart(self, count: int, seed: int = 0, factor: Factor | None = None) -> Batch:
        """The same crops every time, at most ``count``, not overlapping within a frame and not augmented.

        Args:
            count: how many at most.
            seed: which.
            factor: the factor, where there are several; None draws one.
        """
        factor = factor or self.factors.draw(np.random.default_rng(seed))
        order = np.random.default_rng(seed).permutation(len(self.positions))
        chosen: list[NDArray[np.int64]] = []
        for pick in self.positions[order]:
            if all(not self._overlap(pick, other) for other in chosen):
                chosen.append(pick)
            if len(chosen) == count:
                break
        return self._batch(chosen, None, factor)

    def side_by_side(self, cells: int) -> NDArray[np.int64]:
        """Positions (n, 4) of all crops that do not overlap, in the order of fields and times.

        Args:
            cells: where they hold more fine cells than this, so many of them, evenly spread.
        """
        taken = [np.zeros((a.shape[1], *(-(-n // self.stride) for n in a.shape[2:])), bool) for a in self.arrays]
        length, height, width = self.crop[0], *(-(-n // self.stride) for n in self.crop[1:])
        chosen = []
        for pick in self.positions:
            index, t, y, x = (int(n) for n in pick)
            y, x = y // self.stride, x // self.stride
            place = taken[index][t : t + length, y : y + height, x : x + width]
            if not place.any():
                place[...] = True
                chosen.append(pick)
        wanted = max(1, cells // math.prod(self.crop))
        return np.array(chosen)[np.linspace(0, len(chosen) - 1, min(wanted, len(chosen))).round().astype(int)]

    def at(self, positions: NDArray[np.int64], factor: Factor) -> Batch:
        """The crops at some positions, not augmented."""
        return self._batch(list(positions), None, factor)

    def _overlap(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> bool:
        return bool(a[0] == b[0] and np.all(np.abs(a[1:] - b[1:]) < self.crop))

    def _candidates(self, array: Array, gaps: Sequence[int]) -> list[tuple[int, int, int, float]]:
        """(t, y, x, mean amount) of every crop that counts and does not reach over a gap in time."""
        frames = self.crop[0]
        found: list[tuple[int, int, int, float]] = []
        for t in range(0, array.shape[1] - frames + 1):
            if any(t < gap < t + frames for gap in gaps):
                continue
            slab = array[0, t : t + frames]
            valid = self._share(np.asarray(np.isfinite(array[:, t : t + frames]).all(0)))
            wet = self._share(slab > self.criteria.wet)
            amount = self._share(np.nan_to_num(slab))
            enough = valid >= self.criteria.min_valid
            self.most = (
                max(self.most[0], float(valid.max())),
                max(self.most[1], float(wet[enough].max(initial=0.0))),
            )
            rows, columns = np.nonzero(enough & (wet >= self.criteria.min_wet))
            for y, x in zip(rows, columns, strict=True):
                found.append((t, int(y) * self.stride, int(x) * self.stride, float(amount[y, x])))
        return found

    def _none(self) -> str:
        """Which criterion no crop fulfils, and what would."""
        known, wet = self.most
        size = " x ".join(map(str, self.crop))
        if known < self.criteria.min_valid:
            return (
                f"no crop of {size} cells (time, y, x) is known in {self.criteria.min_valid:.4g} of its cells, but in "
                f"{known:.4g} at most: lower data.min_valid or data.crop, or choose other data"
            )
        return (
            f"no crop of {size} cells (time, y, x) has more than {self.criteria.wet:g} in {self.criteria.min_wet:.4g} "
            f"of its cells, but in {wet:.4g} at most: lower data.min_wet or data.wet, or choose other data"
        )

    def _share(self, flags: NDArray[Any]) -> NDArray[np.float64]:
        """Mean (of flags: share of true cells) in every crop of the candidate grid, by a summed-area table."""
        _, height, width = self.crop
        table = np.zeros((flags.shape[1] + 1, flags.shape[2] + 1))
        np.cumsum(np.cumsum(flags.mean(0, dtype=np.float64), 0), 1, out=table[1:, 1:])
        top, left = table[: -height or None : self.stride], slice(None, -width or None, self.stride)
        bottom, right = table[height :: self.stride], slice(width, None, self.stride)
        return (bottom[:, right] - top[:, right] - bottom[:, left] + top[:, left]) / (height * width)

    def _jittered(self, pick: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        moved = pick.copy()
        moved[2:] += rng.integers(-(self.stride // 2), self.stride // 2 + 1, size=2)
        moved[2:] = np.clip(moved[2:], 0, np.array(self.arrays[pick[0]].shape[2:]) - self.crop[1:])
        return moved if self.criteria.accept(self._cut(moved)[0]) else pick

    def _cut(self, pick: NDArray[np.int64]) -> list[Array]:
        """A crop (C, T, H, W), its cell areas (H, W) and, where there are any, its static fields (S, H, W)."""
        index, t, y, x = (int(n) for n in pick)
        frames, height, width = self.crop
        rows, columns = slice(y, y + height), slice(x, x + width)
        found = [self.arrays[index][:, t : t + frames, rows, columns], self.areas[index][rows, columns]]
        return found if self.statics is None else [*found, self.statics[index][:, rows, columns]]

    def _batch(self, picks: Sequence[NDArray[np.int64]], rng: np.random.Generator | None, factor: Factor) -> Batch:
        t, y, x = (n // f * f for n, f in zip(self.crop, factor, strict=True))
        t = t if self.frames is None else min(t, self.frames(factor) * factor.time)
        items = []
        for pick in picks:
            crop, area, *static = (part[..., :y, :x] for part in self._cut(pick))
            values, predictors = self._beside(pick, (t, y, x), factor)
            parts = {"fine": crop[:, :t], "area": area, "static": static[0] if static else None}
            parts |= {"coarse": values, "predictors": predictors}
            items.append(self._turned({name: part for name, part in parts.items() if part is not None}, rng, factor))
        found = {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}
        if "coarse" not in found:
            found["coarse"] = Coarsen(factor, found["area"][:, None, None], ~found["fine"].isnan())(found["fine"])
        return Batch(
            found["coarse"], found["area"], found.get("static"), predictors=found.get("predictors"), fine=found["fine"]
        )

    def _beside(
        self, pick: NDArray[np.int64], size: tuple[int, int, int], factor: Factor
    ) -> tuple[Array | None, Array | None]:
        """What other sources say of a crop: their own values (C, t, h, w), and predictors (P, t, h, w)."""
        if self.partners is None:
            return None, None
        box = [slice(int(first), int(first) + n) for first, n in zip(pick[1:], size, strict=True)]
        return self.partners[pick[0]].of(box[0], box[1], box[2], factor)

    def _turned(self, parts: dict[str, Array], rng: np.random.Generator | None, factor: Factor) -> dict[str, Array]:
        """The parts of a crop, (…, y, x) each, varied in amount and turned together."""
        if rng is not None and self.augmentation.rescale:
            scale = np.float32(np.exp(self.augmentation.rescale * rng.standard_normal()))
            for name in parts.keys() & {"fine", "coarse"}:
                parts[name] = np.concatenate([parts[name][:1] * scale, parts[name][1:]])
        if rng is not None and self.augmentation.turn:
            turns = rng.integers(2, size=3)
            for axis in (-2, -1):
                if turns[axis]:
                    parts = {name: np.flip(part, axis) for name, part in parts.items()}
            if turns[0] and parts["fine"].shape[-2] == parts["fine"].shape[-1] and factor.y == factor.x:
                parts = {name: np.swapaxes(part, -1, -2) for name, part in parts.items()}
        return {name: np.ascontiguousarray(part) for name, part in parts.items()}


def check_crop(field: xr.DataArray, factors: Factors, crop: tuple[int, int, int]) -> None:
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
            "lower data.crop or data.frames"
        )
