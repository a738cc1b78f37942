"""The L2 projection onto the fields with the wanted block means and between two bounds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from finescale.coarsen import Coarsen
from finescale.constraints.base import Constraint, widest
from finescale.grid import Factor


class Projection(Constraint):
    """x = clip(y + U(λ), low, high), with the λ of each block for which A x = c. Range [low, high].

    The nearest field to y (area-weighted least squares) among all that are between the bounds and have the right means.
    The truth is one of those, and they form a convex set, so that x is never further from it than y is:
    Σ w (x − truth)² ≤ Σ w (y − truth)². Without bounds it is `Additive`; with low = 0 alone the projection onto a
    simplex, which takes light values to zero where a block is too heavy.

    y has no gradient where x is at a bound. No field within the bounds has a mean outside them: such a c is clipped,
    the block is then uniform, and `violation` tells by how much it misses.

    λ is found by variable fixing (Kiwiel 2008, Mathematical Programming 112): λ as if no cell were at a bound; the
    cells beyond the bound that weighs more stay there; again for the rest. This ends after at most as many rounds as a
    block has cells, and usually after two or three.

    Args:
        factor: the whole factor between c and y.
        area: cell areas (H, W) or anything broadcastable to y; None for equal ones.
        mask: valid cells, broadcastable to y.
        low: lower bound, in units of c; −inf for none.
        high: upper bound; inf for none.

    Raises:
        ValueError: unless low < high.
    """

    def __init__(
        self,
        factor: Factor,
        area: Tensor | None = None,
        mask: Tensor | None = None,
        low: float = 0.0,
        high: float = math.inf,
    ) -> None:
        super().__init__(factor, area, mask)
        if not low < high:
            raise ValueError(f"projection needs low < high, not {low} and {high}")
        self.low, self.high = low, high
        # At its bound a block is uniform.
        self.keeps_zero = 0.0 in (low, high)  # type: ignore[misc]

    def apply_to(self, y: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        wide = widest(y)
        wanted = widest(coarse).clamp(self.low, self.high)
        with torch.no_grad():
            bound, free = self.fixed(wide, wanted, operators)
        x = torch.where(free, wide + operators.replicate(shift(wide, wanted, bound, free, operators)), bound)
        # A mean at a bound leaves no choice; the rounding of λ would.
        ends = operators.replicate((wanted == self.low) | (wanted == self.high))
        x = torch.where(ends, operators.replicate(wanted), x)
        return x.to(y.dtype).clamp(self.low, self.high)

    def fixed(self, y: Tensor, wanted: Tensor, operators: Coarsen) -> tuple[Tensor, Tensor]:
        """The bound at which each cell of x is, and which cells are at none (where the bound is 0); shape of y."""
        bound, free = torch.zeros_like(y), torch.ones_like(y, dtype=torch.bool)
        while True:
            x = y + operators.replicate(shift(y, wanted, bound, free, operators))
            below, above = (self.low - x).clamp_min(0) * free, (x - self.high).clamp_min(0) * free
            # What the clipped field has too much of; where it is positive, λ is too large, and what is low stays low.
            excess = operators.replicate(operators.average(below - above))
            low, high = (below > 0) & (excess >= 0), (above > 0) & (excess < 0)
            if not (low | high).any():
                return bound, free
            bound = torch.where(low, self.low, torch.where(high, self.high, bound))
            free = free & ~low & ~high


def shift(y: Tensor, wanted: Tensor, bound: Tensor, free: Tensor, operators: Coarsen) -> Tensor:
    """λ of each block (..., t, h, w): how much free cells have to rise; 0 where none is free."""
    share = operators.average(free.to(y.dtype))
    missing = wanted - operators.average(torch.where(free, y, bound))
    return missing / torch.where(share == 0, 1.0, share)
