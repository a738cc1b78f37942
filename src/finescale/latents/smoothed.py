"""White noise of a latent, smoothed on fine cells, as a convolution of its own channels.

With S the analysis, S⁻¹ the synthesis and G an even filter on fine cells, such as a Gaussian,

    P = S G S⁻¹

mixes the coefficients of neighbouring blocks, alike at all of them but those at a border: a convolution, whose kernel
is what P makes of single coefficients. White noise w, wherever its blocks lie, becomes the latent P w of a filtered
field, so that where noise moves by any number of cells P w moves along; a convolution that is learned would not.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.latents.base import LatentSpace
from finescale.operators.gaussians import filtered

LEAST = 3e-4
"""Channels with less of a smooth field's energy than this, of that of the one that has most, have no part in it."""
MOST = 1000
"""Channels of a latent at most: finding the kernel takes their cube."""
AT_ONCE = 2**24
"""Numbers that are in memory while it is found."""


class Smoothing:
    """P, scaled so that the synthesis of P w has unit variance.

    Args:
        latent: an orthonormal transform of cells that needs no data (`LatentSpace.fixed`).
        smooth: G (n, n), on fine cells.

    Attributes:
        channels: (R,), those that a smooth field has.
        kernel: (R, R, n, n), between them.
    """

    def __init__(self, latent: LatentSpace, smooth: Tensor) -> None:
        near = max(1, math.ceil(len(smooth) // 2 / min(latent.stride[1:])))
        count, blocks = latent.channels, 2 * near + 3

        def smoothed(channels: Tensor) -> Tensor:
            """G S⁻¹ of one coefficient of each channel (N,): (N, C, T, H, W)."""
            one = torch.zeros(len(channels), count, 1, blocks, blocks)
            one[range(len(channels)), channels, 0, near + 1, near + 1] = 1.0
            return filtered(latent.synthesis(one), smooth)

        # S keeps the energy, and P is symmetric: a channel gives as much as it takes.
        some = torch.arange(count).split(max(1, AT_ONCE // (count * blocks**2)))
        energy = torch.cat([smoothed(channels).square().flatten(1).sum(1) for channels in some])
        kept = (energy > LEAST * energy.max()).nonzero()[:, 0]
        made = latent.analysis(smoothed(kept))[:, kept, 0, 1:-1, 1:-1]
        self.channels = kept
        self.kernel = made.transpose(0, 1).flip(-2, -1) * (count / energy.sum()).sqrt()


class Leading(nn.Module):
    """P of a latent whose channels are in another order, between the first of them.

    To take the first channels, and to add to them, is several times as fast as it is for some here and there, which is
    worth a few zeros in the kernel.

    Args:
        smoothing: P.
        rank: (K,), the place of each channel.

    Attributes:
        kernel: (R, R, n, n), between the first R channels, beyond which P has none.
    """

    kernel: Tensor

    def __init__(self, smoothing: Smoothing, rank: Tensor) -> None:
        super().__init__()
        places, (*_, height, width) = rank[smoothing.channels], smoothing.kernel.shape
        first = 1 + int(places.max())
        kernel = smoothing.kernel.new_zeros(first, first, height, width)
        kernel[places[:, None], places] = smoothing.kernel
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, w: Tensor) -> Tensor:
        """(N, K, H', W') -> (N, R, H', W')."""
        return F.conv2d(w[:, : len(self.kernel)], self.kernel.to(w.dtype), padding=self.kernel.shape[-1] // 2)
