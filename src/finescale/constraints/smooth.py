"""Rescaling of non-negative fields by factors that vary continuously."""

from __future__ import annotations

import torch
from torch import Tensor

from finescale.constraints.multiplicative import Multiplicative, spread
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen
from finescale.operators.cut import cut
from finescale.operators.interpolate import upsample
from finescale.ranges import NotNegative, Size

STEEPEST = 2.0
"""Largest |ln s|."""
LARGEST = 1e15
"""Of amounts of ordinary size, and the reciprocal of the smallest."""
HUMP = 8.0
"""Largest ratio of an interpolated cell to its coarse cell in what an empty block is given."""


class Smooth(Multiplicative):
    """x = y · exp(L ln s_1) · … · exp(L ln s_R) · U(s), for y, c >= 0, with s_r = c over the block means before it.

    L interpolates linearly from the centres of those coarse cells that are wet: factors vary continuously within and
    across coarse cells, where `Multiplicative`'s jump at every border and leave its imprint. R rounds bring the block
    means close to c, and the last factor, constant in each block and near one, makes them exact. It is the smooth
    rescaling of Tobler's (1979) pycnophylactic interpolation applied to a ratio instead of a field (the iteration, its
    logarithm and its exact end are ours).

    A block with c > 0 whose y is all zero takes the linearly interpolated coarse field as its y, not a flat square.
    With ``least``, cells that would end below that amount are emptied and the others take what they had, so that no
    cell is between zero and it; where all of a block would be emptied its largest cells take all, as many as end above
    it, or one.

    A window's result depends on the coarse cells R around it.

    Args:
        factor: the whole factor between c and y.
        area: as in `Constraint`.
        mask: as in `Constraint`.
        rounds: R.
        least: amount in the units of c.
    """

    def __init__(
        self,
        factor: Factor,
        area: Tensor | None = None,
        mask: Tensor | None = None,
        rounds: Size = 2,
        least: NotNegative = 0.0,
    ) -> None:
        super().__init__(factor, area, mask)
        self.rounds, self.least = rounds, least

    def gently(self, y: Tensor, coarse: Tensor, coarsen: Coarsen | None = None) -> Tensor:
        """As in `Multiplicative`, of y times factors without a slope, since those of neighbours' ratios are erratic."""
        operators, y = coarsen or self.coarsen, y.clamp_min(0)
        with torch.no_grad():
            rescaled = self._rescaled(y, coarse.nan_to_num(), operators)
            factors = torch.where(y > 0, rescaled / y, 1.0)
        return super().gently(y * factors, coarse, operators)

    def apply_to(self, y: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        wanted = coarse.nan_to_num()
        y = y.clamp_min(0)
        largest = operators.maxima(y.detach())
        empty = (largest <= 0) & (wanted > 0)
        if bool(empty.any()):
            y = y + operators.replicate(empty.to(y.dtype)) * _interpolated(wanted, operators.factor)
            if operators.mask is not None:  # cells that do not count shall not be taken for those that hold the total
                y = torch.where(operators.mask, y, 0.0)
        if bool((largest > LARGEST).any()):  # what is raised could overflow
            y = y.clamp_max(LARGEST)
        y = self._rescaled(y, wanted, operators)
        mean = operators.average(y.detach(), missing=False)
        ordinary = (torch.minimum(mean, wanted) > 1 / LARGEST) & (torch.maximum(mean, wanted) < LARGEST)
        plain = ordinary | (wanted == 0)
        # Amounts of ordinary size need no care for overflow and subnormal numbers.
        x = spread(y, coarse, operators) if bool(plain.all()) else super().apply_to(y, coarse, operators)
        return x if self.least == 0 else self._emptied(x, coarse, operators)

    def _rescaled(self, y: Tensor, wanted: Tensor, operators: Coarsen) -> Tensor:
        """The rounds."""
        wet, factor = wanted > 0, operators.factor
        known = None
        if not bool(wet.all()):
            known = upsample(wet.to(y.dtype), factor, "linear").clamp_min(torch.finfo(y.dtype).tiny)
        for _ in range(self.rounds):
            mean = operators.average(y, missing=False)
            # Below, where no amounts are, slopes would overflow.
            there = wet & (mean > torch.finfo(y.dtype).tiny ** 0.5)
            logarithm = torch.where(there, wanted, 1.0).log() - torch.where(there, mean, 1.0).log()
            factors = upsample(logarithm.clamp(-STEEPEST, STEEPEST), factor, "linear")
            y = y * (factors if known is None else factors.div_(known)).exp_()
        return y

    def _emptied(self, x: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        """Without cells below ``least``, but for blocks that hold less."""
        kept = cut(x, self.least)
        lost = (operators.maxima(kept.detach()) <= 0) & (coarse > 0)
        if bool(lost.any()):
            _blocks(kept, operators.factor)[lost] = self._largest(_blocks(x, operators.factor)[lost])
        return spread(kept, coarse, operators)

    def _largest(self, x: Tensor) -> Tensor:
        """Of blocks x (N, ft, fy, fx) the largest cells, as many as share the total and end at ``least`` or above."""
        ordered, order = x.flatten(1).sort(dim=1, descending=True)
        # With k cells the k-th ends at x_k · (sum of all) / (sum of k), which falls with k.
        ends = ordered * ordered.sum(1, keepdim=True) / ordered.cumsum(1)
        count = torch.arange(ordered.shape[1], device=x.device)
        chosen = torch.where((ends >= self.least) | (count == 0), ordered, 0.0)
        return torch.zeros_like(ordered).scatter(1, order, chosen).unflatten(1, x.shape[1:])


def _blocks(x: Tensor, factor: Factor) -> Tensor:
    """A view (…, t, h, w, ft, fy, fx) of (…, T, H, W)."""
    t, h, w = (n // f for n, f in zip(x.shape[-3:], factor, strict=True))
    split = x.unflatten(-1, (w, factor.x)).unflatten(-3, (h, factor.y)).unflatten(-5, (t, factor.time))
    return split.movedim((-5, -3, -1), (-3, -2, -1))


def _interpolated(wanted: Tensor, factor: Factor) -> Tensor:
    """What an empty block is given, positive where it is wet; its scale in a block does not matter."""
    own = Coarsen(factor).replicate(torch.where(wanted > 0, wanted, 1.0))
    return (upsample(wanted, factor, "linear") / own).clamp_max(HUMP)
