"""A member in one evaluation: a generator in place of denoiser and sampler.

With w white noise, a function of member and position, and everything at latent resolution,

    h, a, b = trunk(fold(cond, mu))                        once a window
    z = head(h + D w) + a ⊙ w + B (b ⊙ D w)                once a member

with convolutions D and B. z is the whitened latent of y − mu, as a sampler would return it, and w has its channels.
Training starts from z = w (a = 1, b = 0): coefficients that vary by themselves. The third term lets those of
neighbouring blocks vary together, and the head does what is not linear in the noise. Noise that moves makes detail that
moves with them (`finescale.diffusion.carried`); a head alone would have it come and go in places of its own.

Trunk and head are trained together on a proper score of a few members of each crop (`finescale.model.energy`): the
score is smallest where members and data have one distribution, so that spread and texture are what is learned, and
nothing is left to be corrected by further steps.

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
    """z = head(h + D w) + a ⊙ w + B (b ⊙ D w), with h, a, b = trunk(told).

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
        self.sizes = [width, channels, width]
        # Amplitudes are bounded where h is beyond what training has seen.
        self.calm = ChannelNorm(width)
        self.amplitudes = nn.Conv2d(width, channels + width, 1)
        self.together = nn.Conv2d(width, channels, 1, bias=False)
        with torch.no_grad():
            self.amplitudes.weight.zero_()
            self.amplitudes.bias.copy_(torch.cat([torch.ones(channels), torch.zeros(width)]))  # type: ignore[union-attr]

    def trunk(self, told: Tensor, scalars: Tensor | None = None) -> Tensor:
        """What all members of a window share, h, a and b: (B, 2 width + K, T', H', W').

        Args:
            told: (B, Kc, T', H', W') conditioning fields and mean, folded.
            scalars: (B, S) features of the factor, where the model serves several.
        """
        features = self.backbone(told, scalars)
        h = self.told(_frames(features))
        return _framed(torch.cat([h, self.amplitudes(F.silu(self.calm(h)))], 1), features.shape[2])

    def head(self, shared: Tensor, noise: Tensor) -> Tensor:
        """Members z (B, M, K, T', H', W') of what windows share (B, 2 width + K, …) and noise (B, M, K, …)."""
        members, frames = noise.shape[1], noise.shape[3]
        # Not repeated for each member: sums and products broadcast.
        h, a, b = (x.unflatten(0, (-1, 1, frames)) for x in _frames(shared).split(self.sizes, 1))
        w = _frames(noise.flatten(0, 1)).to(shared.dtype)
        near = self.drawn(w)
        w, apart = (x.unflatten(0, (-1, members, frames)) for x in (w, near))
        x = (h + apart).flatten(0, 2)
        for block in self.blocks:
            x = block(x, None)
        z = self.out(F.silu(self.norm(x))) + self.together((b * apart).flatten(0, 2)) + (a * w).flatten(0, 2)
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
