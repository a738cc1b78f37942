"""Rescaling of the distance to a bound, for fields between two bounds."""

from __future__ import annotations

import torch
from torch import Tensor

from finescale.constraints.base import Constraint, widest
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen
from finescale.ranges import Bound


class Bounded(Constraint):
    """x = y + U((c − A y) / (b − A y)) · (b − y), with b = high where c >= A y, otherwise low. Range [low, high].

    The same thing read from the bound, x − b = U((c − b) / (A y − b)) · (y − b): a block that is too high has its
    height above low scaled down as by `Multiplicative`, one that is too low its depth below high. On [−1, 1] this is
    the signed scaled-additive layer.

    One bound may be infinite: in the limit b → ∞ a block moves as by `Additive`, y + U(c − A y), away from the other
    bound. Rain on [0, ∞) is scaled where it is too heavy and shifted where it is too light, which wets dry cells;
    `Multiplicative` does not.

    y is clipped to [low, high] first and has no gradient outside: let the network end in a sigmoid or tanh of that
    range. No field within the bounds has a mean outside them: such a c is clipped too, the block is then uniform, and
    `violation` tells by how much it misses.

    Source: Geiss & Hardin 2023 (AIES 2(1)); Harder et al. 2023 (JMLR 24), scaled additive layer.

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
        >>> from finescale.constraints import Bounded
        >>> humidity = Bounded(Factor(y=1, x=2), low=0.0, high=100.0)
        >>> humidity(torch.tensor([[80.0, 100.0]]), torch.tensor([[95.0]]))
        tensor([[ 90., 100.]])
    """

    def __init__(
        self,
        factor: Factor,
        area: Tensor | None = None,
        mask: Tensor | None = None,
        low: Bound = 0.0,
        high: Bound = 1.0,
    ) -> None:
        super().__init__(factor, area, mask)
        if not low < high:
            raise ValueError(f"bounded needs low < high, not {low} and {high}")
        self.low, self.high = low, high
        # At its bound a block is uniform.
        self.keeps_zero = 0.0 in (low, high)  # type: ignore[misc]

    def apply_to(self, y: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        y = y.clamp(self.low, self.high)
        # Only the coarse numbers in float64: s y and d have the same sign, or the precision of the bounds at worst.
        wanted = widest(coarse).clamp(self.low, self.high)
        mean = operators.average(y, wanted.dtype)
        # A block without a mean, or whose mean is not known, is NaN by an addend, which no gradient meets.
        lost = wanted.isnan() | mean.isnan()
        scale, shift = self.line(torch.where(lost, 0.0, mean), torch.where(lost, 0.0, wanted))
        shift = torch.where(lost, torch.nan, shift)
        x = torch.addcmul(operators.replicate(shift.to(y.dtype)), operators.replicate(scale.to(y.dtype)), y)
        return x.clamp(self.low, self.high)

    def line(self, mean: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """s and d of x = U(s) · y + U(d), each of the shape of the block means and of what they should be.

        s = (c − b) / (A y − b) and d = b (A y − c) / (A y − b); for an infinite b, 1 and c − A y.
        """
        low, high = (torch.full_like(mean, bound) for bound in (self.low, self.high))
        # At the lower bound a block is uniform, also where its mean has been rounded down to that bound.
        bound = torch.where((wanted >= mean) & (wanted > low), high, low)
        free = bound.isinf()
        bound = torch.where(free, 0.0, bound)
        gap, miss = mean - bound, mean - wanted
        # With A y = b also c = b, which lies between them: s = 0 and d = b, not 0/0.
        met = gap.abs() < torch.finfo(gap.dtype).tiny
        gap, miss = torch.where(met | free, 1.0, gap), torch.where(met & ~free, 1.0, miss)
        scale = torch.where(free, 1.0, (wanted - bound) / gap)
        return scale, torch.where(free, -miss, bound * (miss / gap))
