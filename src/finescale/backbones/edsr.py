"""EDRN: the enhanced deep residual network (Lim et al. 2017, EDSR) in the size of Geiss & Hardin (2023)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from finescale.backbones.scheme import Activation, Scheme, Shuffle, conv, last, ratios, seen
from finescale.grids.factor import Factor
from finescale.ranges import NotNegative, Repeats, Size


class EDSR(Scheme):
    """Residual blocks x + s·conv(relu(conv(x))) on the coarse grid, then a pixel shuffle a step.

    A step is relu(conv) to width/2 channels of every finer cell, and the shuffle.

    Args:
        channels: input channels (derived).
        out_channels: channels of the result (derived).
        factor: fine cells in a coarse one (derived).
        width: filters of the blocks, even.
        blocks: residual blocks.
        scale: s, which keeps a deep sum of blocks tame.
        activation: of the result.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        factor: Factor,
        width: Annotated[Size, Field(multiple_of=2)] = 128,
        blocks: Repeats = 16,
        scale: NotNegative = 0.1,
        activation: Activation = "linear",
    ) -> None:
        super().__init__(activation)
        self.scale = scale
        self.stem = conv(channels, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(width, width), nn.ReLU(), conv(width, width)) for _ in range(blocks)
        )
        self.up, fine, before = nn.Sequential(), width // 2, width
        self.reach = 1
        for ratio in ratios(factor):
            self.up.extend([conv(before, fine * ratio[0] * ratio[1]), nn.ReLU(), Shuffle(ratio)])
            before = fine
        self.head = last(fine, out_channels)
        for ratio in reversed(ratios(factor)):
            self.reach = seen(self.reach, ratio) + 1
        self.reach += 2 * blocks + 1

    def frame(self, x: Tensor) -> Tensor:
        start = x = self.stem(x).relu()
        for block in self.blocks:
            x = x + self.scale * block(x)
        y: Tensor = self.head(self.up(start + x))
        return y
