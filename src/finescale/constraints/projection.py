"""The L2 projection onto the fields with the wanted block means and between two bounds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from finescale.constraints.base import Constraint, widest
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen
from finescale.ranges import Bound


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

    Example:
        >>> import torch
        >>> from finescale import Factor
        >>> from finescale.constraints import Projection
        >>> Projection(Factor(y=1, x=2))(torch.tensor([[1.0, 9.0]]), torch.tensor([[2.0]]))  # not below 0
        tensor([[0., 4.]])
    """

    def __init__(
        self,
        factor: Factor,
        area: Tensor | None = None,
        mask: Tensor | None = None,
        low: Bound = 0.0,
        high: Bound = math.inf,
    ) -> None:
        super().__init__(factor, area, mask)
        if not low < high:
            raise ValueError(f"projection needs low < high, not {low} and {high}")
        self.low, self.high = low, high
        # At its bound a block is uniform.
        self.keeps_zero = 0.0 in (low, high)  # type: ignore[misc]

    def apply_to(self, y: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        wide, wanted = widest(y), widest(coarse).clamp(self.low, self.high)
        rise = wanted - operators.average(wide)
        x = wide + operators.replicate(rise)
        # Most blocks stay between the bounds; only the others are solved for. A mean at a bound leaves no choice.
        lowest, highest = -operators.maxima(-y.detach()), operators.maxima(y.detach())
        beyond = (lowest + rise < self.low) | (highest + rise > self.high)
        beyond = beyond | (wanted == self.low) | (wanted == self.high)
        if bool(beyond.any()):
            factor = operators.factor
            rows = in_blocks(wide.expand_as(x), factor)[beyond].flatten(1)
            shares = torch.full_like(rows, 1 / factor.cells)
            if operators.area is not None or operators.mask is not None:
                weight = in_blocks(operators.weight(wide).expand_as(x), factor)[beyond].flatten(1)
                shares = weight / weight.sum(1, keepdim=True)
            solved = self.solve(rows, wanted.expand_as(beyond)[beyond][:, None], shares, y.dtype)
            in_blocks(x, factor)[beyond] = solved.unflatten(1, tuple(factor))
        return x.to(y.dtype).clamp(self.low, self.high)

    def solve(self, rows: Tensor, wanted: Tensor, share: Tensor, dtype: torch.dtype) -> Tensor:
        """The projection of blocks (N, cells) onto their means (N, 1), to which cells count with their share.

        Which cells are at a bound is found in ``dtype``, λ in that of the rows.
        """
        with torch.no_grad():
            bound, free = self.fixed(rows.to(dtype), wanted.to(dtype), share.to(dtype))
            # Where the mean is a bound, so is every cell.
            bound = torch.where((wanted == self.low) | (wanted == self.high), wanted, bound.to(rows.dtype))
        return torch.where(free, rows + shift(rows, wanted, share, bound, free), bound)

    def fixed(self, rows: Tensor, wanted: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """The bound at which each cell of x is, and which cells are at none (where the bound is 0)."""
        at_end = (wanted == self.low) | (wanted == self.high)
        bound, free = torch.where(at_end, wanted, 0.0).repeat(1, rows.shape[1]), ~at_end.repeat(1, rows.shape[1])
        left = torch.arange(len(rows), device=rows.device)
        while len(left):
            r, w, s, b, f = (part[left] for part in (rows, wanted, share, bound, free))
            x = r + shift(r, w, s, b, f)
            below, above = (self.low - x).clamp_min_(0) * f, (x - self.high).clamp_min_(0) * f
            # What the clipped field has too much of; where it is positive, λ is too large, and what is low stays low.
            excess = ((below - above) * s).sum(-1, keepdim=True)
            low, high = (below > 0) & (excess >= 0), (above > 0) & (excess < 0)
            moved = low | high
            bound[left] = torch.where(low, self.low, torch.where(high, self.high, b))
            free[left] = f & ~moved
            left = left[moved.any(1)]
        return bound, free


def shift(rows: Tensor, wanted: Tensor, share: Tensor, bound: Tensor, free: Tensor) -> Tensor:
    """λ of each block (N, 1): how much its free cells have to rise; 0 where none is free."""
    open_share = (share * free).sum(-1, keepdim=True)
    missing = wanted - (share * torch.where(free, rows, bound)).sum(-1, keepdim=True)
    return missing / torch.where(open_share == 0, torch.inf, open_share)


def in_blocks(x: Tensor, factor: Factor) -> Tensor:
    """A view of (..., T, H, W) as (..., t, h, w, ft, fy, fx)."""
    for axis, n in zip((-1, -3, -5), reversed(tuple(factor)), strict=True):
        x = x.unflatten(axis, (-1, n))
    return x.movedim((-5, -3, -1), (-3, -2, -1))
