"""Deep back-projection network (Haris et al. 2018, DBPN) in the size of Geiss & Hardin (2023).

An up-projection goes to the fine grid, comes back, and sends up what was missed; a down-projection is its mirror:

    x = mix(input),    H₁ = ↑x,  H = H₁ + ↑(↓H₁ − x)        L₁ = ↓x,  L = L₁ + ↓(↑L₁ − x)

↑ and ↓ are a transposed and a strided convolution, each with its own weights and a ReLU. For a factor f both have a
kernel of f + 4, a stride of f and a padding of 2: (n − 1)f + f + 4 − 4 = n·f cells up and (n·f + 4 − f − 4)/f + 1 = n
down, for any f. At 2, 4 and 8 these are the original kernels 6, 8 and 12.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from finescale.backbones.scheme import Activation, Ratio, Scheme, conv, last, mix, seen, transposed
from finescale.grids.factor import Factor
from finescale.ranges import Repeats, Size

PAD = 2


class DBPN(Scheme):
    """Up- and down-projections in turn; each takes all that came before on its grid, but the first of each kind.

    Args:
        channels: input channels (derived).
        out_channels: channels of the result (derived).
        factor: fine cells in a coarse one (derived).
        width: features of each projection; the first convolution has 4 times as many.
        blocks: up-projections, at least 2; the result sees all of them.
        activation: of the result.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        factor: Factor,
        width: Size = 64,
        blocks: Annotated[Repeats, Field(ge=2)] = 4,
        activation: Activation = "linear",
    ) -> None:
        super().__init__(activation)
        ratio = (factor.y, factor.x)
        self.stem, self.enter = conv(channels, 4 * width), mix(4 * width, width)
        # Down-projection i sees the i + 1 fine fields so far; the up-projection after it the i + 1 coarse ones.
        self.first = ProjectionUnit(width, width, ratio, up=True)
        self.down = nn.ModuleList(ProjectionUnit((i + 1) * width, width, ratio, up=False) for i in range(blocks - 1))
        self.up = nn.ModuleList(ProjectionUnit((i + 1) * width, width, ratio, up=True) for i in range(blocks - 1))
        self.head = last(blocks * width, out_channels)
        self.reach = max(seen_along(f, blocks) for f in ratio) + 1

    def frame(self, x: Tensor) -> Tensor:
        fine = self.first(self.enter(self.stem(x).relu()))
        coarse: Tensor | None = None
        for down, up in zip(self.down, self.up, strict=True):
            found = down(fine)
            coarse = found if coarse is None else torch.cat([found, coarse], dim=1)
            fine = torch.cat([up(coarse), fine], dim=1)
        y: Tensor = self.head(fine)
        return y


class ProjectionUnit(nn.Module):
    """An up-projection (N, Cin, h, w) -> (N, C, fy·h, fx·w), or the down-projection that is its mirror.

    Args:
        channels_in: channels of the input.
        channels: of the result.
        ratio: (fy, fx).
        up: which of the two.
    """

    def __init__(self, channels_in: int, channels: int, ratio: Ratio, up: bool) -> None:
        super().__init__()
        there, back = (upward, downward) if up else (downward, upward)
        self.mix = mix(channels_in, channels)
        self.there, self.back = there(channels, ratio), back(channels, ratio)
        self.again = there(channels, ratio)
        # What was missed starts as a small correction; at full size each projection would double the fields.
        with torch.no_grad():
            self.again.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(x)
        there = self.there(x).relu()
        missed = self.back(there).relu() - x
        y: Tensor = there + self.again(missed).relu()
        return y


def upward(channels: int, ratio: Ratio) -> nn.ConvTranspose2d:
    """↑."""
    return transposed(channels, channels, ratio, (ratio[0] + 2 * PAD, ratio[1] + 2 * PAD))


def downward(channels: int, ratio: Ratio) -> nn.Conv2d:
    """↓."""
    return conv(channels, channels, (ratio[0] + 2 * PAD, ratio[1] + 2 * PAD), ratio, PAD)


def seen_along(f: int, blocks: int) -> int:
    """Coarse cells beyond a block that fine cells at most one beyond it see, along an axis of factor f."""

    def up(fine: int) -> int:
        return seen(fine, (f, f), PAD)

    def down(coarse: int) -> int:
        return coarse * f + PAD

    beyond = up(down(up(1)))
    for _ in range(blocks - 1):
        beyond = up(down(up(down(up(down(beyond))))))
    return beyond
