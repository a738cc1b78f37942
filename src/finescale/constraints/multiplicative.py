"""Rescaling of non-negative fields."""

from __future__ import annotations

import torch
from torch import Tensor

from finescale.constraints.base import Constraint
from finescale.operators.coarsen import Coarsen

MOST = 10.0
"""Times that a block is raised in `Multiplicative.gently`."""


class Multiplicative(Constraint):
    """x = y · U(c / A y), for y, c >= 0: each block keeps its pattern and gets its total.

    Negative y counts as zero. A block with c = 0 gives exact zeros; a block with c > 0 whose y is all zero gives the
    uniform block c. y is divided by its block maximum first, so neither 1e-30 nor 1e30 over- or underflows.

    The slope of x is c / A y. A block whose y is smaller than c by the cube root of the largest number (7e12 in
    float32) keeps its pattern but gets no gradient, instead of an infinite one.

    Source: Harder et al. 2023 (JMLR 24), multiplicative layer; with tau = 0, p = 1 the function f of arXiv 2604.21903.

    Example:
        >>> import torch
        >>> from finescale import Factor
        >>> from finescale.constraints import Multiplicative
        >>> Multiplicative(Factor(y=1, x=2))(torch.tensor([[1.0, 3.0]]), torch.tensor([[4.0]]))
        tensor([[2., 6.]])
    """

    keeps_zero = True

    def gently(self, y: Tensor, coarse: Tensor, coarsen: Coarsen | None = None) -> Tensor:
        """x = y · U(c / max(A y, c / MOST)): exact where y is not over MOST times too small, which would be steep."""
        operators, y = coarsen or self.coarsen, y.clamp_min(0)
        mean = operators(y).nan_to_num()
        ratio = coarse / torch.maximum(mean, coarse / MOST).clamp_min(torch.finfo(y.dtype).tiny)
        return operators.times(y, torch.where(coarse > 0, ratio, 0.0))

    def apply_to(self, y: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        y = y.clamp_min(0)
        # x does not depend on what y is divided by, so no gradient goes through it.
        largest = operators.maxima(y.detach())
        empty = largest <= 0
        steep = empty | (coarse.abs() > largest * torch.finfo(y.dtype).max ** (1 / 3))
        largest = torch.where(empty, 1.0, largest)
        share = y / operators.replicate(largest)
        if share.requires_grad:
            share = torch.where(operators.replicate(steep), share.detach(), share)
        # An empty block is 0 / 1 + 1.
        share = share + operators.replicate(empty.to(y.dtype))
        return spread(self.pattern(share, largest, operators), coarse, operators)

    def pattern(self, share: Tensor, largest: Tensor, operators: Coarsen) -> Tensor:
        """What is rescaled to the block mean; its scale within a block does not matter.

        Args:
            share: y / U(largest), (..., T, H, W) in [0, 1]; all 1 in a block whose y is all zero.
            largest: block maxima (..., t, h, w) in the units of y; 1 where y is all zero.
            operators: block means and replication.
        """
        return share


def spread(share: Tensor, coarse: Tensor, operators: Coarsen, mean: Tensor | None = None) -> Tensor:
    """Shares >= 0, positive somewhere in each block, times U(c / A shares), whose ``mean`` that is; NaN where c is."""
    # NaN is kept out of the quotient, because NaN times a gradient of zero is NaN: no mean is where no cell is valid.
    unknown = coarse.isnan()
    mean = operators.average(share, missing=False) if mean is None else mean
    ratio = torch.where(unknown, 0.0, coarse) / torch.where(mean > 0, mean, 1.0)
    x = operators.times(share, ratio)
    if bool(unknown.any()):
        x = x + operators.replicate(torch.where(unknown, coarse, 0.0))
    return x
