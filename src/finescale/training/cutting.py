"""What a training crop carries, and how it is varied: flips and transposes, which all of it shares, and amounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from finescale.grids.factor import Factor
from finescale.operators.blur import blur

Array = NDArray[np.float32]
ALONE = 0.1
"""Share of crops that are shown without their neighbouring frames, as a single frame is predicted."""


@dataclass(frozen=True)
class Augmentation:
    """How a training crop is chosen and varied; the defaults change nothing but orientation.

    Attributes:
        turn: flip and, where the crop and the factor are square, transpose at random.
        favour: choose crops with probability ∝ (mean amount of the first variable)^favour, so that the storms which
            carry most of a score are seen more often; 0 for all alike.
        rescale: multiply the first variable of a crop by exp(rescale · N(0, 1)), so that amounts beyond the training
            region's are seen; for amounts such as rain only.
        smoothing: smooth a quarter of the crops by a Gaussian with a standard deviation of up to so many cells, and
            take another quarter of cells of double size, so that smoother and rougher fields are seen; 0 for neither.
        neighbours: whether crops have neighbouring frames, without which a tenth of them go.
        balance: fields are drawn with a share ∝ (that of their crops)^(1 − balance).
        skips: of half the crops up to so many frames are left out between two that are taken.
    """

    turn: bool = True
    favour: float = 0.0
    rescale: float = 0.0
    smoothing: float = 0.0
    neighbours: bool = False
    balance: float = 0.0
    skips: int = 0


class Cut(NamedTuple):
    """One crop.

    Attributes:
        fine: (C, T, H, W); NaN where unknown. With n neighbouring coarse frames, n·ft frames more before and after.
        area: (H, W) cell areas.
        static: (S, H, W), where there are static fields.
        coarse: (C, t, h, w) of a coarse source; None for the block means.
        predictors: (P, t, h, w), where there are any.
        velocity: (2, t, h, w), coarse cells along y and x that coarse frames move by in their length.
    """

    fine: Array
    area: Array
    static: Array | None = None
    coarse: Array | None = None
    predictors: Array | None = None
    velocity: Array | None = None


class Variation(NamedTuple):
    """How one crop is varied.

    Attributes:
        times: what its first variable is multiplied by.
        turns: transpose, flip y, flip x.
        blur: standard deviation of the Gaussian that smooths it, in cells.
        double: whether it is cut twice as large and averaged to cells of double size.
        alone: whether it goes without its neighbouring frames.
        every: which of the frames it takes, counted from its first: every so many-th.
    """

    times: float = 1.0
    turns: tuple[bool, bool, bool] = (False, False, False)
    blur: float = 0.0
    double: bool = False
    alone: bool = False
    every: int = 1

    @classmethod
    def drawn(cls, augmentation: Augmentation, rng: np.random.Generator) -> Variation:
        """One at random, which takes as many random numbers whatever the crop."""
        times = float(np.exp(augmentation.rescale * rng.standard_normal())) if augmentation.rescale else 1.0
        transpose, y, x = map(bool, rng.integers(2, size=3)) if augmentation.turn else (False,) * 3
        found = cls(times, (transpose, y, x))
        if augmentation.smoothing:
            which, share = rng.random(2)
            blur = augmentation.smoothing * share if which < 0.25 else 0.0
            found = found._replace(blur=blur, double=bool(which >= 0.75))
        if augmentation.neighbours:
            found = found._replace(alone=bool(rng.random() < ALONE))
        if augmentation.skips:
            some, skipped = rng.random() < 0.5, int(rng.integers(1, augmentation.skips + 1))
            found = found._replace(every=1 + skipped if some else 1)
        return found


def varied(cut: Cut, variation: Variation, factor: Factor) -> Cut:
    """A crop smoothed, then its first variable's amounts, fine and coarse, and the orientation of all of it changed."""
    if variation.blur:
        cut = cut._replace(fine=blurred(cut.fine, variation.blur))
    if variation.times != 1:
        by = np.ones((len(cut.fine), 1, 1, 1), np.float32)
        by[0] = variation.times
        cut = cut._replace(fine=cut.fine * by, coarse=None if cut.coarse is None else cut.coarse * by)
    parts: list[Array | None] = list(cut)
    for axis in (-2, -1):
        if variation.turns[axis]:
            parts = [None if part is None else np.flip(part, axis) for part in parts]
    square = cut.area.shape[0] == cut.area.shape[1] and factor.y == factor.x
    if variation.turns[0] and square:
        parts = [None if part is None else np.swapaxes(part, -1, -2) for part in parts]
    if parts[-1] is not None:
        parts[-1] = _turned(parts[-1], variation.turns, square)
    fine, area, *rest = (None if part is None else np.ascontiguousarray(part) for part in parts)
    assert fine is not None and area is not None
    return Cut(fine, area, *rest)


def _turned(velocity: Array, turns: tuple[bool, bool, bool], square: bool) -> Array:
    """The components (2, t, h, w) of a velocity as its cells were flipped, then transposed."""
    signs = np.array([-1 if turns[axis] else 1 for axis in (1, 2)], np.float32)
    turned = velocity * signs[:, None, None, None]
    return turned[::-1] if turns[0] and square else turned


def blurred(fine: Array, std: float) -> Array:
    """Fields (C, T, H, W) smoothed in space by a Gaussian, over known cells: Σ w x / Σ w."""
    smooth = blur(torch.from_numpy(np.ascontiguousarray(fine, np.float32)), std).numpy()
    return np.where(np.isfinite(fine), smooth, np.float32(np.nan))


def doubled(cut: Cut) -> Cut:
    """A crop of cells of double size: means of 2 × 2 cells of what changes in space; unknown where one of them is."""

    def means(part: Array | None) -> Array | None:
        if part is None:
            return None
        *first, height, width = part.shape
        found: Array = part.reshape(*first, height // 2, 2, width // 2, 2).mean(axis=(-3, -1))
        return found

    fine, area, static = means(cut.fine), means(cut.area), means(cut.static)
    assert fine is not None and area is not None
    velocity = means(cut.velocity)
    return cut._replace(
        fine=fine, area=area, static=static, velocity=None if velocity is None else velocity * np.float32(0.5)
    )
