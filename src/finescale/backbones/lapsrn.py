"""Laplacian pyramid network (Lai et al. 2017, LapSRN) in the size of Geiss & Hardin (2023).

A level refines by one prime factor: its features come from ten convolutions and a transposed one, and its field is the
upsampled field of the level before plus what the features add,

    f_s = up(convs(f_{s−1})),    r_s = up(r_{s−1}) + mix(f_s),    f_0 = z, r_0 = 0.

In theirs r_0 is the coarse field. Upsampling is linear, so the coarse field's own share of the pyramid is an
interpolation of it; that is added outside, and r is the pyramid of corrections. Its upsampling is learned and starts as
linear interpolation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from finescale.backbones.scheme import Activation, Ratio, Scheme, conv, last, mix, ratios, seen, transposed
from finescale.grids.factor import Factor
from finescale.ranges import Repeats, Size


class LapSRN(Scheme):
    """A level of leaky convolutions a prime factor, from the coarse grid to the fine one.

    Transposed convolutions of features have kernels of p + 2 cells at factor p (theirs: 4 at 2).

    Args:
        channels: input channels (derived).
        out_channels: channels of the result (derived).
        factor: fine cells in a coarse one (derived).
        width: filters of every layer.
        convolutions: of a level.
        activation: of the result, and of what every level adds.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        factor: Factor,
        width: Size = 64,
        convolutions: Repeats = 10,
        activation: Activation = "linear",
    ) -> None:
        super().__init__(activation)
        steps = ratios(factor)
        self.features = nn.ModuleList(
            level(width if i else channels, width, convolutions, ratio) for i, ratio in enumerate(steps)
        )
        self.up = nn.ModuleList(linear(out_channels, ratio) for ratio in steps[1:])
        self.add = nn.ModuleList(mix(width, out_channels) for _ in steps)
        self.head = last(out_channels, out_channels)
        self.reach = 1
        for ratio in reversed(steps):
            self.reach = seen(self.reach, ratio, pad=1) + convolutions

    def frame(self, x: Tensor) -> Tensor:
        field: Tensor | None = None
        for i, (features, add) in enumerate(zip(self.features, self.add, strict=True)):
            x = features(x)
            more = add(x).tanh() if self.activation == "tanh" else add(x)
            field = more if field is None else self.up[i - 1](field) + more
        y: Tensor = self.head(field)
        return y


def level(channels: int, width: int, convolutions: int, ratio: Ratio) -> nn.Sequential:
    """Leaky convolutions, then the transposed one, which nothing follows."""
    layers = nn.Sequential()
    for i in range(convolutions):
        layers.extend([conv(width if i else channels, width), nn.LeakyReLU(0.2)])
    layers.append(transposed(width, width, ratio, (ratio[0] + 2, ratio[1] + 2)))
    return layers


def linear(channels: int, ratio: Ratio) -> nn.ConvTranspose2d:
    """A transposed convolution that starts as linear interpolation of each channel between cells' centres.

    Weight 1 − |d|/p at distance d from the coarse cell's centre, on 2p cells, or 2p − 1 where p is odd.
    """
    hats = []
    for p in ratio:
        size = 2 * p - p % 2
        hats.append(1 - (torch.arange(size) - (size - 1) / 2).abs() / p)
    layer = transposed(channels, channels, ratio, (len(hats[0]), len(hats[1])))
    with torch.no_grad():
        layer.weight.copy_(torch.eye(channels)[:, :, None, None] * hats[0][:, None] * hats[1])
    return layer
