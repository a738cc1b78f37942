"""Dense super-resolution network (Tong et al. 2017, SRDenseNet) in the size of Geiss & Hardin (2023)."""

from __future__ import annotations

from torch import Tensor, nn

from finescale.backbones.scheme import Activation, DenseBlock, Scheme, conv, last, mix, ratios, seen, transposed
from finescale.grids.factor import Factor
from finescale.ranges import Repeats, Size


class DenseSR(Scheme):
    """Dense blocks on the coarse grid whose results all pile up, a 1 × 1 bottleneck, a transposed convolution a step.

    Kernels of those measure p + 1 cells at a step of factor p (theirs: 3 at 2), but at least 3.

    Args:
        channels: input channels (derived).
        out_channels: channels of the result (derived).
        factor: fine cells in a coarse one (derived).
        width: filters of the first layer, the bottleneck and the transposed convolutions.
        blocks: dense blocks.
        layers: convolutions of a block.
        growth: filters of each of them.
        activation: of the result.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        factor: Factor,
        width: Size = 256,
        blocks: Repeats = 8,
        layers: Repeats = 6,
        growth: Size = 16,
        activation: Activation = "linear",
    ) -> None:
        super().__init__(activation)
        self.stem = conv(channels, width)
        # As each block passes its input on, the blocks together are one of blocks·layers layers.
        self.dense = DenseBlock(width, blocks * layers, growth)
        self.mix = mix(self.dense.channels, width)
        self.up = nn.Sequential()
        for py, px in ratios(factor):
            self.up.extend([transposed(width, width, (py, px), (max(3, py + 1), max(3, px + 1))), nn.ReLU()])
        self.head = last(width, out_channels)
        self.reach = 1
        for ratio in reversed(ratios(factor)):
            self.reach = seen(self.reach, ratio, pad=1)
        self.reach += blocks * layers + 1

    def frame(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.up(self.mix(self.dense(self.stem(x).relu()))))
        return y
