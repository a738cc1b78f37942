"""A member in one evaluation: a generator in place of denoiser and sampler.

With w white noise, a function of member and position, and everything at latent resolution,

    h = trunk(fold(cond, mu))          once a window
    z = head(h, w) + a(h) ⊙ w          once a member

z is the whitened latent of y − mu, as a sampler would return it, and w has its channels: what a(h) ⊙ w says, that each
coefficient varies by itself as much as the condition lets it, is where training starts (a = 1) and what the head mends.
Noise that moves then makes detail that moves (`finescale.diffusion.carried`). Trunk and head are trained together on a
proper score of a few members of each crop (`finescale.model.energy`): the score is smallest where members and data have
one distribution, so that spread and texture are what is learned, and nothing is left to be corrected by further steps.

Sources: AIFS-CRPS (Lang et al. 2024) and FGN (Alet et al. 2025) for forecasts, EnScale (arXiv 2509.26258) for
downscaling. That the condition is seen once and members share it, noise in the latent's own channels, and a latent that
is decoded and constrained inside the score, is ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.backbones.layers import ChannelNorm, ResidualBlock
from finescale.model.energy import Score
from finescale.ranges import Repeats, Size


class Generator(nn.Module):
    """z = head(trunk(told), w) + amplitude(trunk(told)) ⊙ w.

    Args:
        trunk: a backbone on conditioning fields (B, Kc, T', H', W') at latent resolution, with ``features`` channels.
        features: channels of the trunk's result (derived).
        channels: K of the latent, and of its noise (derived).
        width: channels of the head.
        blocks: residual blocks of the head, two 3 × 3 convolutions each: members differ in what lies that near.
        members: drawn of each crop in training, 2 at least.
        score: what is minimised.
    """

    def __init__(
        self,
        trunk: nn.Module,
        features: int,
        channels: int,
        width: Size = 64,
        blocks: Repeats = 3,
        members: Size = 2,
        score: Score | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.members, self.score = trunk, max(2, members), score or Score()
        self.told = nn.Conv2d(features, width, 3, padding=1)
        self.drawn = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(ResidualBlock(width, width, 0) for _ in range(blocks))
        self.norm = ChannelNorm(width)
        self.out = nn.Conv2d(width, channels, 3, padding=1)
        self.amplitude = nn.Conv2d(width, channels, 1)
        nn.init.zeros_(self.amplitude.weight)
        nn.init.ones_(self.amplitude.bias)  # type: ignore[arg-type]

    def trunk(self, told: Tensor, scalars: Tensor | None = None) -> Tensor:
        """What all members of a window share, (B, width, T', H', W').

        Args:
            told: (B, Kc, T', H', W') conditioning fields and mean, folded.
            scalars: (B, S) features of the factor, where the model serves several.
        """
        features = self.backbone(told, scalars)
        return _framed(self.told(_frames(features)), features.shape[2])

    def head(self, shared: Tensor, noise: Tensor) -> Tensor:
        """Members z (N, K, T', H', W') of what is shared (N, width, T', H', W') and noise (N, K, T', H', W')."""
        h, w = _frames(shared), _frames(noise).to(shared.dtype)
        x = h + self.drawn(w)
        for block in self.blocks:
            x = block(x, None)
        z = torch.addcmul(self.out(F.silu(self.norm(x))), self.amplitude(h), w)
        return _framed(z, noise.shape[2]).float()

    def forward(self, told: Tensor, noise: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Members z (B, M, K, T', H', W') of conditions (B, Kc, T', H', W') and noise (B, M, K, T', H', W')."""
        members = noise.shape[1]
        shared = self.trunk(told, scalars).repeat_interleave(members, 0)
        return self.head(shared, noise.flatten(0, 1)).unflatten(0, (-1, members))


def _frames(x: Tensor) -> Tensor:
    """(N, C, T, H, W) -> (N·T, C, H, W), channels last."""
    return x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)


def _framed(x: Tensor, frames: int) -> Tensor:
    """The inverse of `_frames`."""
    return x.unflatten(0, (-1, frames)).transpose(1, 2)
