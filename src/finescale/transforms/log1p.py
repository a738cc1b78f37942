"""Logarithm of non-negative amounts."""

from __future__ import annotations

import torch
from torch import Tensor

from finescale.operators.cut import cut
from finescale.ranges import NotNegative, Positive
from finescale.transforms.base import Transform


class Log1p(Transform):
    """y = ln(1 + x/scale), for amounts such as rain whose values span orders of magnitude.

    Args:
        scale: the amount, in the variable's units, below which the map is nearly linear (> 0).
        threshold: the inverse gives exactly zero below this amount, in the variable's units. Networks leave tiny
            positive rain in dry cells; cutting it before the conserving rescale repairs rank histograms and CRPS.
    """

    def __init__(self, scale: Positive = 0.1, threshold: NotNegative = 0.0) -> None:
        super().__init__()
        if scale <= 0 or threshold < 0:
            raise ValueError(f"log1p needs scale > 0 and threshold >= 0, not {scale} and {threshold}")
        self.scale = scale
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        return torch.log1p(x.clamp_min(0) / self.scale)

    def inverse(self, y: Tensor) -> Tensor:
        # exp overflows float32 past 88; 60 is still 1e25 times the scale.
        return cut(self.scale * torch.expm1(y.clamp_max(60)), self.threshold)
