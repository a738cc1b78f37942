"""What varies between members of a generator: their noise, through filters whose strengths it is told place by place.

Of a latent that is an orthonormal transform of cells, S, white noise w is the white noise n = S⁻¹ w on fine cells. With
G_0 ∗ n = n, and G_j even filters on fine cells scaled so that G_j ∗ n has unit variance, `Filtered` is

    Σ_j b_j P_j w / D,      P_j = S G_j S⁻¹

with an amplitude b_j for every filter, variable and latent cell, and D what a whitened latent is multiplied by when it
is decoded, in units of its root mean square. So the decoded field has Σ_j b_j G_j ∗ n: noise with a filter that is
alike at all places of a block, and nearly from block to block. No block leaves its borders in it, and where noise moves
detail moves along.

The filters are Gaussians of σ_j fine cells, and Gaussians of σ_k that are longer than wide
(`finescale.operators.gaussians`): the mean of all directions, with one amplitude, and what makes one of them,
d_c G_c + d_s G_s, with another. The direction is the noise's own (`finescale.latents.directions`). So members have
lines, each in other places, where noise of one filter is alike in all directions: the lines of radar, whose places and
directions a coarse field does not tell.

Coefficients that vary by themselves, a ⊙ w with amplitudes for every channel, are blocks that vary by themselves: steps
across their borders are wider than within by a tenth, of smooth fields by more. So are those of P_j w where D
multiplies it, since what cancels at a border no longer does.

P_j w is made of the few coefficients that smooth fields have (`finescale.latents.smoothed`).

Of other latents, whose basis is fitted to data, `Scaled` is a ⊙ w.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from finescale.latents.base import LatentSpace
from finescale.latents.directions import Directions
from finescale.latents.smoothed import MOST, Leading, Smoothing
from finescale.operators.gaussians import gaussian, steerable


class Scaled(nn.Module):
    """a ⊙ w.

    Args:
        latent: whose K channels the noise has.
    """

    def __init__(self, latent: LatentSpace) -> None:
        super().__init__()
        self.amplitudes, self.start = latent.channels, 1.0

    def forward(self, amplitudes: Tensor, w: Tensor, scale: Tensor) -> Tensor:
        """As in `Filtered`."""
        return amplitudes[:, None] * w


class Filtered(nn.Module):
    """Σ_j b_j P_j w / D.

    Args:
        latent: an orthonormal transform of cells that needs no data.
        smooth: σ_j of the Gaussians, in fine cells.
        oriented: σ_k of those that are longer than wide.

    Attributes:
        amplitudes: how many there are for a latent cell: as many as filters times variables, filter by filter: of white
            noise, of Gaussians, of the means of oriented ones, and of their directions.
        start: what they are at first, all of them.
        variable: (K,), whose channel each is.
        order: (K,), the channels, those that most filters have first.
        rank: (K,), the place of each.
    """

    variable: Tensor
    order: Tensor
    rank: Tensor

    def __init__(self, latent: LatentSpace, smooth: Sequence[float], oriented: Sequence[float]) -> None:
        super().__init__()
        # Known from the latent, so that it is no part of the weights.
        self.register_buffer("variable", _variables(latent), persistent=False)
        turned = [steerable(std) for std in oriented]
        alike = [gaussian(std) for std in smooth] + [mean for mean, _, _ in turned]
        kernels = [*alike, *(kernel for _, *parts in turned for kernel in parts)]
        made = [Smoothing(latent, kernel) for kernel in kernels]
        order = _most_first(made, latent.channels)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("rank", order.argsort(), persistent=False)
        leading = [Leading(one, self.rank) for one in made]
        self.smooth, self.oriented = nn.ModuleList(leading[: len(alike)]), nn.ModuleList(leading[len(alike) :])
        self.directions = Directions(latent, self.variable) if oriented else None
        self.filters = 1 + len(smooth) + 2 * len(oriented)
        self.amplitudes = self.filters * (1 + int(self.variable.max()))
        self.start = 1 / self.filters

    def forward(self, amplitudes: Tensor, w: Tensor, scale: Tensor) -> Tensor:
        """Deviations of members (B, M, K, T', H', W').

        Args:
            amplitudes: b (B, A, T', H', W').
            w: white noise (B, M, K, T', H', W').
            scale: D (K, 1, 1, 1).
        """
        members, frames = w.shape[1], w.shape[3]
        noise = frames_of(w.flatten(0, 1))
        each = frames_of(amplitudes).to(noise.dtype).unflatten(0, (-1, 1, frames)).expand(-1, members, -1, -1, -1, -1)
        # By filter (N, C, H', W').
        b = each.flatten(0, 2).unflatten(1, (self.filters, -1)).transpose(0, 1).contiguous()
        directions = None if self.directions is None else self.directions(noise)
        variable = self.variable[self.order]
        noise = noise[:, self.order].contiguous(memory_format=torch.channels_last)
        z = noise * _by_channel(b[0], variable)

        def add(filtered: nn.Module, by: Tensor) -> None:
            part = filtered(noise)
            count = part.shape[1]
            z[:, :count] += part * _by_channel(by, variable[:count])

        for number, smooth in enumerate(self.smooth, 1):
            add(smooth, b[number])
        if directions is not None:
            for n, oriented in enumerate(self.oriented):
                add(oriented, b[1 + len(self.smooth) + n // 2] * directions[n % 2])
        z = z[:, self.rank] * (scale.square().mean().sqrt() / scale)[:, 0].to(z.dtype)
        return framed(z, frames).unflatten(0, (-1, members))


def variation(latent: LatentSpace, smooth: Sequence[float], oriented: Sequence[float]) -> Filtered | Scaled:
    """Filtered noise where a latent's coefficients are fine cells transformed, and are known before training."""
    cells = latent.exact and latent.fixed and latent.channels % math.prod(latent.stride) == 0
    return Filtered(latent, smooth, oriented) if cells and latent.channels <= MOST else Scaled(latent)


def frames_of(x: Tensor) -> Tensor:
    """(N, C, T, H, W) -> (N·T, C, H, W), channels last."""
    return x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)


def framed(x: Tensor, frames: int) -> Tensor:
    """The inverse of `frames_of`."""
    return x.unflatten(0, (-1, frames)).transpose(1, 2)


def _most_first(filters: Sequence[Smoothing], channels: int) -> Tensor:
    """(K,), all channels, those that most filters have first."""
    counts = sum((torch.bincount(one.channels, minlength=channels) for one in filters), torch.zeros(channels))
    return counts.argsort(descending=True, stable=True)


def _by_channel(values: Tensor, variable: Tensor) -> Tensor:
    """What varies by variable (N, C, H', W') for every channel; a single one's broadcasts."""
    return values if values.shape[1] == 1 else values[:, variable]


def _variables(latent: LatentSpace) -> Tensor:
    """Of each channel (K,), the variable that it is of: where its energy is."""
    count = latent.channels
    one = torch.zeros(count, count, 1, 3, 3)
    one[range(count), range(count), 0, 1, 1] = 1.0
    return latent.synthesis(one).square().sum((2, 3, 4)).argmax(1)
