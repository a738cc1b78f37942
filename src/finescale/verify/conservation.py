"""Conservation: do the block means of a fine field equal the coarse field?

residual = max |A x − c| / max |c| over coarse cells known in both, A the area-weighted block mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finescale.data.blocks import block_means
from finescale.grid import Factor, check_divisible

Array = NDArray[np.float64]


def block_mean(x: ArrayLike, factor: Factor, area: ArrayLike | None = None) -> Array:
    """A: area-weighted means (…, T, H, W) -> (…, t, h, w) over the valid cells of each block; NaN without one."""
    field = np.asarray(x, dtype=np.float64)
    shape = field.shape[-3:]
    check_divisible((shape[0], shape[1], shape[2]), factor)
    weight = np.ones(shape[-2:]) if area is None else np.asarray(area, dtype=np.float64)
    return block_means(field, weight, tuple(factor), dtype=np.float64)


def residual_terms(members: ArrayLike, coarse: ArrayLike, factor: Factor, area: ArrayLike | None = None) -> Array:
    """max |A x − c| and max |c| over coarse cells valid in both: merged by taking the greater."""
    c = np.asarray(coarse, dtype=np.float64)
    difference = np.abs(block_mean(members, factor, area) - c)
    return np.array([np.fmax.reduce(f, axis=None, initial=0.0) for f in (difference, np.abs(c))])


def conservation_residual(
    members: ArrayLike, coarse: ArrayLike, factor: Factor, area: ArrayLike | None = None
) -> float:
    """max |A x − c| / max |c|; 0 where nothing is lost (for an all-zero coarse field: max |A x|)."""
    return residual_formula(residual_terms(members, coarse, factor, area))


def residual_formula(terms: Array) -> float:
    """The residual from merged `residual_terms`."""
    return float(terms[0] / (terms[1] or 1.0))
