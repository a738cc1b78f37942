"""Space–time U-Net.

Residual blocks of 3 × 3 convolutions in space, attention along time at every position and level; time is never pooled.
Every operation is local in space and anchored to multiples of `UNet.stride`, so a window with a wide enough halo
gives the values of the whole domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from finescale.backbones.layers import (
    ChannelNorm,
    FeedForward,
    ResidualBlock,
    TemporalAttention,
    TemporalConvolution,
    WindowAttention,
    zero,
)
from finescale.ranges import Multiple, Optional, Repeats, Size


class UNet(nn.Module):
    """U-Net F(z, embedding, cond) -> (B, out, T, H, W).

    Args:
        channels: input channels of z and cond together (derived).
        out_channels: channels of the result (derived).
        embedding: features of the embedding, 0 for none (derived).
        width: channels of the finest level.
        multipliers: channels of each level as multiples of width; one entry a level, each level halves the resolution.
        blocks: residual blocks a level on the way down; one more on the way up.
        attention: attend along time after every level's blocks on the way down.
        heads: heads of that attention; 0 for one in 32 channels.
        feedforward: hidden features, as a multiple of the channels, of a feed-forward layer after that attention; 0 for
            none.
        window: cells a side of local windows of attention in space, on the coarsest level; 0 for none.
        convolution: convolve along time after every level's blocks, on the way down and up.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        embedding: int = 0,
        width: Size = 64,
        multipliers: Annotated[tuple[Multiple, ...], Field(min_length=1, max_length=8)] = (1, 2, 2),
        blocks: Repeats = 2,
        attention: bool = True,
        heads: Optional = 0,
        feedforward: Optional = 0,
        window: Optional = 0,
        convolution: bool = False,
    ) -> None:
        super().__init__()
        step = 2 * max(heads, 4)
        widths = [max(step, round(width * m / step) * step) for m in multipliers]
        features = 4 * width if embedding else 0
        self.embed = (
            nn.Sequential(nn.Linear(embedding, features), nn.SiLU(), nn.Linear(features, features), nn.SiLU())
            if embedding
            else None
        )
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, wide in enumerate(widths):
            before = widths[max(level - 1, 0)]
            mixers: list[nn.Module] = [TemporalConvolution(wide)] if convolution else []
            mixers += [TemporalAttention(wide, heads)] if attention else []
            mixers += [FeedForward(wide, feedforward)] if attention and feedforward else []
            mixers += [WindowAttention(wide, window, heads)] if window and level == len(widths) - 1 else []
            self.down.append(Level([before, *[wide] * (blocks - 1)], wide, features, mixers))
        for level in reversed(range(len(widths) - 1)):
            wide = widths[level]
            mixers = [TemporalConvolution(wide)] if convolution else []
            self.up.append(Level([widths[level + 1] + wide, *[wide] * blocks], wide, features, mixers))
        self.norm = ChannelNorm(widths[0])
        self.head = zero(nn.Conv2d(widths[0], out_channels, 3, padding=1))
        self.levels, self.blocks, self.window = len(widths), blocks, window

    @property
    def stride(self) -> int:
        """Windows must start at, and measure, multiples of this many cells."""
        return int(2 ** (self.levels - 1)) * max(1, self.window)

    @property
    def reach(self) -> int:
        """Receptive radius in cells: how far an input can change the output, rounded up to the stride."""
        down = sum(2 * self.blocks * 2**level for level in range(self.levels))
        up = sum(2 * (self.blocks + 1) * 2**level for level in range(self.levels - 1))
        # A window of attention may hold a cell at one end and its influence at the other.
        return -(-(2 + down + up + 2 * self.stride) // self.stride) * self.stride

    def forward(self, z: Tensor, embedding: Tensor | None = None, cond: Tensor | None = None) -> Tensor:
        """z (B, K, T, H, W), embedding (B, E), cond (B, Kc, T, H, W); H and W multiples of `stride`."""
        x = z if cond is None else torch.cat([z, cond], dim=1)
        b, k, frames, height, width = x.shape
        x = x.transpose(1, 2).reshape(b * frames, k, height, width).contiguous(memory_format=torch.channels_last)
        features = None
        if self.embed is not None and embedding is not None:
            features = self.embed(embedding).repeat_interleave(frames, dim=0)
        x = self.stem(x)
        kept: list[Tensor] = []
        for depth, level in enumerate(self.down):
            x = level(F.avg_pool2d(x, 2) if depth else x, features, frames)
            kept.append(x)
        kept.pop()
        for level in self.up:
            x = level(
                torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), kept.pop()], dim=1), features, frames
            )
        x = self.head(F.silu(self.norm(x)))
        return x.reshape(b, frames, -1, height, width).transpose(1, 2)


class Level(nn.Module):
    """Residual blocks, then what mixes positions: attention."""

    def __init__(self, channels_in: list[int], channels: int, embedding: int, mixers: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(c, channels, embedding) for c in channels_in)
        self.mixers = nn.ModuleList(mixers)

    def forward(self, x: Tensor, embedding: Tensor | None, frames: int) -> Tensor:
        for block in self.blocks:
            x = block(x, embedding)
        for mixer in self.mixers:
            x = mixer(x, frames) if isinstance(mixer, TemporalAttention | TemporalConvolution) else mixer(x)
        return x
