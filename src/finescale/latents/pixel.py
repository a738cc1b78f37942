"""The identity latent: diffusion on the fine cells themselves."""

from __future__ import annotations

from torch import Tensor

from finescale.latents.base import LinearLatentSpace


class Pixel(LinearLatentSpace):
    """S = identity; only whitening. K = C, stride (1, 1, 1).

    Args:
        channels: C, channels of the field.
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__(channels, (1, 1, 1))

    def analysis(self, x: Tensor) -> Tensor:
        return x

    def synthesis(self, c: Tensor) -> Tensor:
        return c

    def synthesis_squared(self, variance: Tensor) -> Tensor:
        return variance
