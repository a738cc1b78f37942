"""Fields smoothed in space by a Gaussian, over known cells.

    x̄(p) = Σ_q w(q) x(p + q) / Σ_q w(q),    w(q) = exp(−|q|² / 2σ²),  |q_y|, |q_x| ≤ 4σ

with the sums over cells that are known. Sums are taken shift by shift, so that a field is the same to the bit whatever
it is smoothed together with.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 4
"""Standard deviations at which the Gaussian is cut."""


def blur(x: Tensor, std: float) -> Tensor:
    """Fields (…, H, W) smoothed by a Gaussian with a standard deviation of so many cells.

    Cells of NaN take no part; they get values of what is known around them, and 0 far from all of it.
    """
    known = x.isfinite()
    everywhere = bool(known.all())
    weights = known.new_ones(x.shape[-2:]) if everywhere else known
    total = _smoothed(x if everywhere else torch.where(known, x, 0.0), std)
    return total / _smoothed(weights.to(x.dtype), std).clamp_min(torch.finfo(x.dtype).tiny)


def _smoothed(x: Tensor, std: float) -> Tensor:
    """Σ_q w(q) x(p + q) with weights of sum 1 and zeros beyond the borders: along y, then along x."""
    reach = int(REACH * std + 0.5)
    bell = [math.exp(-0.5 * (n / std) ** 2) for n in range(-reach, reach + 1)]
    for axis, pad in ((-2, (0, 0, reach, reach)), (-1, (reach, reach))):
        padded, cells, x = F.pad(x, pad), x.shape[axis], torch.zeros_like(x)
        for n, weight in enumerate(bell):
            x = x + weight / sum(bell) * padded.narrow(axis, n, cells)
    return x
