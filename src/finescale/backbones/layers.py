"""Layers that backbones share. All are local functions: nothing is normalised over the window.

Fields are (N, C, H, W) with time folded into N, in channels-last memory: a normalisation over channels then reads
contiguous memory.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from finescale.errors import InputError

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

    Queries and keys of frame l are turned by angles l·ω, so that their product depends on the difference of frames
    alone. The turn is linear, so it is applied to the projections: frame l has its own R_l W_q and R_l W_k, and no
    position is touched for it. One frame has nothing to attend to: the layer then is the identity and costs nothing.

    Args:
        channels: C, a multiple of 2·heads.
        heads: number of heads; 0 for one in 32 channels.
    """

    frequencies: Tensor

    def __init__(self, channels: int, heads: int = 0) -> None:
        super().__init__()
        self.heads = heads or max(n for n in range(1, max(1, channels // 32) + 1) if channels % (2 * n) == 0)
        if channels % (2 * self.heads):
            raise InputError(
                f"{channels} channels do not divide into {self.heads} heads of an even number: change heads"
            )
        self.norm = ChannelNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zero(nn.Linear(channels, channels))
        half = channels // self.heads // 2
        # Of plain numbers: arithmetic on tensors without values, which find a model's size, loads torch's compiler.
        self.register_buffer("frequencies", torch.tensor([10000 ** -(k / half) for k in range(half)]), persistent=False)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x: (B·frames, C, H, W)."""
        if frames == 1:
            return x
        n, c, height, width = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(n, height * width, c)
        weight, bias = self.projections(frames)
        times = n // frames
        qkv = torch.baddbmm(bias.repeat(times, 1, 1).to(tokens), tokens, weight.repeat(times, 1, 1).to(tokens))
        qkv = qkv.reshape(times, frames, height * width, 3, self.heads, c // self.heads)
        # Positions and heads together are the heads of one attention: views, no copies.
        q, k, v = (part.flatten(2, 3).transpose(1, 2) for part in qkv.unbind(3))
        mixed = attend(q, k, v).transpose(1, 2).reshape(n, height * width, c)
        return x + self.out(mixed).reshape(n, height, width, c).permute(0, 3, 1, 2)

    def projections(self, frames: int) -> tuple[Tensor, Tensor]:
        """(L, C, 3C) and (L, 1, 3C): the weights and biases of q, k and v in each frame, q scaled by 1/√d."""
        c, size = self.qkv.in_features, self.qkv.in_features // self.heads
        joined = torch.cat([self.qkv.weight, self.qkv.bias[:, None]], 1).reshape(3, self.heads, size, c + 1)
        angle = torch.arange(frames, device=joined.device)[:, None, None, None] * self.frequencies[:, None]
        cos, sin = angle.cos(), angle.sin()
        first, second = joined[:2].unsqueeze(1).chunk(2, dim=3)
        turned = torch.cat([first * cos - second * sin, first * sin + second * cos], dim=3)
        scale = torch.tensor([size**-0.5, 1.0], device=joined.device).reshape(2, 1, 1, 1, 1)
        every = torch.cat([turned * scale, joined[2:].unsqueeze(1).expand(-1, frames, -1, -1, -1)])
        every = every.permute(1, 4, 0, 2, 3).reshape(frames, c + 1, 3 * c)
        return every[:, :c], every[:, c:]


class TemporalConvolution(nn.Module):
    """x + Σ_d W_d silu(norm(x)) of the frames d = −1, 0, 1 away at each position: a convolution along time.

    Frames beyond the first and the last count as zero. Attention has to learn which frames are near; this knows.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.taps = zero(nn.Linear(channels, 3 * channels))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x: (B·frames, C, H, W)."""
        if frames == 1:
            return x
        n, c, height, width = x.shape
        tokens = F.silu(self.norm(x)).permute(0, 2, 3, 1).reshape(n // frames, frames, height * width, c)
        before, mixed, after = self.taps(tokens).chunk(3, dim=-1)
        mixed = mixed.clone()
        mixed[:, 1:] += before[:, :-1]
        mixed[:, :-1] += after[:, 1:]
        return x + mixed.reshape(n, height, width, c).permute(0, 3, 1, 2)


class WindowAttention(nn.Module):
    """x + attention among the cells of windows of size × size, anchored to the field's first cell.

    A learned bias depends on the difference of places. Windows neither shift nor overlap, so a cell sees no further
    than its window (local-window attention of arXiv 2604.21903).

    Args:
        channels: C, divisible by heads.
        size: cells a side of a window; H and W must be multiples of it.
        heads: number of heads; 0 for one in 32 channels.
    """

    place: Tensor

    def __init__(self, channels: int, size: int, heads: int = 0) -> None:
        super().__init__()
        self.size, self.heads = size, heads or max(1, channels // 32)
        if channels % self.heads:
            raise InputError(f"{channels} channels do not divide into {self.heads} heads: change heads")
        self.norm = ChannelNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zero(nn.Linear(channels, channels))
        self.bias = nn.Parameter(torch.zeros(self.heads, (2 * size - 1) ** 2))
        cell = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")).flatten(1)
        apart = cell[:, :, None] - cell[:, None, :] + size - 1
        self.register_buffer("place", apart[0] * (2 * size - 1) + apart[1], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W)."""
        tokens = rearrange(self.norm(x), "n c (h i) (w j) -> (n h w) (i j) c", i=self.size, j=self.size)
        q, k, v = rearrange(self.qkv(tokens), "n cells (qkv heads d) -> qkv n heads cells d", qkv=3, heads=self.heads)
        bias = self.bias[:, self.place].to(q.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(len(q), -1, -1, -1))
        mixed = self.out(rearrange(mixed, "n heads cells d -> n cells (heads d)"))
        height, width = (n // self.size for n in x.shape[-2:])
        mixed = rearrange(mixed, "(n h w) (i j) c -> n (h i) (w j) c", h=height, w=width, i=self.size)
        return x + mixed.permute(0, 3, 1, 2)


class FeedForward(nn.Module):
    """x + W2 gelu(W1 norm(x)) at every position, with ``times`` as many hidden features."""

    def __init__(self, channels: int, times: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.wide, self.back = nn.Linear(channels, times * channels), zero(nn.Linear(times * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W)."""
        tokens = self.norm(x).permute(0, 2, 3, 1)
        return x + self.back(F.gelu(self.wide(tokens))).permute(0, 3, 1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ) v over (..., L, d), q scaled already.

    Plain products on the processor, where a fused kernel trains at half the speed on sequences of a dozen frames.
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return torch.matmul(torch.matmul(q, k.transpose(-1, -2)).softmax(-1), v)


def zero(module: M) -> M:
    """Start a layer at zero, so that its block starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
