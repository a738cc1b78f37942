"""The identity latent: diffusion on the fine cells themselves."""

from __future__ import annotations

from torch import Tensor

from finescale.grids.factor import Factor
from finescale.latents.base import LinearLatentSpace, depth_to_space, space_to_depth


class Pixel(LinearLatentSpace):
    """S = identity; only whitening. K = C, stride (1, 1, 1).

    Args:
        channels: C, channels of the field.
        interval: take the ft frames of a coarse one as channels, K = ft·C, so that networks attend over coarse frames
            (arXiv 2604.21903) and not over all fine ones.
        factor: between coarse and fine.
    """

    def __init__(self, channels: int = 1, interval: bool = False, factor: Factor | None = None) -> None:
        frames = factor.time if interval and factor is not None else 1
        super().__init__(frames * channels, (frames, 1, 1))

    def analysis(self, x: Tensor) -> Tensor:
        return space_to_depth(x, self.stride)

    def synthesis(self, c: Tensor) -> Tensor:
        return depth_to_space(c, self.stride)

    def synthesis_squared(self, variance: Tensor) -> Tensor:
        return depth_to_space(variance, self.stride)
