"""Gaussians on fine cells, round, and longer than wide along any direction.

Of Gaussians g_θ that are 4 times as long as wide, along θ = 0°, 45°, 90° and 135° (from x towards y),

    G_m = Σ_θ g_θ,      G_c = g_0 − g_90,      G_s = g_45 − g_135,

the three fields x_m, x_c, x_s that they make of one field x give for every direction

    x_θ = x_m + a (cos 2θ x_c + sin 2θ x_s),

alike but turned: what lies along θ is longer, the more so the larger a. The direction may vary from place to place.

Source: steerable filters, Freeman & Adelson (1991); here to the first order in 2θ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LONG = 2.0
"""σ along a direction in σ of the round Gaussian; across it is that one's half."""
REACH = 3
"""Standard deviations at which they end."""


def gaussian(std: float) -> Tensor:
    """(n, n), of sum 1, of so many fine cells."""
    return _along(std, std, 0.0)


def steerable(std: float) -> tuple[Tensor, Tensor, Tensor]:
    """G_m, G_c and G_s, each (n, n); ``std`` is the geometric mean of σ along and across, in fine cells."""
    zero, forty_five, ninety, last = (_along(LONG * std, std / LONG, n * math.pi / 4) for n in range(4))
    return zero + forty_five + ninety + last, zero - ninety, forty_five - last


def filtered(x: Tensor, kernel: Tensor) -> Tensor:
    """Fields (…, H, W) through an even kernel (n, n), n odd; beyond the borders they are 0."""
    size = [cells + len(kernel) - 1 for cells in x.shape[-2:]]
    made = torch.fft.irfft2(torch.fft.rfft2(x, size) * torch.fft.rfft2(kernel.to(x), size), size)
    n = len(kernel) // 2
    return made[..., n : n + x.shape[-2], n : n + x.shape[-1]]


def _along(along: float, across: float, angle: float) -> Tensor:
    """A Gaussian of σ ``along`` an angle from x towards y."""
    n = torch.arange(-math.ceil(REACH * max(along, across)), math.ceil(REACH * max(along, across)) + 1.0)
    y, x = torch.meshgrid(n, n, indexing="ij")
    u, v = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    bell = (-0.5 * ((u / along) ** 2 + (v / across) ** 2)).exp()
    return bell / bell.sum()
