"""Zero mean and unit variance, channel by channel."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from finescale.errors import InputError
from finescale.transforms.base import Transform


class Standardize(Transform):
    """y = (x − mean)/std with one mean and std a channel, over all valid training cells.

    Args:
        channels: C.
    """

    linear = True
    mean: Tensor
    std: Tensor

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1, 1))

    def fit(self, batches: Iterable[Tensor]) -> None:
        fields = torch.cat([x.double().flatten(-3).transpose(-1, -2).reshape(-1, x.shape[-4]) for x in batches])
        for channel in range(fields.shape[1]):
            values = fields[:, channel]
            values = values[~values.isnan()]
            if values.numel() < 2:
                raise InputError("the training crops have no known cell to take statistics from")
            self.mean[channel] = values.mean()
            self.std[channel] = values.std().clamp_min(1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def inverse(self, y: Tensor) -> Tensor:
        return y * self.std + self.mean
