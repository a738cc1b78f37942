"""White noise of a latent, smoothed on fine cells, as a convolution of its own channels.

With S the analysis, S⁻¹ the synthesis and G_σ a Gaussian on fine cells,

    P_σ = S G_σ S⁻¹

mixes the coefficients of neighbouring blocks, alike at all of them but those at a border: a convolution, whose kernel
is what P_σ makes of single coefficients. White noise w, wherever its blocks lie, becomes the latent P_σ w of a smooth
field, so that where noise moves by any number of cells P_σ w moves along; a convolution that is learned would not.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.latents.base import LatentSpace
from finescale.operators.blur import blur

REACH = 3
"""Standard deviations at which P_σ ends."""
LEAST = 1e-3
"""Channels with a smaller share of the smooth field's energy than this, of the first one's, have no part in it."""


class Smoothing(nn.Module):
    """P_σ, scaled so that white noise gives a field of unit variance.

    Args:
        latent: an orthonormal transform of cells.
        std: σ, in fine cells.

    Attributes:
        channels: (R,), those that a smooth field has.
        kernel: (R, R, n, n), between them.
    """

    channels: Tensor
    kernel: Tensor

    def __init__(self, latent: LatentSpace, std: float) -> None:
        super().__init__()
        reach = max(1, math.ceil(REACH * std / min(latent.stride[1:])))
        count, blocks = latent.channels, 2 * reach + 3
        one = torch.zeros(count, count, 1, blocks, blocks)
        one[range(count), range(count), 0, reach + 1, reach + 1] = 1.0
        made = latent.analysis(blur(latent.synthesis(one), std))[:, :, 0, 1:-1, 1:-1]
        energy = made.square().sum((0, 2, 3))
        kept = (energy > LEAST * energy.max()).nonzero()[:, 0]
        kernel = made[kept][:, kept].transpose(0, 1).flip(-2, -1)
        self.register_buffer("channels", kept, persistent=False)
        self.register_buffer("kernel", kernel * (count / energy.sum()).sqrt(), persistent=False)

    def forward(self, w: Tensor) -> Tensor:
        """(N, K, H', W') -> (N, R, H', W')."""
        return F.conv2d(w[:, self.channels], self.kernel.to(w.dtype), padding=self.kernel.shape[-1] // 2)
