"""How long fine detail lives while it moves, measured on fine fields that follow each other.

Detail is what a field, of amounts its logarithm, has besides its mean over about a coarse cell. With r(l) its
autocorrelation at lag l along the motion of the coarse field (`finescale.grids.motion`), and

    ρ_P(l) = (1 − l/2P) cos(½ π l/P) + sin(½ π l/P)/π,      0 beyond 2P

that of noise with a lifetime P (`finescale.diffusion.carried`), the lifetime is the P of the least Σ_l (r(l) − a
ρ_P(l))², where the share a leaves out what interpolation and errors of the motion take from all lags alike.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from finescale.data.scales import interval
from finescale.diffusion.carried import autocorrelation
from finescale.grids.blocks import block_means
from finescale.grids.factor import Factor
from finescale.grids.motion import LEAST, displacement, motion, origins, sampled, seen
from finescale.training.fields import Field

Array = NDArray[np.float32]
LAGS = 8
FRAMES = 24
"""Frames at most."""
CELLS = 768
"""Fine cells a side at most: the wettest square of so many."""
WEAK = 0.1
"""Autocorrelation at lag 1 below which there is nothing to be followed."""


def lifetime(fields: list[Field], factor: Factor, amounts: bool) -> float | None:
    """Seconds that detail lives; None where no four frames follow each other, or nothing is seen to.

    Args:
        fields: fine ones; the longest sequence counts.
        factor: what makes coarse cells of them.
        amounts: whether the first variable is an amount such as rain.
    """
    found = [(stop - start, field, start) for field in fields for start, stop in _sequences(field)]
    count, field, start = max(found, key=lambda one: one[0], default=(0, None, 0))
    if field is None or count < 4:
        return None
    seconds = interval(field.variables[0])
    cells = factor.y, factor.x
    whole = _wettest(field, slice(start, start + min(count, FRAMES)), cells)
    if seconds is None or min(n // side for n, side in zip(whole.shape[1:], cells, strict=True)) < LEAST:
        return None
    correlations = _along(whole, cells, amounts)
    if not correlations[0] > WEAK:
        return None
    tried = np.geomspace(0.5, 200, 400)
    lags = np.arange(1, len(correlations) + 1)
    wanted = np.stack([autocorrelation(lags / one) for one in tried])
    share = (wanted @ correlations) / np.maximum((wanted**2).sum(1), 1e-12)
    error = ((correlations - np.minimum(share, 1)[:, None] * wanted) ** 2).sum(1)
    return round(float(tried[int(error.argmin())] * seconds), 1)


def _sequences(field: Field) -> list[tuple[int, int]]:
    ends = [0, *field.gaps, field.shape[1]]
    return list(pairwise(ends))


def _wettest(field: Field, t: slice, cells: tuple[int, int]) -> Array:
    """The square of whole blocks, of the frames, that has the most in the first."""
    sides = [min(n, CELLS) // side * side for n, side in zip(field.shape[2:], cells, strict=True)]
    first = np.nan_to_num(field.box(slice(t.start, t.start + 1), slice(None), slice(None))[0, 0])
    corners = [range(0, n - side + 1, max(1, side // 2)) for n, side in zip(first.shape, sides, strict=True)]
    y, x = max(
        ((y, x) for y in corners[0] for x in corners[1]),
        key=lambda at: float(first[at[0] : at[0] + sides[0], at[1] : at[1] + sides[1]].sum()),
    )
    return field.box(t, slice(y, y + sides[0]), slice(x, x + sides[1]))[0]


def _along(whole: Array, cells: tuple[int, int], amounts: bool) -> NDArray[np.float64]:
    """Autocorrelation of the detail of (T, H, W) along the motion, at lags from 1 on."""
    known, (frames, height, width), (fy, fx) = np.isfinite(whole), whole.shape, cells
    blocks = seen(block_means(whole, Factor(y=fy, x=fx), dtype=np.float32), amounts)
    whole = seen(whole, amounts)
    filled = np.where(known, whole, 0.0)
    detail = filled - gaussian_filter(filled, (0, fy / 2, fx / 2))
    speed = [motion(*pair) for pair in pairwise(blocks)]
    found = []
    for lag in range(1, min(LAGS, frames - 2) + 1):
        sums = np.zeros(3)
        for t in range(frames - lag):
            back = displacement(speed.__getitem__, len(speed), t + lag + 0.5, t + 0.5)
            places = origins((height, width), back, cells)
            both = known[t + lag] & (sampled(known[t].astype(np.float32), places) > 1 - 1e-3)
            before, after = sampled(detail[t], places)[both].astype(np.float64), detail[t + lag][both]
            sums += (before * after).sum(), (before**2).sum(), (after**2).sum()
        found.append(sums[0] / max(np.sqrt(sums[1] * sums[2]), 1e-12))
    return np.array(found)
