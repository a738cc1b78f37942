"""From the bounds of a variable to those of a tanh."""

from __future__ import annotations

from torch import Tensor

from finescale.ranges import Finite
from finescale.transforms.base import Transform


class Bounds(Transform):
    """y = 2 (x − low)/(high − low) − 1, so that [low, high] becomes [−1, 1]; values beyond go beyond.

    For a network that ends in a tanh and makes the whole field (Geiss & Hardin 2023, AIES 2(1)).

    Args:
        low: lower bound, in the variable's units.
        high: upper bound.

    Raises:
        ValueError: unless low < high.
    """

    linear = True

    def __init__(self, low: Finite = 0.0, high: Finite = 1.0) -> None:
        super().__init__()
        if not low < high:
            raise ValueError(f"bounds needs low < high, not {low} and {high}")
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return 2 * (x - self.low) / (self.high - self.low) - 1

    def inverse(self, y: Tensor) -> Tensor:
        return (y + 1) * ((self.high - self.low) / 2) + self.low
