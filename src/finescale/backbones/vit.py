"""Space–time Vision Transformer on the cells of a latent: one cell, one token (Dosovitskiy et al. 2021).

A token x (C features) of a latent of patch coefficients holds what the patch holds, and its conditions. A block is that
of Peebles & Xie 2023 (DiT, "adaLN-zero"), with e the embedding of the noise level:

    shift₁, scale₁, gate₁, shift₂, scale₂, gate₂ = W silu(e) + b,       W = 0 and b = 0 at first
    x ← x + gate₁ · attention((1 + scale₁) norm(x) + shift₁)
    x ← x + gate₂ · mlp((1 + scale₂) norm(x) + shift₂)

Attention is local in space, among the tokens of a window of w × w tokens in all frames; every second block's windows
are moved by w/2 (Liu et al. 2021, Swin), so that what windows hold spreads. Windows are anchored to multiples of w, and
halved or quartered at the domain's edge where they are moved: no padding, no mask, no cyclic shift. A domain that is
one window wide along an axis is not cut along it. Queries and keys are turned by angles that grow with t, y and x
(rotary encoding, Su et al. 2021), so that their product depends on differences of places alone, and any domain will do.

Ours, where papers of patch diffusion are silent: windows, rotary encoding in three axes, and its shares (a quarter of
the turned pairs for t, the rest for y and x alike).
"""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from finescale.backbones.layers import zero
from finescale.errors import InputError
from finescale.ranges import Optional, Repeats, Size

SLOWEST = 100.0
"""Angles of a step: from 1 down to almost 1/SLOWEST."""
Place = tuple[Tensor, Tensor]


class ViT(nn.Module):
    """Transformer F(z, embedding, cond) -> (B, out, T, H, W).

    With ``window: 0`` tokens do not see each other: a network of a single token, such as the coefficients of a basis
    of the whole domain, is a multilayer perceptron with adaLN. With ``window: 1`` they attend along time alone.

    Args:
        channels: input channels of z and cond together (derived).
        out_channels: channels of the result (derived).
        embedding: features of the embedding, 0 for none: shifts, scales and gates then are learned numbers (derived).
        width: C, features of a token.
        depth: blocks.
        heads: heads of attention; 0 for one in 32 features.
        window: w, tokens a side of a window of attention: 0 for no attention, 1 for time alone, or even.
        mlp: hidden features of the feed-forward layers, as a multiple of C.

    Raises:
        InputError: for a window that is odd, or heads whose features are not an even number, at least 6.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        embedding: int = 0,
        width: Size = 192,
        depth: Repeats = 6,
        heads: Optional = 0,
        window: Optional = 8,
        mlp: Repeats = 4,
    ) -> None:
        super().__init__()
        if window > 1 and window % 2:
            raise InputError(f"backbone.window is {window} tokens, which cannot be halved: take 0, 1 or an even number")
        heads = heads or max(n for n in range(1, max(1, width // 32) + 1) if n == 1 or width % (2 * n) == 0)
        if window and (width % (2 * heads) or width // heads < 6):
            raise InputError(
                f"backbone.heads is {heads}, but a backbone.width of {width} does not divide into {heads} heads of an "
                "even number of features, at least 6: change one of them"
            )
        self.window, self.depth, self.size = window, depth, width // heads
        self.embed = (
            nn.Sequential(nn.Linear(embedding, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
            if embedding
            else None
        )
        features = width if embedding else 0
        self.stem = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, features, heads if window else 0, mlp) for _ in range(depth)
        )
        self.last = Modulation(width, features, 2)
        self.head = zero(nn.Linear(width, out_channels))

    @property
    def stride(self) -> int:
        """Windows must start at, and measure, multiples of this many tokens."""
        return max(1, self.window)

    @property
    def alone(self) -> bool:
        """Whether tokens of a plane do not see each other, by configuration."""
        return self.window == 0

    @property
    def reach(self) -> int:
        """How many tokens away an input can change the output, rounded up to the stride.

        The first block carries it to the end of its window, each later one half a window further.
        """
        seen = self.stride - 1 + (self.depth - 1) * (self.stride // 2)
        return -(-seen // self.stride) * self.stride

    def forward(self, z: Tensor, embedding: Tensor | None = None, cond: Tensor | None = None) -> Tensor:
        """z (B, K, T, H, W), embedding (B, E), cond (B, Kc, T, H, W); H and W multiples of `stride`."""
        x = z if cond is None else torch.cat([z, cond], dim=1)
        x = self.stem(x.movedim(1, -1))
        e = None if self.embed is None or embedding is None else self.embed(embedding)
        # A single token has nothing to attend to.
        place = self.turns(x) if self.window and x.shape[1] * self.window > 1 else None
        for number, block in enumerate(self.blocks):
            moved = number % 2 * (self.window // 2)
            x = block(x, e, place, max(1, self.window), moved)
        shift, scale = self.last(e)
        y: Tensor = self.head(modulated(x, shift, scale))
        return y.movedim(-1, 1)

    def turns(self, x: Tensor) -> Place:
        """cos and sin (T, w, w, 1, d/2) of the angles of the places in a window of tokens x (B, T, H, W, C)."""
        pairs, w = self.size // 2, max(1, self.window)
        space = max(1, 3 * pairs // 8)
        shares = (pairs - 2 * space, space, space)
        axes = [
            torch.arange(n, device=x.device)[:, None] * SLOWEST ** -(torch.arange(share, device=x.device) / share)
            for n, share in zip((x.shape[1], w, w), shares, strict=True)
        ]
        t, y, x_ = axes
        shape = (len(t), w, w)
        angle = torch.cat(
            [
                t[:, None, None].expand(*shape, -1),
                y[None, :, None].expand(*shape, -1),
                x_[None, None, :].expand(*shape, -1),
            ],
            dim=-1,
        ).unsqueeze(-2)
        return angle.cos(), angle.sin()


class TransformerBlock(nn.Module):
    """Attention and a feed-forward layer on tokens (B, T, H, W, C), each shifted, scaled and gated by the embedding.

    Args:
        width: C.
        embedding: features of the embedding; 0 for none.
        heads: heads of attention; 0 for no attention.
        mlp: hidden features as a multiple of C.
    """

    def __init__(self, width: int, embedding: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads) if heads else None
        self.wide, self.back = nn.Linear(width, mlp * width), nn.Linear(mlp * width, width)
        self.modulation = Modulation(width, embedding, 6 if heads else 3)

    def forward(self, x: Tensor, e: Tensor | None, place: Place | None, window: int, moved: int) -> Tensor:
        *first, shift, scale, gate = self.modulation(e)
        if self.attention is not None and place is not None:
            x = x + first[2] * self.attention(modulated(x, first[0], first[1]), place, window, moved)
        return x + gate * self.back(F.gelu(self.wide(modulated(x, shift, scale)), approximate="tanh"))


class Attention(nn.Module):
    """Attention among the tokens of a window in all frames.

    Args:
        width: C.
        heads: number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, place: Place, window: int, moved: int) -> Tensor:
        """Attention of tokens.

        Args:
            x: (B, T, H, W, C).
            place: cos and sin (T, w, w, 1, d/2) of the angles of places.
            window: w.
            moved: tokens by which windows are moved; 0 or w/2.
        """
        _, _, height, width, _ = x.shape
        shifts = tuple(moved if n > window else 0 for n in (height, width))
        # The edge's half windows come together at the far end, where they are cut apart.
        qkv = self.qkv(x.roll((-shifts[0], -shifts[1]), (2, 3)) if any(shifts) else x)
        rows, columns = (cut(n, window, shift) for n, shift in zip((height, width), shifts, strict=True))
        parts = [self.within(qkv[:, :, r, c], place, (h, w)) for (r, h), (c, w) in product(rows, columns)]
        lines = [torch.cat(parts[i : i + len(columns)], 3) for i in range(0, len(parts), len(columns))]
        y: Tensor = self.out(torch.cat(lines, 2))
        return y.roll(shifts, (2, 3)) if any(shifts) else y

    def within(self, qkv: Tensor, place: Place, size: tuple[int, int]) -> Tensor:
        """(B, T, n·h, m·w, 3C) -> (B, T, n·h, m·w, C): attention in each window of h × w tokens."""
        _, frames, height, width, _ = qkv.shape
        h, w = size
        windows = "b t (n h) (m w) (qkv heads d) -> qkv b n m t h w heads d"
        q, k, v = rearrange(qkv, windows, h=h, w=w, qkv=3, heads=self.heads)
        cos, sin = (part[:, :h, :w].to(q.dtype) for part in place)
        q, k, v = (
            rearrange(part, "b n m t h w heads d -> (b n m) heads (t h w) d")
            for part in (turn(q, cos, sin), turn(k, cos, sin), v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        back = "(b n m) heads (t h w) d -> b t (n h) (m w) (heads d)"
        return rearrange(mixed, back, n=height // h, m=width // w, t=frames, h=h, w=w)


class Modulation(nn.Module):
    """``parts`` shifts, scales and gates (B or 1, 1, 1, 1, C) from the embedding, or learned where there is none."""

    def __init__(self, width: int, embedding: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = zero(nn.Linear(embedding, parts * width)) if embedding else None
        self.constant = None if embedding else nn.Parameter(torch.zeros(1, parts * width))

    def forward(self, e: Tensor | None) -> tuple[Tensor, ...]:
        values = self.constant if self.linear is None or e is None else self.linear(e)
        assert values is not None
        return values[:, None, None, None].chunk(self.parts, dim=-1)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(1 + scale) norm(x) + shift, the norm over each token's features."""
    return torch.addcmul(shift.to(x.dtype), F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale.to(x.dtype))


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + d/2) of features (..., d) by angles whose cos and sin are (..., d/2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def cut(n: int, window: int, moved: int) -> list[tuple[slice, int]]:
    """Stretches of n cells, and the size of the windows in each: all whole, or the last one made of two halves."""
    if not moved:
        return [(slice(n), window)]
    return [(slice(n - window), window), (slice(n - window, n), moved)]
