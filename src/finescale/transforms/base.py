"""Transforms take physical units to the space in which networks work, and back."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


class Transform(nn.Module):
    """An elementwise, increasing map of fields (..., C, T, H, W); what it learns is kept in buffers.

    Attributes:
        linear: whether the map is affine in each channel, so that a variance goes through it exactly and block means
            commute with it.
    """

    linear = False

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Learn statistics from training fields in this transform's input space; NaN cells do not count."""

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def inverse(self, y: Tensor) -> Tensor:
        raise NotImplementedError


class Chain(Transform):
    """Transforms one after another; `fit` fits each on the output of those before it."""

    def __init__(self, *parts: Transform) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.linear = all(part.linear for part in parts)

    def fit(self, batches: Iterable[Tensor]) -> None:
        fields = list(batches)
        for part in self.parts:
            assert isinstance(part, Transform)
            part.fit(fields)
            fields = [part(x) for x in fields]

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x

    def inverse(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            assert isinstance(part, Transform)
            y = part.inverse(y)
        return y
