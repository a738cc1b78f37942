"""Separable upsampling of coarse fields to the fine grid, one axis after another, time included.

Fine cell i·f + p of coarse cell i has its centre at u = (p + ½)/f − ½ coarse cells from the coarse centre; the
value there is Σ_j k(u − j) c_{i+j}, with the coarse field continued by its edge values. Kernels k: nearest, the linear
hat, and the Keys (1981) cubic with a = −½ (third order).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finescale.grids.factor import Factor

Kind = Literal["nearest", "linear", "cubic"]


def upsample(coarse: Tensor, factor: Factor, kind: Kind = "cubic") -> Tensor:
    """Upsample (..., t, h, w) to (..., ft·t, fy·h, fx·w); time is never smoother than linear."""
    for axis, f in zip((-3, -2, -1), factor, strict=True):
        if f > 1:
            coarse = _upsample_axis(coarse, axis, f, "linear" if axis == -3 and kind == "cubic" else kind)
    return coarse


def _upsample_axis(c: Tensor, axis: int, f: int, kind: Kind) -> Tensor:
    if kind == "nearest":
        return c.repeat_interleave(f, dim=axis)
    matrix = torch.as_tensor(_matrix(c.shape[axis], f, kind), dtype=c.dtype, device=c.device)
    # Conditions stay in their own precision where networks around run in bfloat16.
    with torch.autocast(c.device.type, enabled=False):
        if axis == -2:
            return matrix @ c
        return (c.movedim(axis, -1) @ matrix.T).movedim(-1, axis)


@lru_cache(maxsize=64)
def _matrix(n: int, f: int, kind: Kind) -> NDArray[np.float64]:
    """(n·f, n): the weights of the coarse cells in every fine one."""
    reach = 1 if kind == "linear" else 2
    u = (np.arange(f) + 0.5) / f - 0.5
    matrix = np.zeros((n, f, n))
    cells = np.arange(n)
    for j in range(-reach, reach + 1):
        d = np.abs(u - j)
        if kind == "linear":
            weight = np.clip(1 - d, 0, None)
        else:
            near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
            weight = np.where(d <= 1, near, np.where(d < 2, far, 0.0))
        np.add.at(matrix, (cells[:, None], np.arange(f)[None, :], np.clip(cells + j, 0, n - 1)[:, None]), weight)
    return matrix.reshape(n * f, n)
