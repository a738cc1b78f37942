"""Directions that noise has of itself: those that the contours of its larger scales have on average.

With u the white noise of a variable, smoothed by a Gaussian of `INNER` fine cells, its structure tensor smoothed by one
of `OUTER` gives

    q = ⟨u_y² − u_x², −2 u_x u_y⟩,      (d_c, d_s) = q / √(|q|² + ¼ ⟨u_x² + u_y²⟩²)

which is d (cos 2θ, sin 2θ), with θ, from x towards y, along the contours of u about there, and d between 0 and .9,
large where these have one direction, 0 where they have none. Any direction is as likely as any other, neighbours have
nearly the same, and what is white at smaller scales knows nothing of it. Where the noise moves, its directions move
along.

The contours themselves, closed lines about the summits of u, would be whirls that an eye finds at once; so would, if
fewer, the ridges of u. A mean over squared gradients has as many of these as chance makes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.latents.base import LatentSpace
from finescale.latents.smoothed import Smoothing
from finescale.operators.gaussians import gaussian

INNER, OUTER = 12.0, 20.0
"""Standard deviations of the Gaussians, in fine cells."""
REACH = 2.5
"""Of the outer one, in its standard deviations."""
PLAIN = 0.001
"""Channels with less of u's variance than this have no part in it."""
SLOPE = torch.tensor([1, -8, 0, 8, -1]) / 12
"""Of a field between blocks, to the fourth order."""
TINY = 1e-12


class Directions(nn.Module):
    """d cos 2θ and d sin 2θ of a latent's white noise, at latent resolution.

    Args:
        latent: as `Smoothing` needs it.
        variable: (K,), whose channel each is.

    Attributes:
        channels: (R,), those that say what u is.
        kernel: (2 C, R, n, n), from these to u_y and u_x at the middle of blocks, of each variable.
        bell: (n,), the outer Gaussian at latent resolution.
    """

    channels: Tensor
    kernel: Tensor
    bell: Tensor

    def __init__(self, latent: LatentSpace, variable: Tensor) -> None:
        super().__init__()
        smooth = Smoothing(latent, gaussian(INNER))
        middle = smooth.kernel.shape[-1] // 2
        # Of a smooth field next to all is in the means of blocks.
        kept = smooth.kernel[:, :, middle, middle].diagonal()
        of = variable[smooth.channels]
        means = [int(torch.where(of == one, kept, -torch.inf).argmax()) for one in range(1 + int(variable.max()))]
        kernel = smooth.kernel[means]
        energy = kernel.square().sum((0, 2, 3))
        plain = energy > PLAIN * energy.max()
        self.register_buffer("channels", smooth.channels[plain], persistent=False)
        rows = kernel[:, plain].flatten(0, 1)[:, None]
        y = F.conv2d(rows, SLOPE[None, None, :, None], padding=(4, 2))
        x = F.conv2d(rows, SLOPE[None, None, None], padding=(2, 4))
        self.register_buffer("kernel", torch.cat([y, x])[:, 0].unflatten(0, (2 * len(means), -1)), persistent=False)
        std = OUTER / min(latent.stride[1:])
        n = torch.arange(-int(REACH * std), int(REACH * std) + 1)
        self.register_buffer("bell", (-0.5 * (n / std) ** 2).exp(), persistent=False)

    def forward(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """(N, K, H', W') -> two of (N, C, H', W')."""
        slopes = F.conv2d(w[:, self.channels], self.kernel.to(w.dtype), padding=self.kernel.shape[-1] // 2)
        y, x = slopes.float().chunk(2, 1)
        shape, near = y.shape, len(self.bell) // 2
        products = torch.stack([y.square(), x.square(), x * y]).flatten(0, 2)[:, None]
        along = F.conv2d(products, self.bell.float()[None, None, :, None], padding=(near, 0))
        yy, xx, xy = F.conv2d(along, self.bell.float()[None, None, None], padding=(0, near)).view(3, *shape)
        cos, sin = yy - xx, -2 * xy
        length = (cos.square() + sin.square() + 0.25 * (yy + xx).square()).sqrt().clamp_min(TINY)
        return (cos / length).to(w.dtype), (sin / length).to(w.dtype)
