"""Do fields change in time as the truth does, and smoothly across the borders of coarse frames?

With a pair (a, b) the values of a valid cell in two frames of one sequence, and ⟨·⟩ the mean over cells and pairs
pooled, weighted by cell area:

    autocorrelation at lag l    r = ⟨(a − ⟨a⟩)(b − ⟨b⟩)⟩ / √(⟨(a − ⟨a⟩)²⟩ ⟨(b − ⟨b⟩)²⟩),     a = x[t], b = x[t + l]
    border ratio                ⟨|x[t + 1] − x[t]|⟩ over steps with t + 1 a multiple of ft, which cross the border of
                                coarse frames, over the same mean of all other steps, which lie inside a coarse frame

A pair counts where both cells are valid. Frames made one by one flicker: r is too low. Coarse frames refined apart from
each other jump: the border ratio lies above the truth's own, which need not be 1, as the truth differs from frame to
frame too; it is infinite for a field that is constant in each coarse frame.

The statistic (`pair_terms`) adds over pairs, so a sequence may come in parts if the last frame of each is kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.scores.cells import CHUNK, Array, Step, dot, mean_of, ratio
from finescale.scores.record import Score, Statistic
from finescale.scores.settings import Settings

EQUAL = 1e-12
"""Variance over mean square below which a field counts as constant: what is left is rounding."""


def pair_terms(a: Array, b: Array, w: Array) -> Array:
    """Σw, Σwa, Σwb, Σwa², Σwb², Σwab, Σw|b − a| (…, 7) of fields a, b (…, H, W) without NaN and weights (…, H, W)."""
    weights = np.broadcast_to(w, a.shape)
    out = np.empty((*a.shape[:-2], 7))
    for place in np.ndindex(a.shape[:-2]):
        whole = [f[place].ravel() for f in (a, b, weights)]
        total = np.zeros(7)
        for start in range(0, whole[0].size, CHUNK):  # a chunk at a time, which stays in the cache
            u, v, k = (f[start : start + CHUNK] for f in whole)
            ku, kv = k * u, k * v
            total += k.sum(), ku.sum(), kv.sum(), dot(ku, u), dot(kv, v), dot(ku, v), dot(k, np.abs(v - u))
        out[place] = total
    return out


def correlation_formula(terms: Array) -> Array:
    """Pearson's r (…) from summed `pair_terms` (…, 7); NaN without a pair, or where a or b does not vary."""
    mean_a, mean_b, square_a, square_b, product = np.moveaxis(ratio(terms[..., 1:6], terms[..., :1]), -1, 0)
    var_a, var_b = square_a - mean_a**2, square_b - mean_b**2
    varies = (var_a > EQUAL * square_a) & (var_b > EQUAL * square_b)
    return ratio(product - mean_a * mean_b, np.sqrt(np.where(varies, var_a * var_b, 0.0)))


def border_formula(across: Array, inside: Array) -> Array:
    """Border ratio (…) from `pair_terms` (…, 7) summed over steps across borders and inside coarse frames.

    Infinite where nothing changes inside; NaN where nothing changes at all, or one kind of step is missing.
    """
    jump, calm = (ratio(terms[..., 6], terms[..., 0]) for terms in (across, inside))
    return np.where((calm == 0) & (jump > 0), np.inf, ratio(jump, calm))


def step_terms(step: Step, settings: Settings) -> Array:
    """`pair_terms` (2, M + 1, 7) of a step in time, of the members and the truth; [1] if it crosses a border.

    A time that follows no other has zeros: its place in the series is kept.
    """
    old, new = step
    if old is None:
        return np.zeros((2, len(new.x) + 1, 7))
    both = np.where(old.w > 0, new.w, 0.0)
    terms = np.concatenate([pair_terms(old.x, new.x, both), pair_terms(old.y, new.y, both)[None]])
    crosses = settings.factor is not None and new.key[1] % settings.factor.time == 0
    return np.stack([np.zeros_like(terms), terms] if crosses else [terms, np.zeros_like(terms)])


def step_formula(terms: Array, factor: Factor | None) -> dict[str, Array]:
    """autocorrelation and, where time is refined, border_ratio, each with the truth's, from summed `step_terms`.

    Nothing where no time follows another.
    """
    if not terms[..., 0].any():
        return {}
    inside, across = np.moveaxis(terms, -3, 0)
    found = {"autocorrelation": correlation_formula(inside + across)}
    if factor is not None and factor.time > 1:
        found["border_ratio"] = border_formula(across, inside)
    result: dict[str, Array] = {}
    for name, values in found.items():
        result |= {name: mean_of(values[..., :-1]), f"{name}_truth": values[..., -1]}
    return result


def lag_autocorrelation(x: ArrayLike, lag: int = 1, weights: ArrayLike | None = None) -> Array:
    """Autocorrelation r at a lag.

    Args:
        x: fields (…, T, H, W); NaN cells are ignored.
        lag: frames between both of a pair, at least 1.
        weights: cell areas (H, W).

    Returns:
        (…), one a sequence; NaN where T ≤ lag or the field does not vary.

    Raises:
        InputError: for fewer than three dimensions or a lag below 1.

    Example:
        >>> import numpy as np
        >>> from finescale.verify import lag_autocorrelation
        >>> steady = np.repeat(np.random.default_rng(0).random((1, 8, 8)), 5, axis=0)
        >>> round(float(lag_autocorrelation(steady)), 6)
        1.0
    """
    if lag < 1:
        raise InputError(f"the lag is {lag}, but must be at least 1 frame")
    return correlation_formula(_pairs(_fields(x), lag, weights).sum(axis=-2))[()]


def border_ratio(x: ArrayLike, ft: int, weights: ArrayLike | None = None) -> Array:
    """Border ratio: mean absolute change across borders of coarse frames over that inside them.

    Args:
        x: fields (…, T, H, W), the first frame the first of a coarse one; NaN cells are ignored.
        ft: fine frames in a coarse one.
        weights: cell areas (H, W).

    Returns:
        (…), one a sequence; NaN where ft = 1 or T ≤ ft, since one kind of step is missing.

    Raises:
        InputError: for fewer than three dimensions or ft below 1.

    Example:
        >>> import numpy as np
        >>> from finescale.verify import border_ratio
        >>> even = np.arange(9.0)[:, None, None] * np.ones((9, 8, 8))  # changes by 1 from frame to frame
        >>> float(border_ratio(even, ft=3))
        1.0
    """
    if ft < 1:
        raise InputError(f"the factor in time is {ft}, but must be at least 1")
    terms = _pairs(_fields(x), 1, weights)
    across = np.arange(1, terms.shape[-2] + 1) % ft == 0
    return border_formula(terms[..., across, :].sum(axis=-2), terms[..., ~across, :].sum(axis=-2))[()]


def _fields(x: ArrayLike) -> Array:
    fields = np.asarray(x, dtype=np.float64)
    if fields.ndim < 3:
        raise InputError(f"fields in time must be (…, T, H, W), but their shape is {fields.shape}")
    return fields


def _pairs(x: Array, lag: int, weights: ArrayLike | None) -> Array:
    """`pair_terms` (…, T − lag, 7) of all pairs."""
    valid, filled = np.isfinite(x), np.nan_to_num(x, posinf=0.0, neginf=0.0)
    area: Array = np.ones(()) if weights is None else np.asarray(weights, dtype=np.float64)
    count = max(x.shape[-3] - lag, 0)
    w: Array = np.where(valid[..., :count, :, :] & valid[..., lag : lag + count, :, :], area, 0.0)
    return pair_terms(filled[..., :count, :, :], filled[..., lag : lag + count, :, :], w)


STEPS = Statistic(
    "steps",
    step_terms,
    lambda terms, members, settings: step_formula(terms, settings.factor),
    (
        Score(
            "autocorrelation",
            "Autocorrelation in time",
            "truth",
            "Time",
            "Correlation of each member with itself one frame later, over all cells and frames; best is that of the "
            "truth. Lower: the members flicker; higher: they are too steady.",
        ),
        Score(
            "border_ratio",
            "Border ratio",
            "truth",
            "Time",
            "Mean absolute change between two frames across the border of coarse frames, over that inside a coarse "
            "frame; best is that of the truth. Higher: coarse frames are refined apart from each other, and jump.",
        ),
    ),
    over="step",
)
