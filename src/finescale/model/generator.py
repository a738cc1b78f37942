"""A member in one evaluation: a generator in place of denoiser and sampler.

With w white noise, a function of member and position, and everything at latent resolution,

    m, a, b = trunk(fold(cond, mu))                        once a window
    z = m + a ⊙ w + Σ_σ b_σ P_σ w                          once a member

with P_σ w the coefficients of the noise smoothed on fine cells (`finescale.latents.smoothed`). z is the whitened latent
of y − mu, as a sampler would return it, so that each coefficient counts by its channel's standard deviation; w has its
channels. Training starts from z = w (m = 0, a = 1, b = 0): coefficients that vary by themselves; the third term lets
those of neighbouring blocks vary together. What is not linear in the noise are the transform and the constraint that
come after it.

Noise that moves makes detail that moves with it (`finescale.diffusion.carried`): amplitudes that vary slowly from band
to band and from block to block, in all three terms, are nearly the same filter wherever blocks lie. Convolutions of
the noise that are learned, in a head or in place of P_σ, are not, and have detail come and go in places of their own.

All is trained together on a proper score of a few members of each crop (`finescale.model.energy`): the score is
smallest where members and data have one distribution, so that spread and texture are what is learned, and nothing is
left to be corrected by further steps.

Sources: AIFS-CRPS (Lang et al. 2024) and FGN (Alet et al. 2025) for forecasts, EnScale (arXiv 2509.26258) for
downscaling. That the condition is seen once and members share it, noise in the latent's own channels, and a latent that
is decoded and constrained inside the score, is ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.backbones.layers import ChannelNorm, ResidualBlock
from finescale.latents.base import LatentSpace
from finescale.latents.smoothed import MOST, Smoothing
from finescale.model.energy import Score
from finescale.ranges import Repeats, Size, Width


class Generator(nn.Module):
    """z = m + a ⊙ w + Σ_σ b_σ P_σ w, with m, a, b = trunk(told).

    Args:
        trunk: a backbone on conditioning fields (B, Kc, T', H', W') at latent resolution, with ``features`` channels.
        features: channels of the trunk's result (derived).
        latent: whose K channels z, and the noise, have (derived).
        width: channels that m, a and b are made of.
        blocks: residual blocks of these, two 3 × 3 convolutions each.
        members: drawn of each crop in training, 2 at least.
        smooth: σ of the Gaussians, in fine cells; there are none where the latent's transform is fitted to data, or has
            more than 1000 channels.
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
        smooth: tuple[Width, ...] = (2.0, 4.0, 8.0),
        score: Score | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.members, self.score = trunk, max(2, members), score or Score()
        # Known from the latent, so that they are no part of the weights.
        stds = smooth if latent.fixed and latent.channels <= MOST else ()
        self.smooth = nn.ModuleList(Smoothing(latent, std) for std in stds)
        self.sizes = [latent.channels, latent.channels, len(self.smooth)]
        self.told = nn.Conv2d(features, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, width, 0) for _ in range(blocks))
        # Amplitudes are bounded where features are beyond what training has seen.
        self.norm = ChannelNorm(width)
        self.centre = nn.Conv2d(width, latent.channels, 3, padding=1)
        self.amplitudes = nn.Conv2d(width, latent.channels + len(self.smooth), 1)
        with torch.no_grad():
            self.amplitudes.weight.zero_()
            self.amplitudes.bias.fill_(0.0)[: latent.channels] = 1.0  # type: ignore[union-attr]

    def trunk(self, told: Tensor, scalars: Tensor | None = None) -> Tensor:
        """What all members of a window share, m, a and b: (B, 2 K + G, T', H', W'), with G Gaussians.

        Args:
            told: (B, Kc, T', H', W') conditioning fields and mean, folded.
            scalars: (B, S) features of the factor, where the model serves several.
        """
        features = self.backbone(told, scalars)
        x = self.told(_frames(features))
        for block in self.blocks:
            x = block(x, None)
        x = F.silu(self.norm(x))
        return _framed(torch.cat([self.centre(x), self.amplitudes(x)], 1), features.shape[2])

    def head(self, shared: Tensor, noise: Tensor) -> Tensor:
        """Members z (B, M, K, T', H', W') of what windows share (B, 2 K + G, …) and noise (B, M, K, …)."""
        members, frames = noise.shape[1], noise.shape[3]
        # Not repeated for each member: sums and products broadcast.
        m, a, b = (x.unflatten(0, (-1, 1, frames)) for x in _frames(shared).split(self.sizes, 1))
        w = _frames(noise.flatten(0, 1)).to(shared.dtype)
        z = (m + a * w.unflatten(0, (-1, members, frames))).flatten(0, 2)
        for n, smooth in enumerate(self.smooth):
            apart = b[..., n : n + 1, :, :] * smooth(w).unflatten(0, (-1, members, frames))
            z = z.index_add(1, smooth.channels, apart.flatten(0, 2).to(z.dtype))
        return _framed(z, frames).float().unflatten(0, (-1, members))

    def forward(self, told: Tensor, noise: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Members z (B, M, K, T', H', W') of conditions (B, Kc, T', H', W') and noise (B, M, K, T', H', W')."""
        return self.head(self.trunk(told, scalars), noise)


def _frames(x: Tensor) -> Tensor:
    """(N, C, T, H, W) -> (N·T, C, H, W), channels last."""
    return x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)


def _framed(x: Tensor, frames: int) -> Tensor:
    """The inverse of `_frames`."""
    return x.unflatten(0, (-1, frames)).transpose(1, 2)
