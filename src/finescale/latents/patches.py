"""Cutting a field into patches and laying them back.

Patches of (pt, py, px) cells lie side by side. Where they overlap they are twice as long as the hop from one to the
next in space, and are tapered by the sine window

    w[n] = sin(π (n + ½) / p),      w[n]² + w[n + p/2]² = 1

before the analysis and after the synthesis, so that what is cut and laid back unchanged adds up to the field. Patch i
then lies about the i-th block of hop cells and reaches half a hop over it on each side; beyond the border the field's
last cells are repeated, and what is laid back within it is divided by the Σ w² of the patches there are.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from finescale.errors import InputError
from finescale.latents.base import blocks, depth_to_space


class Patches:
    """Patches of one size.

    Args:
        size: (pt, py, px) cells.
        overlap: patches at half their length apart in y and x, along axes longer than one cell.

    Raises:
        InputError: if an odd number of cells is to be halved.
    """

    def __init__(self, size: tuple[int, int, int], overlap: bool) -> None:
        if overlap and any(n % 2 for n in size[1:] if n > 1):
            raise InputError(f"latent.patch is {size[1:]}, but overlapping patches must have an even number of cells")
        self.size = size
        self.overlap = overlap and max(size[1:]) > 1
        self.parts = tuple(2 if self.overlap and n > 1 else 1 for n in size[1:])
        self.hop = (size[0], size[1] // self.parts[0], size[2] // self.parts[1])

    def cut(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C·pt·py·px, T', H', W').

        Raises:
            InputError: unless the field divides by the hop.
        """
        blocks(tuple(x.shape[-3:]), self.hop)
        if self.overlap:
            pads = [n for before, after in reversed(self._margins) for n in (before, after)] + [0, 0]
            x = functional.pad(x, pads, "replicate")
        for axis, (n, hop) in enumerate(zip(self.size, self.hop, strict=True)):
            x = x.unfold(2 + axis, n, hop)
        return rearrange(x, "b c t h w pt py px -> b (c pt py px) t h w")

    def lay(self, patches: Tensor) -> Tensor:
        """The sum (B, C, T, H, W) of patches (B, C·pt·py·px, T', H', W') in their places."""
        if not self.overlap:
            return depth_to_space(patches, self.size)
        (pt, hy, hx), (ny, nx) = self.hop, self.parts
        fields = rearrange(
            patches,
            "b (c pt ny hy nx hx) t h w -> ny nx b c (t pt) (h hy) (w hx)",
            pt=pt, ny=ny, hy=hy, nx=nx, hx=hx,
        )  # fmt: skip
        height, width = fields.shape[-2:]
        canvas = patches.new_zeros(*fields.shape[2:-2], height + (ny - 1) * hy, width + (nx - 1) * hx)
        for i, j in product(range(ny), range(nx)):
            canvas[..., i * hy : i * hy + height, j * hx : j * hx + width] += fields[i, j]
        (top, _), (left, _) = self._margins
        return canvas[..., top : top + height, left : left + width]

    def taper(self, like: Tensor) -> Tensor:
        """w, (pt·py·px, 1, 1, 1)."""
        along_y, along_x = (_sine(n, parts) for n, parts in zip(self.size[1:], self.parts, strict=True))
        window = along_y[:, None] * along_x
        return window.expand(self.size).reshape(-1, 1, 1, 1).to(like)

    def share(self, height: int, width: int, like: Tensor) -> Tensor:
        """Σ w² (H, W) over the patches of a field: 1, and less within half a hop of its border."""
        rows, columns = (
            _covered(length, n, parts)
            for length, n, parts in zip((height, width), self.size[1:], self.parts, strict=True)
        )
        return (rows[:, None] * columns).to(like)

    @property
    def _margins(self) -> list[tuple[int, int]]:
        """Cells before and after a block of hop cells that its patch covers, along y and x."""
        return [
            (hop // 2, hop - hop // 2) if parts == 2 else (0, 0)
            for hop, parts in zip(self.hop[1:], self.parts, strict=True)
        ]


def _sine(n: int, parts: int) -> Tensor:
    if parts == 1:
        return torch.ones(n, dtype=torch.float64)
    return torch.sin(math.pi * (torch.arange(n, dtype=torch.float64) + 0.5) / n)


def _covered(length: int, n: int, parts: int) -> Tensor:
    """Σ w² along an axis of ``length`` cells."""
    total = torch.ones(length, dtype=torch.float64)
    if parts == 2:
        hop, square = n // 2, _sine(n, parts).square()
        before = hop // 2
        total[: hop - before] = square[before:hop]
        if before:
            total[length - before :] = square[hop : hop + before]
    return total
