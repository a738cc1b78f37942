"""A member in one evaluation: a generator in place of denoiser and sampler.

With w white noise, a function of member and position, and everything at latent resolution,

    m, b = trunk(fold(cond, mu))           once a window
    z = m + V(b) w                         once a member

where V(b) w is the noise on fine cells through filters of strengths b (`finescale.model.filtered`). z is the whitened
latent of y − mu, as a sampler would return it; w has its channels. But for the directions of its lines, which it takes
from larger scales of the noise, a member is linear in its noise until the transform and the constraint, and noise that
moves (`finescale.diffusion.carried`) makes detail that moves with it. Convolutions of the noise that are learned, in a
head or in place of the filters, would have detail come and go in places of their own.

All is trained together on a proper score of a few members of each crop (`finescale.model.energy`): the score is
smallest where members and data have one distribution, so that spread and texture are what is learned, and nothing is
left to be corrected by further steps.

Sources: AIFS-CRPS (Lang et al. 2024) and FGN (Alet et al. 2025) for forecasts, EnScale (arXiv 2509.26258) for
downscaling. That the condition is seen once and members share it, noise that is filtered, and a latent that is decoded
and constrained inside the score, is ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.backbones.layers import ChannelNorm, ResidualBlock
from finescale.latents.base import LatentSpace
from finescale.model.energy import Score
from finescale.model.filtered import framed, frames_of, variation
from finescale.ranges import Repeats, Size, Width


class Generator(nn.Module):
    """z = m + V(b) w, with m, b = trunk(told).

    Args:
        trunk: a backbone on conditioning fields (B, Kc, T', H', W') at latent resolution, with ``features`` channels.
        features: channels of the trunk's result (derived).
        latent: whose K channels z, and the noise, have (derived).
        width: channels that m and b are made of.
        blocks: residual blocks of these, two 3 × 3 convolutions each.
        members: drawn of each crop in training, 2 at least.
        smooth: σ of the Gaussians that the noise goes through, in fine cells; there are none where the latent's
            transform is fitted to data, or has more than 1000 channels.
        oriented: σ of those that are longer than wide.
        score: what is minimised.
    """

    def __init__(
        self,
        trunk: nn.Module,
        features: int,
        latent: LatentSpace,
        width: Size = 64,
        blocks: Repeats = 3,
        members: Size = 2,
        smooth: tuple[Width, ...] = (0.7, 12.0),
        oriented: tuple[Width, ...] = (1.2, 2.2, 4.0),
        score: Score | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.members, self.score = trunk, max(2, members), score or Score()
        self.noise = variation(latent, smooth, oriented)
        self.sizes = [latent.channels, self.noise.amplitudes]
        self.told = nn.Conv2d(features, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, width, 0) for _ in range(blocks))
        # Amplitudes are bounded where features are beyond what training has seen.
        self.norm = ChannelNorm(width)
        self.centre = nn.Conv2d(width, latent.channels, 3, padding=1)
        self.amplitudes = nn.Conv2d(width, self.noise.amplitudes, 1)
        with torch.no_grad():
            self.amplitudes.weight.zero_()
            self.amplitudes.bias.fill_(self.noise.start)  # type: ignore[union-attr]

    def trunk(self, told: Tensor, scalars: Tensor | None = None) -> Tensor:
        """What all members of a window share, m and b: (B, K + A, T', H', W'), with A amplitudes.

        Args:
            told: (B, Kc, T', H', W') conditioning fields and mean, folded.
            scalars: (B, S) features of the factor, where the model serves several.
        """
        features = self.backbone(told, scalars)
        x = self.told(frames_of(features))
        for block in self.blocks:
            x = block(x, None)
        x = F.silu(self.norm(x))
        return framed(torch.cat([self.centre(x), self.amplitudes(x)], 1), features.shape[2])

    def head(self, shared: Tensor, noise: Tensor, scale: Tensor) -> Tensor:
        """Members z (B, M, K, T', H', W') of what windows share.

        Args:
            shared: (B, K + A, T', H', W').
            noise: w (B, M, K, T', H', W').
            scale: D (K, 1, 1, 1), by which z is multiplied when it is decoded.
        """
        m, b = shared.split(self.sizes, 1)
        return (m[:, None] + self.noise(b, noise.to(shared.dtype), scale)).float()

    def forward(self, told: Tensor, noise: Tensor, scale: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Members z (B, M, K, T', H', W') of conditions (B, Kc, T', H', W') and noise (B, M, K, T', H', W')."""
        return self.head(self.trunk(told, scalars), noise, scale)
