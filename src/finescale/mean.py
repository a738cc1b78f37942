"""The conditional mean: what is predictable of the fine field, before the diffusion model adds what is not.

Ŷ = C + R (Defez et al. 2026, arXiv 2604.21903): C = E[fine | coarse] from a deterministic model, R a sample of the
residual. All in the transform's space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


class MeanModel(nn.Module):
    """C(cond): conditioning fields (B, Kc, T, H, W) -> (B, C, T, H, W).

    The first C conditioning fields are the interpolated coarse fields.

    Args:
        channels: C.
    """

    stride = 1
    trainable = False

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, cond: Tensor, scalars: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def loss(self, cond: Tensor, fine: Tensor, weight: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Mean squared error in the transform's space, whose minimiser is the conditional mean.

        Args:
            cond: (B, Kc, T, H, W).
            fine: (B, C, T, H, W), wanted.
            weight: (B, 1, T, H, W), 0 where it is unknown.
            scalars: (B, S) features of the factor, where the model serves several.
        """
        error: Tensor = (self(cond, scalars) - fine).square() * weight
        return error.sum() / (weight.sum() * self.channels).clamp_min(1)


class Zero(MeanModel):
    """C = 0: the diffusion model makes the whole field (plain conditional EDM)."""

    def forward(self, cond: Tensor, scalars: Tensor | None = None) -> Tensor:
        return torch.zeros_like(cond[:, : self.channels])


class Interpolation(MeanModel):
    """C = the interpolated coarse field."""

    def forward(self, cond: Tensor, scalars: Tensor | None = None) -> Tensor:
        return cond[:, : self.channels]


class Network(MeanModel):
    """C = interpolation + network(cond), trained with squared error.

    Args:
        backbone: network on `fold` × `fold` cells folded into channels.
        channels: C.
        fold: cells a side folded into channels; 4 makes the network 16 times cheaper a channel.
    """

    trainable = True

    def __init__(self, backbone: nn.Module, channels: int = 1, fold: int = 4) -> None:
        super().__init__(channels)
        self.backbone = backbone
        self.fold = fold
        self.stride = fold * int(getattr(backbone, "stride", 1))

    def forward(self, cond: Tensor, scalars: Tensor | None = None) -> Tensor:
        folded = pixel_unshuffle(cond.transpose(1, 2), self.fold).transpose(1, 2)
        correction = self.backbone(folded, scalars).float()
        return cond[:, : self.channels] + pixel_shuffle(correction.transpose(1, 2), self.fold).transpose(1, 2)
