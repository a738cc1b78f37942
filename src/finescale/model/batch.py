"""What a training step is given."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Crops of one factor.

    Attributes:
        fine: (B, 1, T, H, W); NaN where unknown.
        coarse: (B, 1, t, h, w), its block means.
        area: (B, H, W) cell areas.
        static: (B, S, H, W) static fields, where there are any.
    """

    fine: Tensor
    coarse: Tensor
    area: Tensor
    static: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same crops on a device."""
        static = None if self.static is None else self.static.to(device)
        return Batch(self.fine.to(device), self.coarse.to(device), self.area.to(device), static)
