"""Blocks of ft × fy × fx cells in numpy: their area-weighted means, and values repeated over them.

    (A x)_b = Σ_{i in b} a_i x_i / Σ_{i in b} a_i     over the known cells i of block b, a the cell areas

The same mean as `finescale.operators.coarsen.Coarsen` on tensors.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from finescale.grids.factor import Factor, check_divisible

Array = NDArray[Any]


def block_means(x: ArrayLike, factor: Factor, area: ArrayLike | None = None, dtype: DTypeLike = np.float64) -> Array:
    """A: means (…, T, H, W) -> (…, t, h, w) over the known cells of each block; NaN without one.

    Args:
        x: fine fields; NaN or infinite where unknown.
        factor: the blocks.
        area: (H, W) cell areas up to a constant; None for equal ones.
        dtype: of the result; sums are in double precision.

    Raises:
        InputError: if the shape is not divisible by the factor.
    """
    values = np.asarray(x)
    frames, height, width = values.shape[-3:]
    check_divisible((frames, height, width), factor)
    weight = np.ones((height, width)) if area is None else np.asarray(area, dtype=np.float64)
    if (weight == weight.flat[0]).all():
        # Plain means, rows first, are several times as fast; a missing cell makes its block's one missing.
        fine = values.reshape(*values.shape[:-3], frames // factor.time, factor.time, -1, factor.y, width)
        rows = fine.sum(axis=(-4, -2), dtype=np.float64)
        plain: Array = rows.reshape(*rows.shape[:-1], -1, factor.x).sum(axis=-1) / math.prod(factor)
        if np.isfinite(plain).all():
            return plain.astype(dtype, copy=False)
    sides = [side for n, f in zip((frames, height, width), factor, strict=True) for side in (n // f, f)]
    over = (-5, -3, -1)
    blocks = values.reshape(*values.shape[:-3], *sides).astype(np.float64, copy=False)
    known = np.isfinite(blocks)
    weights = np.broadcast_to(weight, (frames, height, width)).reshape(sides) * known
    total = weights.sum(axis=over)
    sums = (np.where(known, blocks, 0.0) * weights).sum(axis=over)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Array = np.where(total > 0, sums / total, np.nan).astype(dtype)
    return means


def replicate(coarse: Array, factor: Factor) -> Array:
    """U: each value repeated over its block, (t, h, w) -> (T, H, W)."""
    for axis, n in enumerate(factor):
        coarse = np.repeat(coarse, n, axis=axis) if n > 1 else coarse
    return coarse
