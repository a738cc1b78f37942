"""Area-weighted block means and their adjoint.

With cell areas a and a mask of valid cells m, w = a·m, and block B(c) of the ft·fy·fx fine cells of coarse cell c:

    (A x)_c = Σ_{i in B(c)} w_i x_i / Σ_{i in B(c)} w_i          block mean,       A: fine -> coarse
    (U c)_i = c_{B(i)}                                            replication,      U: coarse -> fine

A U = 1 (wherever a block has a valid cell), and U is the adjoint of A in the weighted products
⟨x, y⟩_fine = Σ w x y, ⟨c, d⟩_coarse = Σ (Σ_B w) c d.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from finescale.errors import InputError
from finescale.grids.factor import Factor, check_divisible


class Coarsen(nn.Module):
    """The operators A (call) and U (`replicate`) of one factor.

    Args:
        factor: the whole factor (ft, fy, fx).
        area: cell areas, broadcastable to (..., T, H, W) (e.g. (H, W)); None for equal areas.
        mask: valid fine cells, broadcastable to (..., T, H, W); None for all.
    """

    area: Tensor | None
    mask: Tensor | None

    def __init__(self, factor: Factor, area: Tensor | None = None, mask: Tensor | None = None) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("area", area, persistent=False)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Block means of (..., T, H, W) as (..., t, h, w), in the number type of x.

        Cells outside the mask do not count; a block without a valid cell gives NaN.

        Raises:
            InputError: if the shape is not divisible by the factor.
        """
        check_divisible((int(x.shape[-3]), int(x.shape[-2]), int(x.shape[-1])), self.factor)
        return self.average(x if self.mask is None else torch.where(self.mask, x, 0.0))

    def average(self, x: Tensor, dtype: torch.dtype | None = None, missing: bool = True) -> Tensor:
        """A x, for x that is finite outside the mask; added up and returned in ``dtype``, by default that of x.

        A block without a valid cell is NaN where ``missing``, else zero, with a gradient of zero.
        """
        if self.area is None and self.mask is None:
            return self.sums(x, dtype) / self.factor.cells
        weight = self.weight(x)
        total = self.sums(weight, dtype)
        return self.sums(x * weight, dtype) / torch.where(total > 0, total, torch.nan if missing else 1.0)

    def of_variable(self, number: int) -> Coarsen:
        """The operators of one variable of x (..., V, T, H, W), where each has a mask of its own."""
        if self.mask is None or self.mask.ndim < 4 or self.mask.shape[-4] == 1:
            return self
        return Coarsen(self.factor, self.area, self.mask.narrow(-4, number, 1))

    def sums(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Block sums of (..., T, H, W) as (..., t, h, w), added up in ``dtype``, by default that of x."""
        if dtype is not None and dtype != x.dtype:
            if self.factor.cells == 1:
                return x.to(dtype)
            # Widened while the first axis is summed: a wide copy of the field would cost more than the sums.
            return self._reduce(x, partial(torch.sum, dtype=dtype))
        return self._reduce(x, torch.sum)

    def maxima(self, x: Tensor) -> Tensor:
        """Block maxima of (..., T, H, W) as (..., t, h, w)."""
        return self._reduce(x, torch.amax)

    def _reduce(self, x: Tensor, function: Callable[..., Tensor]) -> Tensor:
        # One axis after another, rows before cells: whole rows are added to each other in the order of memory.
        for axis, n in zip((-3, -2, -1), self.factor, strict=True):
            if n > 1:
                x = function(x.unflatten(axis, (x.shape[axis] // n, n)), dim=axis)
        return x

    def replicate(self, c: Tensor) -> Tensor:
        """U: repeat each coarse cell of (..., t, h, w) over its block, giving (..., T, H, W)."""
        # Cells before rows: the rows are then copied whole.
        for axis, n in zip((-1, -2, -3), reversed(tuple(self.factor)), strict=True):
            c = c.repeat_interleave(n, dim=axis) if n > 1 else c
        return c

    def times(self, x: Tensor, c: Tensor) -> Tensor:
        """x · U(c), without a field of U(c)."""
        rows = Coarsen(Factor(self.factor.time, y=1, x=self.factor.x)).replicate(c)
        split = x.unflatten(-2, (rows.shape[-2], self.factor.y))
        return (split * rows.unsqueeze(-2)).flatten(-3, -2)

    def weight(self, x: Tensor) -> Tensor:
        """w = area · mask, scaled to a largest value of 1 and broadcast over the (T, H, W) of x."""
        weight = torch.ones(x.shape[-3:], dtype=x.dtype, device=x.device)
        if self.area is not None:
            # Divided in the wider number type of the two, so that float64 fields have weights to float64's precision.
            area = self.area.to(torch.promote_types(self.area.dtype, x.dtype))
            weight = weight * (area / area.amax()).to(x.dtype)
        if self.mask is not None:
            weight = weight * self.mask.to(x.dtype)
        return weight


def require_blocks(x: Tensor, coarse: Tensor, factor: Factor) -> None:
    """Raise InputError unless x (..., T, H, W) is ``factor`` times coarse (..., t, h, w)."""
    wanted = tuple(n * f for n, f in zip(coarse.shape[-3:], factor, strict=True))
    if tuple(x.shape[-3:]) != wanted:
        raise InputError(
            f"a coarse field of {tuple(coarse.shape[-3:])} and factor {factor} make {wanted} fine cells, "
            f"not {tuple(x.shape[-3:])}"
        )
