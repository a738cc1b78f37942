"""What the seven CNN schemes share: frames, upsampling by any whole factor, first weights.

Geiss & Hardin (2023, AIES 2(1)) put their strict layer on seven super-resolution networks at factor 4, and set filters,
depths and activations; so do our defaults. Three things differ, and in all seven alike:

- Any factor (fy, fx). Where they double the resolution twice, the factor is taken apart into primes, smallest first:
  10 × 6 is a step of 2 × 2 and one of 5 × 3. An axis that has run out of primes has 1.
- The result is the correction of an interpolation that is added outside (``mean.skip: false`` leaves it out), and the
  last convolution starts at zero: at the start the model is the interpolation. Only one layer is zero, so a gradient
  reaches it at once, and the others from the second step on.
- The last activation is linear, as a transform's space has no bounds. Theirs is a tanh (``activation: tanh``) for
  fields scaled to [−1, 1] (transform ``bounds``), which bounds the field where the interpolation is left out, elsewhere
  the correction alone.

Frames are items of a batch: these networks know nothing of time, nor of a noise level. All are local: zeros continue
the window and nothing is normalised over it, so with a halo of `Scheme.reach` input cells a window gives the values of
the whole domain.
"""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import ClassVar, Literal, TypeVar

import torch
from einops import rearrange
from torch import Tensor, nn

from finescale.backbones.layers import zero
from finescale.grids.factor import Factor

L = TypeVar("L", nn.Conv2d, nn.ConvTranspose2d)
Activation = Literal["linear", "tanh"]
Ratio = tuple[int, int]
"""Factors along y and x of one step of upsampling."""


class Scheme(nn.Module):
    """F(z, embedding, cond) -> (B, out, T, H, W), one frame at a time.

    Attributes:
        upsamples: input is on the coarse grid, and `factor` an argument of the constructor: z (B, K, T, h, w) gives
            H = fy·h, W = fx·w. Otherwise input is an interpolated field on the fine grid.
        stride: windows must start at, and measure, multiples of this many input cells.
        reach: receptive radius: how many input cells beyond the one that holds an output cell can change it.

    Args:
        activation: of the result.
    """

    upsamples: ClassVar[bool] = True
    stride: int = 1
    reach: int = 0

    def __init__(self, activation: Activation = "linear") -> None:
        super().__init__()
        self.activation = activation

    def frame(self, x: Tensor) -> Tensor:
        """(N, K, h, w) -> (N, out, H, W) before the last activation."""
        raise NotImplementedError

    def forward(self, z: Tensor, embedding: Tensor | None = None, cond: Tensor | None = None) -> Tensor:
        """z (B, K, T, h, w) and, joined to it, cond (B, Kc, T, h, w); the embedding is not used."""
        x = z if cond is None else torch.cat([z, cond], dim=1)
        b, k, frames, height, width = x.shape
        x = x.transpose(1, 2).reshape(b * frames, k, height, width).contiguous(memory_format=torch.channels_last)
        x = self.frame(x)
        x = x.tanh() if self.activation == "tanh" else x
        return x.reshape(b, frames, *x.shape[1:]).transpose(1, 2)


class Shuffle(nn.Module):
    """(N, C·py·px, h, w) -> (N, C, py·h, px·w): pixel shuffle (Shi et al. 2016) on cells that need not be square.

    Channel (c·py + i)·px + j becomes cell (i, j) of channel c, as in `torch.nn.PixelShuffle`.
    """

    def __init__(self, ratio: Ratio) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(self, x: Tensor) -> Tensor:
        py, px = self.ratio
        return rearrange(x, "n (c py px) h w -> n c (h py) (w px)", py=py, px=px)


class DenseBlock(nn.Module):
    """x -> (x, r₁, ..., r_n) with r_i = relu(conv(x, r₁, ..., r_{i−1})): every layer sees all before it (Huang 2017).

    Attributes:
        channels: of the result, channels_in + layers·growth.

    Args:
        channels_in: channels of x.
        layers: n.
        growth: channels of each r.
    """

    def __init__(self, channels_in: int, layers: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv(channels_in + i * growth, growth) for i in range(layers))
        self.channels = channels_in + layers * growth

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x).relu()], dim=1)
        return x


def ratios(factor: Factor) -> list[Ratio]:
    """Prime factors along y and x, in pairs, the smallest first; at least one."""
    pairs = list(zip_longest(primes(factor.y), primes(factor.x), fillvalue=1))
    return pairs or [(1, 1)]


def primes(n: int) -> list[int]:
    """Prime factors in rising order; none of 1."""
    found, p = [], 2
    while n > 1:
        while n % p == 0:
            found.append(p)
            n //= p
        p += 1
    return found


def conv(
    channels_in: int,
    channels: int,
    kernel: int | tuple[int, int] = 3,
    stride: int | tuple[int, int] = 1,
    padding: int | None = None,
) -> nn.Conv2d:
    """A convolution that a ReLU follows, with He's first weights: no norm keeps the variance through these depths.

    Padding, where it is None, keeps the number of cells.
    """
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    pad = (size[0] // 2, size[1] // 2) if padding is None else padding
    return _start(nn.Conv2d(channels_in, channels, size, stride, pad), 2 / (channels_in * math.prod(size)))


def mix(channels_in: int, channels: int, gain: float = 1.0) -> nn.Conv2d:
    """A 1 × 1 convolution that nothing follows; its first weights multiply the mean square by ``gain``."""
    return _start(nn.Conv2d(channels_in, channels, 1), gain / channels_in)


def last(channels_in: int, channels: int, kernel: int = 3) -> nn.Conv2d:
    """The convolution that makes the result; it starts at zero."""
    return zero(nn.Conv2d(channels_in, channels, kernel, padding=kernel // 2))


def transposed(channels_in: int, channels: int, ratio: Ratio, kernel: tuple[int, int]) -> nn.ConvTranspose2d:
    """(N, Cin, h, w) -> (N, C, py·h, px·w), with He's first weights.

    A transposed convolution of kernel k and stride p makes (n − 1)p + k − 2·pad + extra cells: p·n of them with
    pad = ⌈(k − p)/2⌉ and extra = 2·pad − (k − p), for any p and k ≥ p.
    """
    over = [k - p for k, p in zip(kernel, ratio, strict=True)]
    pad, extra = [-(-n // 2) for n in over], [n % 2 for n in over]
    layer = nn.ConvTranspose2d(
        channels_in, channels, kernel, ratio, padding=(pad[0], pad[1]), output_padding=(extra[0], extra[1])
    )
    # Each output cell sees about k/p weights an axis and input channel.
    return _start(layer, 2 * math.prod(ratio) / (channels_in * math.prod(kernel)))


def seen(beyond: int, ratio: Ratio, pad: int = 0) -> int:
    """Cells beyond a block that output ``beyond`` it sees on the grid below: ⌊(beyond + p + pad − 1)/p⌋.

    The formula of `transposed`; a pixel shuffle has pad 0.
    """
    return max((beyond + p + pad - 1) // p for p in ratio)


def _start(layer: L, variance: float) -> L:
    nn.init.normal_(layer.weight, std=math.sqrt(variance))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
