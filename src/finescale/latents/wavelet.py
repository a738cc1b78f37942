"""Orthonormal wavelet sub-bands as latent space (Conditional wavelet diffusion, arXiv 2507.01354).

One level filters along y and x with an orthonormal pair (lo, hi) and keeps every second value, periodic at the
borders ("periodization"):

    a[k] = Σ_j lo[j] x[2k + L/2 − j],      d[k] = Σ_j hi[j] x[2k + L/2 − j]       (L = filter length)

The next level acts on the low-low band. J levels give LL_J and three detail bands a level, (horizontal, vertical,
diagonal); finer detail bands are folded by space-to-depth, so that all K = C·4^J channels lie on the grid of
LL_J. (This is the pyramid. As a packet the next level acts on all bands, details too: 4^J bands on the grid of LL_J
without any folding, such as the 16 at H/4 of the paper's WDM-2. The first level of both is the same.) The transform is
orthonormal: white noise stays white, and the adjoint is the inverse. For Haar, LL_J is 2^J times the mean over blocks
of 2^J × 2^J cells. Filters longer than Haar's wrap around the borders of the window they are given, so that cells
within a filter's length of a border see the opposite side. Haar's stay within their block, so that all its levels are
one orthonormal matrix of 4^J × 4^J for each of them.

Along time n frames may be transformed together before, by the orthonormal cosine transform

    b[k] = √(2/n) c_k Σ_j cos(π (j + ½) k / n) x[j],      c_0 = √½, otherwise 1

for n = 2 a Haar level; any n will do. A latent then has a frame for n, b[0] is √n times their mean, and what changes
within them is whitened apart from what stays. (Ours: a wavelet level in time exists for even factors only.)

Conditioning fields come to the resolution of the latent by space-to-depth, or, as in the paper, by the same transform.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal

import pywt
import torch
from torch import Tensor

from finescale.errors import InputError
from finescale.latents.base import LinearLatentSpace, depth_to_space, space_to_depth
from finescale.latents.matrices import bands_in_time, bands_of_blocks, blocks_of_bands, frames_of
from finescale.ranges import Size

Y, X = -2, -1


class Wavelet(LinearLatentSpace):
    """Whitened wavelet coefficients.

    Args:
        levels: J, 1 to 3 halvings in space.
        family: an orthogonal family of PyWavelets (haar, db2, db4, sym4, coif1, ...). Biorthogonal ones colour white
            noise.
        frames: n frames transformed together along time, so that K = n·C·4^J; 1 for none, the factor in time for those
            of a coarse frame.
        packet: every level splits all bands, not the low-low one alone.
        condition: conditioning fields are folded by space-to-depth (fold), or transformed like the field (analysis);
            either is orthonormal. Their coefficients are not whitened (ours).
        channels: C, channels of the field.
    """

    def __init__(
        self,
        levels: Literal[1, 2, 3] = 2,
        family: str = "haar",
        frames: Size = 1,
        condition: Literal["fold", "analysis"] = "fold",
        channels: int = 1,
        packet: bool = False,
    ) -> None:
        super().__init__(frames * channels * 4**levels, (frames, 2**levels, 2**levels))
        try:
            wavelet = pywt.Wavelet(family)
        except ValueError as error:
            raise InputError(
                f"unknown wavelet family {family!r}: PyWavelets has haar, db2, db4, sym4, coif1, ..."
            ) from error
        if not wavelet.orthogonal:
            raise InputError(
                f"wavelet family {family!r} is not orthogonal and would colour white noise: "
                "take haar, dbN, symN or coifN"
            )
        self.levels = levels
        self.frames = frames
        self.packet = packet
        self.condition = condition
        self.field_channels = frames * channels
        self.filters = (tuple(wavelet.dec_lo), tuple(wavelet.dec_hi))
        self.haar = wavelet.dec_len == 2
        self._blocks: dict[int, tuple[Tensor, Tensor]] = {}

    def analysis(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C·4^J, T, H/2^J, W/2^J), LL first, then detail from coarse to fine."""
        x = bands_in_time(x, self.frames)
        return self._in_blocks(x) if self.haar else self._filtered(x)

    def _in_blocks(self, x: Tensor) -> Tensor:
        """All levels at once, where no filter leaves its block."""
        fields = x.shape[1]
        matrix, order = self._block(x, fields)
        c = bands_of_blocks(matrix, x, 2**self.levels).flatten(1, 2)
        return c if fields == 1 else c[:, order.argsort()]

    def _from_blocks(self, c: Tensor) -> Tensor:
        """The inverse of `_in_blocks`."""
        side = 2**self.levels
        fields = c.shape[1] // side**2
        matrix, order = self._block(c, fields)
        return blocks_of_bands(matrix.T, (c if fields == 1 else c[:, order]).unflatten(1, (fields, -1)), side)

    def _block(self, like: Tensor, fields: int) -> tuple[Tensor, Tensor]:
        """The matrix of a block, (4^J bands, 4^J cells), and the channels of so many fields by (field, band)."""
        if fields not in self._blocks:
            side = 2**self.levels
            one = torch.eye(side**2, dtype=torch.float64).reshape(-1, 1, 1, side, side)
            apart = torch.zeros(fields, side**2, fields, 1, side, side, dtype=torch.float64)
            for field in range(fields):
                apart[field, :, field] = one[:, 0]
            found = self._filtered(apart.flatten(0, 1))[..., 0, 0, 0].unflatten(0, (fields, -1))
            channels = [rows.any(0).nonzero().flatten() for rows in found]
            self._blocks[fields] = found[0][:, channels[0]].T.contiguous(), torch.cat(channels)
        matrix, order = self._blocks[fields]
        return matrix.to(like), order.to(like.device)

    def _filtered(self, x: Tensor) -> Tensor:
        """Level by level."""
        if self.packet:
            for _ in range(self.levels):
                x = torch.cat(self._bands(x), 1)
            return x
        details: list[Tensor] = []
        for level in range(1, self.levels + 1):
            x, *bands = self._bands(x)
            rest = 2 ** (self.levels - level)
            details.append(space_to_depth(torch.cat(bands, 1), (1, rest, rest)))
        return torch.cat([x, *reversed(details)], 1)

    def _bands(self, x: Tensor) -> list[Tensor]:
        """One level: low-low, horizontal, vertical and diagonal band of (B, C, T, H, W)."""
        low, high = self._split(x, Y)
        (rest, vertical), (horizontal, diagonal) = self._split(low, X), self._split(high, X)
        return [rest, horizontal, vertical, diagonal]

    def _whole(self, bands: Sequence[Tensor]) -> Tensor:
        """The inverse of `_bands`."""
        rest, horizontal, vertical, diagonal = bands
        return self._merge(self._merge(rest, vertical, X), self._merge(horizontal, diagonal, X), Y)

    def synthesis(self, c: Tensor) -> Tensor:
        """The inverse of `analysis`, which is also its adjoint."""
        if self.haar:
            return frames_of(self._from_blocks(c), self.frames)
        if self.packet:
            x = c
            for _ in range(self.levels):
                x = self._whole(x.chunk(4, dim=1))
            return frames_of(x, self.frames)
        x = c[:, : self.field_channels]
        for bands in self.details(c):
            x = self._whole([x, *bands.chunk(3, dim=1)])
        return frames_of(x, self.frames)

    def details(self, z: Tensor) -> list[Tensor]:
        """Detail bands (B, 3C, T', H/2^l, W/2^l), (horizontal, vertical, diagonal), from level l = J to 1.

        Those of a packet are one, (B, (4^J − 1)·C, T', H/2^J, W/2^J), of all bands but the lowest.
        """
        if self.packet:
            return [z[:, self.field_channels :]]
        found, used = [], self.field_channels
        for level in range(self.levels, 0, -1):
            rest = 2 ** (self.levels - level)
            count = 3 * self.field_channels * rest * rest
            found.append(depth_to_space(z[:, used : used + count], (1, rest, rest)))
            used += count
        return found

    def fold(self, x: Tensor) -> Tensor:
        """Conditioning fields (B, C, T, H, W) at latent resolution, (B, C·st·4^J, T', H/2^J, W/2^J)."""
        return self.analysis(x) if self.condition == "analysis" else super().fold(x)

    @property
    def reach(self) -> tuple[int, int, int]:
        """A filter of L taps spreads a coefficient over fewer than L + 1 latent cells; Haar's stay within one."""
        length = 1 if self.haar else len(self.filters[0]) + 1
        return 1, length, length

    def synthesis_squared(self, variance: Tensor) -> Tensor:
        """diag(S⁻¹ Σ S⁻ᵀ) band by band: Σ_bands G_y∘² V G_xᵀ∘², G the band's one-dimensional synthesis matrices."""
        total = torch.stack([self._band_variance(band, *paths) for band, *paths in self._paths(variance)]).sum(0)
        return frames_of(total, self.frames, power=2)

    def _paths(self, c: Tensor) -> Iterator[tuple[Tensor, str, str]]:
        """Every band (B, n·C, T', h, w) with how it comes about along y and x: from the last level to the first."""
        kinds = ("ll", "hl", "lh", "hh")  # along y, along x; in the order of `_bands`
        if self.packet:
            for band, last_first in zip(
                c.split(self.field_channels, 1), product(kinds, repeat=self.levels), strict=True
            ):
                yield band, "".join(k[0] for k in last_first), "".join(k[1] for k in last_first)
            return
        low = "l" * self.levels
        yield c[:, : self.field_channels], low, low
        for level, bands in zip(range(self.levels, 0, -1), self.details(c), strict=True):
            for band, kind in zip(bands.chunk(3, dim=1), kinds[1:], strict=True):
                yield band, kind[0] + low[1:level], kind[1] + low[1:level]

    def _band_variance(self, v: Tensor, along_y: str, along_x: str) -> Tensor:
        rows, columns = self._matrix(v.shape[-2], along_y).to(v), self._matrix(v.shape[-1], along_x).to(v)
        return rows.square() @ v @ columns.square().T

    def _matrix(self, n: int, path: str) -> Tensor:
        """(2^l·n, n): column k is the synthesis of the k-th coefficient of a one-dimensional band of l levels."""
        x = torch.eye(n, dtype=torch.float64)
        for step in path:
            zero = torch.zeros_like(x)
            x = self._merge(x, zero, X) if step == "l" else self._merge(zero, x, X)
        return x.T

    def _split(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        half = len(self.filters[0]) // 2
        shifted = [_every_second(x.roll(j - half, axis), axis)[0] for j in range(2 * half)]
        low, high = (sum(f * s for f, s in zip(taps, shifted, strict=True)) for taps in self.filters)
        assert isinstance(low, Tensor) and isinstance(high, Tensor)
        return low, high

    def _merge(self, low: Tensor, high: Tensor, axis: int) -> Tensor:
        half = len(self.filters[0]) // 2
        out: Tensor | float = 0.0
        for j, (lo, hi) in enumerate(zip(*self.filters, strict=True)):
            band = lo * low + hi * high
            out = out + _interleave(band, torch.zeros_like(band), axis).roll(half - j, axis)
        assert isinstance(out, Tensor)
        return out


def _every_second(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    return (x[..., ::2, :], x[..., 1::2, :]) if axis == Y else (x[..., ::2], x[..., 1::2])


def _interleave(even: Tensor, odd: Tensor, axis: int) -> Tensor:
    if axis == Y:
        return torch.stack([even, odd], dim=-2).flatten(-3, -2)
    return torch.stack([even, odd], dim=-1).flatten(-2, -1)
