"""Another transform for every variable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from finescale.transforms.base import Transform


class PerVariable(Transform):
    """y_v = f_v(x_v) for variables v along the channel axis: (..., V, T, H, W).

    Args:
        parts: a transform for each variable.
    """

    def __init__(self, parts: Sequence[Transform]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.linear = all(part.linear for part in parts)

    def fit(self, batches: Iterable[Tensor]) -> None:
        fields = list(batches)
        for channel, part in enumerate(self.parts):
            assert isinstance(part, Transform)
            part.fit([x.narrow(-4, channel, 1) for x in fields])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(one) for part, one in zip(self.parts, x.split(1, -4), strict=True)], -4)

    def inverse(self, y: Tensor) -> Tensor:
        sides = zip(self.parts, y.split(1, -4), strict=True)
        return torch.cat([part.inverse(one) for part, one in sides], -4)  # type: ignore[operator]
