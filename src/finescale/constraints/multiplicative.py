"""Rescaling of non-negative fields."""

from __future__ import annotations

import torch
from torch import Tensor

from finescale.coarsen import Coarsen
from finescale.constraints.base import Constraint


class Multiplicative(Constraint):
    """x = y · U(c / A y), for y, c >= 0: each block keeps its pattern and gets its total.

    Negative y counts as zero. A block with c = 0 gives exact zeros; a block with c > 0 whose y is all zero gives the
    uniform block c. y is divided by its block maximum first, so neither 1e-30 nor 1e30 over- or underflows.

    Source: Harder et al. 2023 (JMLR 24), multiplicative layer; with tau = 0, p = 1 the function f of arXiv 2604.21903.
    """

    keeps_zero = True

    def apply_to(self, y: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        y = y.clamp_min(0)
        if operators.mask is not None:
            y = torch.where(operators.mask.expand_as(y), y, 0.0)
        # x does not depend on what y is divided by, so no gradient goes through it.
        largest = operators.maxima(y).detach()
        empty = largest <= 0
        largest = torch.where(empty, 1.0, largest)
        share = torch.where(operators.replicate(empty), torch.ones_like(y), y / operators.replicate(largest))
        shape = self.pattern(share, largest, operators)
        x = shape * operators.replicate(coarse / operators(shape))
        return torch.where(operators.replicate(coarse == 0), torch.zeros_like(x), x)

    def pattern(self, share: Tensor, largest: Tensor, operators: Coarsen) -> Tensor:
        """What is rescaled to the block mean; its scale within a block does not matter.

        Args:
            share: y / U(largest), (..., T, H, W) in [0, 1]; all 1 in a block whose y is all zero.
            largest: block maxima (..., t, h, w) in the units of y; 1 where y is all zero.
            operators: block means and replication.
        """
        return share
