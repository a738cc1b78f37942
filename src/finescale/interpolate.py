"""Separable upsampling of coarse fields to the fine grid, one axis after another, time included.

Fine cell i·f + p of coarse cell i has its centre at u = (p + ½)/f − ½ coarse cells from the coarse centre; the
value there is Σ_j k(u − j) c_{i+j}, with the coarse field continued by its edge values. Kernels k: nearest, the linear
hat, and the Keys (1981) cubic with a = −½ (third order).
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from finescale.grid import Factor

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
    offsets, weights = _phases(f, kind)
    n = c.shape[axis]
    moved = c.movedim(axis, -1)
    centre = torch.arange(n, device=c.device)
    taps = [moved[..., (centre + j).clamp(0, n - 1)] for j in offsets]
    weight = torch.as_tensor(weights, dtype=c.dtype, device=c.device)
    out = sum(tap[..., None] * weight[:, j] for j, tap in enumerate(taps))
    assert isinstance(out, Tensor)
    return out.reshape(*moved.shape[:-1], n * f).movedim(-1, axis)


@cache
def _phases(f: int, kind: Kind) -> tuple[range, np.ndarray]:
    """Tap offsets and the weights (f, taps) of each of the f phases."""
    reach = 1 if kind == "linear" else 2
    offsets = range(-reach, reach + 1)
    u = (np.arange(f) + 0.5) / f - 0.5
    d = np.abs(u[:, None] - np.array(offsets)[None, :])
    if kind == "linear":
        weights = np.clip(1 - d, 0, None)
    else:
        near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        weights = np.where(d <= 1, near, np.where(d < 2, far, 0.0))
    return offsets, weights
