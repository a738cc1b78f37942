"""Residual dense network (Zhang et al. 2018, RDN) in the size of Geiss & Hardin (2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from finescale.backbones.scheme import Activation, DenseBlock, Scheme, Shuffle, conv, last, mix, seen
from finescale.grids.factor import Factor
from finescale.ranges import Repeats, Size


class RDN(Scheme):
    """Blocks x + mix(dense(x)) on the coarse grid; all blocks' results are fused, then one pixel shuffle.

    Their last features, 64 a coarse cell, are 4 a fine cell at factor 4. At factors where the width is not a
    multiple of fy·fx, or would leave fewer than 4, a 1 × 1 convolution makes as many as are needed.

    Args:
        channels: input channels (derived).
        out_channels: channels of the result (derived).
        factor: fine cells in a coarse one (derived).
        width: features between blocks.
        blocks: residual dense blocks.
        layers: convolutions of a block.
        growth: filters of each of them.
        activation: of the result.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        factor: Factor,
        width: Size = 64,
        blocks: Repeats = 10,
        layers: Repeats = 9,
        growth: Size = 32,
        activation: Activation = "linear",
    ) -> None:
        super().__init__(activation)
        self.stem, self.enter = conv(channels, width), conv(width, width)
        self.blocks = nn.ModuleList(ResidualDenseBlock(width, layers, growth) for _ in range(blocks))
        self.fuse, self.leave = mix((blocks + 1) * width, width), conv(width, width)
        ratio = (factor.y, factor.x)
        cells = factor.y * factor.x
        fine = max(4, round(width / cells))
        self.expand = nn.Identity() if fine * cells == width else mix(width, fine * cells)
        self.shuffle, self.head = Shuffle(ratio), last(fine, out_channels)
        self.reach = seen(1, ratio) + 1 + blocks * layers + 2

    def frame(self, x: Tensor) -> Tensor:
        start = self.stem(x).relu()
        x, found = self.enter(start).relu(), [start]
        for block in self.blocks:
            x = block(x)
            found.append(x)
        x = self.leave(self.fuse(torch.cat(found, dim=1))).relu() + start
        y: Tensor = self.head(self.shuffle(self.expand(x)))
        return y


class ResidualDenseBlock(nn.Module):
    """x + mix(dense(x))."""

    def __init__(self, width: int, layers: int, growth: int) -> None:
        super().__init__()
        self.dense = DenseBlock(width, layers, growth)
        # A full share of every block would double the mean square ten times.
        self.mix = mix(self.dense.channels, width, gain=0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(self.dense(x))
