"""Lapped orthonormal transform as latent space: blocks of cosines whose borders overlap.

Blocks of M × M cells have bands by the orthonormal cosine transform (DCT-II), as in image compression, and steps at
their borders, as there. Here the M cells around each border, M/2 on either side, are turned against each other before
the analysis and back after the synthesis,

    P = ½ [I  J; J  −I] diag(I, V) [I  J; J  −I],      V = J C2ᵀ C4 J

with I, J (reversal), C2 and C4 (orthonormal DCT-II and DCT-IV) of M/2 × M/2. P is orthonormal and its own transpose's
inverse, so that white noise stays white and the adjoint is the inverse; basis functions reach M/2 cells into the
neighbouring blocks and end there softly. What is even about a border passes P unchanged, so constants stay in the
lowest band. The outermost M/2 cells of a window have no border to share.

This is the fast lapped orthogonal transform of type II (Malvar 1992, Signal Processing with Lapped Transforms), written
as a filter before the blocks (Tran, Liang & Tu 2003, doi:10.1109/TSP.2003.811222). Its place here is ours: Haar's
bands have steps of their own at the borders and the middle of a block, which are seen in members.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from finescale.errors import InputError
from finescale.latents.base import LinearLatentSpace, depth_to_space
from finescale.latents.matrices import bands_in_time, bands_of_blocks, blocks_of_bands, cosines, frames_of, matmul
from finescale.ranges import Size


class Lapped(LinearLatentSpace):
    """Whitened bands of lapped blocks; channels are ordered by field, band along y, band along x.

    Args:
        side: M, cells a side of a block, even.
        frames: n frames transformed together along time by the cosine transform, so that K = n·C·M²; 1 for none.
        channels: C, channels of the field.

    Raises:
        InputError: if M is odd.
    """

    def __init__(self, side: Size = 8, frames: Size = 1, channels: int = 1) -> None:
        super().__init__(frames * channels * side**2, (frames, side, side))
        if side % 2:
            raise InputError(f"latent.side is {side}: blocks of a lapped transform overlap by half, so it must be even")
        self.side, self.frames = side, frames

    def analysis(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, n·C·M², T/n, H/M, W/M)."""
        x = _turned(bands_in_time(x, self.frames), turn(self.side))
        return bands_of_blocks(_bands(self.side), x, self.side).flatten(1, 2)

    def synthesis(self, c: Tensor) -> Tensor:
        """The inverse of `analysis`, which is also its adjoint."""
        x = blocks_of_bands(_bands(self.side).T, c.unflatten(1, (-1, self.side**2)), self.side)
        return frames_of(_turned(x, turn(self.side).T), self.frames)

    @property
    def reach(self) -> tuple[int, int, int]:
        """A basis function reaches half a block into its neighbours."""
        return 1, 2, 2

    def synthesis_squared(self, variance: Tensor) -> Tensor:
        """diag(S⁻¹ Σ S⁻ᵀ): G_y∘² V G_xᵀ∘², G the synthesis along an axis."""
        h, w = variance.shape[-2:]
        v = depth_to_space(variance, (1, self.side, self.side))
        rows, columns = (whole(n, self.side).to(v).square() for n in (h, w))
        return frames_of(matmul(matmul(rows, v), columns.T), self.frames, power=2)


def _turned(x: Tensor, matrix: Tensor) -> Tensor:
    """The cells around every border of blocks multiplied by ``matrix``, along y and then along x."""
    side = len(matrix)
    half, matrix = side // 2, matrix.to(x)
    if x.shape[-2] > side:
        inner = x[..., half:-half, :].unflatten(-2, (-1, side))
        x = torch.cat([x[..., :half, :], matmul(matrix, inner).flatten(-3, -2), x[..., -half:, :]], -2)
    if x.shape[-1] > side:
        inner = x[..., half:-half].unflatten(-1, (-1, side))
        x = torch.cat([x[..., :half], matmul(inner, matrix.T).flatten(-2), x[..., -half:]], -1)
    return x


@lru_cache(maxsize=8)
def turn(side: int) -> Tensor:
    """P, (M, M)."""
    half = side // 2
    one = torch.eye(half, dtype=torch.float64)
    reverse = one.flip(0)
    k = torch.arange(half, dtype=torch.float64) + 0.5
    fourth = (2 / half) ** 0.5 * torch.cos(torch.pi / half * k[:, None] * k)
    butterfly = torch.cat([torch.cat([one, reverse], 1), torch.cat([reverse, -one], 1)]) / 2**0.5
    middle = torch.block_diag(one, reverse @ cosines(half).T @ fourth @ reverse)
    return butterfly @ middle @ butterfly


@lru_cache(maxsize=8)
def _bands(side: int) -> Tensor:
    """(M², M²): bands along y and x of a block, from its cells."""
    return torch.kron(cosines(side), cosines(side))


@lru_cache(maxsize=8)
def whole(blocks: int, side: int) -> Tensor:
    """The synthesis of an axis of so many blocks, (n·M cells, n·M bands)."""
    half = side // 2
    turns = [torch.eye(half, dtype=torch.float64)] * 2
    turns[1:1] = [turn(side).T] * (blocks - 1)
    return torch.block_diag(*turns) @ torch.block_diag(*[cosines(side).T] * blocks)
