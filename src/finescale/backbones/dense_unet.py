"""Dense U-Net in the size of Geiss & Hardin (2023).

The U-Net works on the coarse grid and below it, and dense blocks after it refine by one prime factor each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.backbones.scheme import Activation, DenseBlock, Ratio, Scheme, conv, last, mix, ratios, seen, transposed
from finescale.grids.factor import Factor
from finescale.ranges import Halvings, Multiple, Repeats, Size


class DenseUNet(Scheme):
    """A U-Net of dense blocks whose levels halve the resolution; then a transposed convolution and a block a step.

    Level l has ⌊width·widening^l⌋ channels (at least 1), step i after the U-Net ⌊width/2^i⌋ (at least 4). Transposed
    convolutions have kernels of p + 2 cells at factor p (theirs: 4 at 2), and a ReLU.

    Args:
        channels: input channels (derived).
        out_channels: channels of the result (derived).
        factor: fine cells in a coarse one (derived).
        width: channels at the coarse resolution.
        depth: how often the resolution is halved; windows measure multiples of 2^depth coarse cells.
        layers: convolutions of a dense block.
        widening: channels of a level as a multiple of those of the level above.
        activation: of the result.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        factor: Factor,
        width: Size = 38,
        depth: Halvings = 4,
        layers: Repeats = 3,
        widening: Multiple = 1.45,
        activation: Activation = "linear",
    ) -> None:
        super().__init__(activation)
        widths = [max(1, int(width * widening**level)) for level in range(depth + 1)]
        self.unet = Level(channels, widths, layers)
        self.up, before, steps = nn.Sequential(), width, ratios(factor)
        for i, ratio in enumerate(steps):
            after = max(4, int(width / 2 ** (i + 1)))
            self.up.extend([Up(before, ratio), NarrowedBlock(before, after, layers)])
            before = after
        self.head = last(before, out_channels)
        self.stride = 2**depth
        beyond = 1
        for ratio in reversed(steps):
            beyond = seen(beyond + layers, ratio, pad=1)
        self.reach = self.unet.reach(beyond)

    def frame(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.up(self.unet(x)))
        return y


class Level(nn.Module):
    """block(x), joined to the next level's result on half the resolution, and back to this level's channels.

    Args:
        channels: of the input.
        widths: channels of this level and of those below.
        layers: convolutions of a dense block.
    """

    def __init__(self, channels: int, widths: list[int], layers: int) -> None:
        super().__init__()
        width, *below = widths
        self.layers, self.enter = layers, NarrowedBlock(channels, width, layers)
        self.below = Level(width, below, layers) if below else None
        if below:
            self.up = Up(below[0], (2, 2))
            self.join, self.leave = conv(width + below[0], width), NarrowedBlock(width, width, layers)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        if self.below is not None:
            deep = self.up(self.below(F.avg_pool2d(x, 2)))
            x = self.leave(self.join(torch.cat([x, deep], dim=1)).relu())
        return x

    def reach(self, beyond: int) -> int:
        """Input cells that output cells at a distance of up to ``beyond`` see."""
        if self.below is None:
            return beyond + self.layers
        here = beyond + self.layers + 1
        # A cell may lie on either side of the cell of the level below that holds it: one more each way.
        deep = 2 * self.below.reach(seen(here, (2, 2), pad=1) + 1) + 1
        return max(here, deep) + self.layers


class NarrowedBlock(nn.Module):
    """A dense block whose layers have as many filters as the 1 × 1 convolution that ends it."""

    def __init__(self, channels_in: int, channels: int, layers: int) -> None:
        super().__init__()
        self.dense = DenseBlock(channels_in, layers, channels)
        self.mix = mix(self.dense.channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mix(self.dense(x))
        return y


class Up(nn.Module):
    """relu of a transposed convolution that keeps the channels."""

    def __init__(self, channels: int, ratio: Ratio) -> None:
        super().__init__()
        self.layer = transposed(channels, channels, ratio, (ratio[0] + 2, ratio[1] + 2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x).relu()
        return y
