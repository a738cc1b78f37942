"""Does detail keep its shape while it moves?

With D the displacement of the truth from a frame to the next, found by `finescale.grids.motion` on means over blocks
(of the coarse cells, or of 8 × 8 cells) of log-rain, or of values of a field that is not rain, and ⟨·⟩ as in
`finescale.scores.temporal`, the autocorrelation along the motion is Pearson's correlation of

    a(x) = x[t](x − D(x))      and      b(x) = x[t + 1](x)

over cells that are known in both, linearly interpolated. Noise that persists in place has the truth's autocorrelation
there and less along the motion; frames made one by one have less of both.
"""

from __future__ import annotations

import numpy as np

from finescale.grids.blocks import block_means
from finescale.grids.factor import Factor
from finescale.grids.motion import LEAST, Places, motion, origins, sampled, seen
from finescale.scores.cells import Array, Frame, Step, mean_of
from finescale.scores.record import Score, Statistic
from finescale.scores.settings import Settings
from finescale.scores.temporal import correlation_formula, pair_terms

SIDE = 8
"""Cells a side of a block, where there is no factor."""


def moving_terms(step: Step, settings: Settings) -> Array:
    """`pair_terms` (M + 1, 7) of a step along the truth's motion, of the members and the truth.

    Zeros for a time that follows no other, and for a field that is too small for a motion.
    """
    old, new = step
    factor = (1, 1) if settings.factor is None else (settings.factor.y, settings.factor.x)
    sides = tuple(side if side > 1 else SIDE for side in factor)
    if old is None or min(n // side for n, side in zip(new.y.shape, sides, strict=True)) < LEAST:
        return np.zeros((len(new.x) + 1, 7))

    def found() -> Places:
        first, second = (_blocks(frame, sides, settings) for frame in (old, new))
        return origins(new.y.shape, motion(first, second), sides)

    places = new.of_truth("origins", found)
    weight = np.where(sampled((old.w > 0).astype(np.float32), places) > 1 - 1e-3, new.w, 0.0)
    fields = zip([*old.x, old.y], [*new.x, new.y], strict=True)
    return np.stack([pair_terms(sampled(before, places), after, weight) for before, after in fields])


def _blocks(frame: Frame, sides: tuple[int, ...], settings: Settings) -> Array:
    """Means of the truth over whole blocks (h, w), as motion is looked for in them; NaN where nothing is known."""
    height, width = (n // side * side for n, side in zip(frame.y.shape, sides, strict=True))
    known = np.where(frame.w > 0, frame.y, np.nan)[None, :height, :width]
    return seen(block_means(known, Factor(y=sides[0], x=sides[1]), dtype=np.float32)[0], settings.rain)


def moving_formula(terms: Array) -> dict[str, Array]:
    """moving_autocorrelation, and the truth's, from summed `moving_terms`; nothing where no time follows another."""
    if not terms[..., 0].any():
        return {}
    values = correlation_formula(terms)
    return {
        "moving_autocorrelation": mean_of(values[..., :-1]),
        "moving_autocorrelation_truth": values[..., -1],
    }


MOVING = Statistic(
    "moving",
    moving_terms,
    lambda terms, members, settings: moving_formula(terms),
    (
        Score(
            "moving_autocorrelation",
            "Autocorrelation along the motion",
            "truth",
            "Time",
            "Correlation of each member, moved as the truth moves, with itself one frame later; best is that of the "
            "truth. Lower: detail does not move with the rain, or flickers.",
        ),
    ),
    over="step",
    wanted=lambda settings: settings.full,
)
