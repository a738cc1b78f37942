"""What a training crop carries, and how it is varied: flips and transposes, which all of it shares, and amounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from finescale.grids.factor import Factor

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """How a training crop is chosen and varied; the defaults change nothing but orientation.

    Attributes:
        turn: flip and, where the crop and the factor are square, transpose at random.
        favour: choose crops with probability ∝ (mean amount of the first variable)^favour, so that the storms which
            carry most of a score are seen more often; 0 for all alike.
        rescale: multiply the first variable of a crop by exp(rescale · N(0, 1)), so that amounts beyond the training
            region's are seen; for amounts such as rain only.
    """

    turn: bool = True
    favour: float = 0.0
    rescale: float = 0.0


class Cut(NamedTuple):
    """One crop.

    Attributes:
        fine: (C, T, H, W); NaN where unknown.
        area: (H, W) cell areas.
        static: (S, H, W), where there are static fields.
        coarse: (C, t, h, w) of a coarse source; None for the block means.
        predictors: (P, t, h, w), where there are any.
    """

    fine: Array
    area: Array
    static: Array | None = None
    coarse: Array | None = None
    predictors: Array | None = None


class Variation(NamedTuple):
    """How one crop is varied.

    Attributes:
        times: what its first variable is multiplied by.
        turns: transpose, flip y, flip x.
    """

    times: float = 1.0
    turns: tuple[bool, bool, bool] = (False, False, False)

    @classmethod
    def drawn(cls, augmentation: Augmentation, rng: np.random.Generator) -> Variation:
        """One at random, which takes as many random numbers whatever the crop."""
        times = float(np.exp(augmentation.rescale * rng.standard_normal())) if augmentation.rescale else 1.0
        transpose, y, x = map(bool, rng.integers(2, size=3)) if augmentation.turn else (False,) * 3
        return cls(times, (transpose, y, x))


def varied(cut: Cut, variation: Variation, factor: Factor) -> Cut:
    """A crop with its first variable's amounts, fine and coarse, then the orientation of all of it, changed."""
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
    fine, area, *rest = (None if part is None else np.ascontiguousarray(part) for part in parts)
    assert fine is not None and area is not None
    return Cut(fine, area, *rest)
