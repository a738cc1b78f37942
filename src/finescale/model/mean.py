"""The conditional mean: what is predictable of the fine field, before the diffusion model adds what is not.

Ŷ = C + R (Defez et al. 2026, arXiv 2604.21903): C = E[fine | coarse] from a deterministic model, R a sample of the
residual. All in the transform's space.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d

from finescale.grids.factor import Factor
from finescale.latents.base import depth_to_space, space_to_depth

Fold = Annotated[int, Field(ge=1, le=64)]


class MeanModel(nn.Module):
    """C(cond): conditioning fields (B, Kc, T, H, W) -> (B, C, T, H, W).

    The first C conditioning fields are the interpolated coarse fields.

    Args:
        channels: C.

    Attributes:
        stride: fine cells a side that fields must be multiples of.
        trainable: whether there is something to train.
        conserving: whether C goes through the model's constraint, in training and in sampling, before the residual is
            taken (Defez et al.); elsewhere only C + R does.
    """

    stride = 1
    trainable = False
    conserving = False

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, cond: Tensor, scalars: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def distance(self, prediction: Tensor, fine: Tensor, weight: Tensor, count: Tensor) -> Tensor:
        """Mean squared error in the transform's space, whose minimiser is the conditional mean.

        Args:
            prediction: (B, C, T, H, W).
            fine: (B, C, T, H, W), wanted.
            weight: (B, 1, T, H, W), 0 where it is unknown.
            count: cells that the sum is divided by.
        """
        return ((prediction - fine).square() * weight).sum() / (count * self.channels)


class Zero(MeanModel):
    """C = 0: the diffusion model makes the whole field (plain conditional EDM)."""

    def forward(self, cond: Tensor, scalars: Tensor | None = None) -> Tensor:
        return torch.zeros_like(cond[:, : self.channels])


class Interpolation(MeanModel):
    """C = the interpolated coarse field."""

    def forward(self, cond: Tensor, scalars: Tensor | None = None) -> Tensor:
        return cond[:, : self.channels]


class Learned(MeanModel):
    """C = interpolation + what a network learns; or, without ``skip``, the network's output alone.

    Args:
        backbone: the network.
        channels: C.
        loss: mse, for the conditional mean; or mae, for the median.
        conserve: put C through the model's constraint.
        skip: add the interpolation.
    """

    trainable = True

    def __init__(
        self,
        backbone: nn.Module,
        channels: int = 1,
        loss: Literal["mse", "mae"] = "mse",
        conserve: bool = False,
        skip: bool = True,
    ) -> None:
        super().__init__(channels)
        self.backbone, self.kind, self.conserving, self.skip = backbone, loss, conserve, skip

    def added(self, cond: Tensor, made: Tensor) -> Tensor:
        """C of what the network made: the sum with the interpolation, or the network's output as it is."""
        return cond[:, : self.channels] + made if self.skip else made

    def distance(self, prediction: Tensor, fine: Tensor, weight: Tensor, count: Tensor) -> Tensor:
        """Mean squared or mean absolute error in the transform's space, arguments as in `MeanModel.distance`."""
        if self.kind == "mse":
            return super().distance(prediction, fine, weight, count)
        return ((prediction - fine).abs() * weight).sum() / (count * self.channels)


class Network(Learned):
    """C = interpolation + network(cond), on the fine grid.

    Args:
        backbone: network on `fold` × `fold` cells folded into channels.
        channels: C.
        fold: cells a side folded into channels; 4 makes the network 16 times cheaper a channel.
        interval: fold the frames of a coarse one into channels too, so that the network attends over L coarse frames
            (Defez et al.) and not over all fine ones.
        loss: mse or mae.
        conserve: put C through the model's constraint.
        skip: add the interpolation.
        factor: between coarse and fine.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: int = 1,
        fold: Fold = 4,
        interval: bool = False,
        loss: Literal["mse", "mae"] = "mse",
        conserve: bool = False,
        skip: bool = True,
        factor: Factor | None = None,
    ) -> None:
        super().__init__(backbone, channels, loss, conserve, skip)
        self.fold = (factor.time if interval and factor is not None else 1, fold, fold)
        self.stride = fold * int(getattr(backbone, "stride", 1))

    def forward(self, cond: Tensor, scalars: Tensor | None = None) -> Tensor:
        correction = self.backbone(space_to_depth(cond, self.fold), scalars).float()
        return self.added(cond, depth_to_space(correction, self.fold))


class Upsampling(Learned):
    """C = interpolation + network(coarse cond), for networks that work on the coarse grid and refine at their end.

    The conditioning fields are averaged over coarse cells in space: of the replicated field and the mask that leaves
    the coarse ones; the interpolated one says where in its coarse interval a fine frame lies.

    Args:
        backbone: network from (B, Kc, T, h, w) to (B, C, T, fy·h, fx·w).
        factor: its factor; that in time does not matter.
        channels: C.
        loss: mse or mae.
        conserve: put C through the model's constraint.
        skip: add the interpolation.
    """

    def __init__(
        self,
        backbone: nn.Module,
        factor: Factor,
        channels: int = 1,
        loss: Literal["mse", "mae"] = "mse",
        conserve: bool = False,
        skip: bool = True,
    ) -> None:
        super().__init__(backbone, channels, loss, conserve, skip)
        self.block = (1, factor.y, factor.x)
        self.stride = math.lcm(factor.y, factor.x) * int(getattr(backbone, "stride", 1))

    def forward(self, cond: Tensor, scalars: Tensor | None = None) -> Tensor:
        correction = self.backbone(avg_pool3d(cond, self.block)).float()
        return self.added(cond, correction)
