"""Matrices along an axis of a field, as latent spaces use them."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from finescale.latents.base import depth_to_space, space_to_depth


@lru_cache(maxsize=8)
def cosines(n: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II), (n, n): row k is √(2/n) c_k cos(π (j + ½) k / n), c_0 = √½."""
    k, j = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    rows = (2 / n) ** 0.5 * torch.cos(math.pi * (j + 0.5) * k / n)
    rows[0] *= 0.5**0.5
    return rows


def channels_by(matrix: Tensor, x: Tensor) -> Tensor:
    """y[:, k] = Σ_j matrix[k, j] x[:, j], in x's own precision where networks around run in bfloat16."""
    with torch.autocast(x.device.type, enabled=False):
        return torch.einsum("kj,bj...->bk...", matrix.to(x), x)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in their own precision, where networks around run in bfloat16."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def bands_in_time(x: Tensor, n: int) -> Tensor:
    """Every n frames of (B, C, T, H, W) by the cosine transform, (B, n·C, T/n, H, W)."""
    return x if n == 1 else channels_by(cosines(n), x.unflatten(2, (-1, n)).movedim(3, 1)).flatten(1, 2)


def frames_of(x: Tensor, n: int, power: int = 1) -> Tensor:
    """The inverse of `bands_in_time`; with a power of 2 the squares of its coefficients, for variances."""
    if n == 1:
        return x
    return channels_by(cosines(n).T ** power, x.unflatten(1, (n, -1))).movedim(1, 3).flatten(2, 3)


def bands_of_blocks(matrix: Tensor, x: Tensor, side: int) -> Tensor:
    """Bands (B, C, K, T, H/side, W/side) of blocks of (B, C, T, H, W) by a matrix (K, side²)."""
    cells = space_to_depth(x, (1, side, side)).unflatten(1, (x.shape[1], -1))
    return matmul(matrix.to(x), cells.flatten(3)).unflatten(3, cells.shape[3:])


def blocks_of_bands(matrix: Tensor, c: Tensor, side: int) -> Tensor:
    """(B, C, T, H, W) of bands (B, C, K, T, H/side, W/side) by a matrix (side², K)."""
    cells = matmul(matrix.to(c), c.flatten(3)).unflatten(3, c.shape[3:])
    return depth_to_space(cells.flatten(1, 2), (1, side, side))
