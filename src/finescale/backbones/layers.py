"""Layers that backbones share. All are local functions: nothing is normalised over the window.

Fields are (N, C, H, W) with time folded into N, in channels-last memory: a normalisation over channels then reads
contiguous memory.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        last = x.permute(0, 2, 3, 1)
        norm = F.layer_norm(last, last.shape[-1:], self.weight.to(x.dtype), self.bias.to(x.dtype), 1e-6)
        return norm.permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """x + conv(silu(film(norm(conv(silu(norm(x))))))): two 3 × 3 convolutions, scaled and shifted by the embedding.

    Args:
        channels_in: channels of x.
        channels: channels of the result.
        embedding: size of the embedding; 0 for none.
    """

    def __init__(self, channels_in: int, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * channels) if embedding else None
        self.norm2 = ChannelNorm(channels)
        self.conv2 = zero(nn.Conv2d(channels, channels, 3, padding=1))
        self.skip = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()
        if self.film is not None:
            zero(self.film)

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.film is not None and embedding is not None:
            scale, shift = self.film(embedding).to(h.dtype)[:, :, None, None].chunk(2, dim=1)
            h = torch.addcmul(shift, h, 1 + scale)
        return self.skip(x) + self.conv2(F.silu(h))


class TemporalAttention(nn.Module):
    """x + attention over the frames of each position, with rotary encoding of relative time (Su et al. 2021).

    One frame has nothing to attend to: the layer then is the identity and costs nothing.

    Args:
        channels: C, divisible by 2·heads.
        heads: number of heads.
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zero(nn.Linear(channels, channels))
        half = channels // heads // 2
        self.register_buffer("frequencies", 10000.0 ** -(torch.arange(half) / half), persistent=False)

    frequencies: Tensor

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x: (B·frames, C, H, W)."""
        if frames == 1:
            return x
        n, c, height, width = x.shape
        b = n // frames
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(b, frames, height * width, c).transpose(1, 2)
        qkv = self.qkv(tokens).reshape(b * height * width, frames, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        angle = torch.arange(frames, device=x.device)[:, None] * self.frequencies
        mixed = F.scaled_dot_product_attention(rotate(q, angle), rotate(k, angle), v)
        mixed = self.out(mixed.transpose(1, 2).reshape(b, height * width, frames, c))
        return x + mixed.transpose(1, 2).reshape(n, height, width, c).permute(0, 3, 1, 2)


def rotate(x: Tensor, angle: Tensor) -> Tensor:
    """Rotary encoding: turn each pair of features of x (..., L, 2·half) by angle (L, half)."""
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def zero(module: M) -> M:
    """Start a layer at zero, so that its block starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
