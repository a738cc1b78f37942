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
        largest = operators.maxima(y)
        empty = largest <= 0
        shape = torch.where(
            operators.replicate(empty), torch.ones_like(y), y / operators.replicate(torch.where(empty, 1.0, largest))
        )
        x = shape * operators.replicate(coarse / operators(shape))
        return torch.where(operators.replicate(coarse == 0), torch.zeros_like(x), x)
