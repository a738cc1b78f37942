"""Rescaling of non-negative fields by factors that vary continuously."""

from __future__ import annotations

import torch
from torch import Tensor

from finescale.constraints.multiplicative import Multiplicative
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen
from finescale.operators.interpolate import upsample
from finescale.ranges import NotNegative, Size

STEEPEST = 40.0
"""Largest |ln s|."""
LARGEST = 1e30
HUMP = 8.0
"""Largest ratio of an interpolated cell to its coarse cell in what an empty block is given."""


class Smooth(Multiplicative):
    """x = y · exp(L ln s_1) · … · exp(L ln s_R) · U(s), for y, c >= 0, with s_r = c over the block means before it.

    L interpolates linearly from the centres of those coarse cells that are wet: factors vary continuously within and
    across coarse cells, where `Multiplicative`'s jump at every border and leave its imprint. R rounds bring the block
    means close to c, and the last factor, constant in each block and near one, makes them exact. It is the smooth
    rescaling of Tobler's (1979) pycnophylactic interpolation applied to a ratio instead of a field (the iteration, its
    logarithm and its exact end are ours).

    A block with c > 0 whose y is all zero takes the linearly interpolated coarse field as its y, not a flat square. With
    ``least``, cells that would end below that amount are emptied and the others take what they had, so that no cell is
    between zero and it; where all of a block would be emptied its largest cells take all, as many as end above it, or
    one.

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
        operators = coarsen or self.coarsen
        return super().gently(self._rescaled(y.clamp_min(0), coarse.nan_to_num(), operators), coarse, operators)

    def apply_to(self, y: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        wanted = coarse.nan_to_num()
        y = y.clamp_min(0)
        empty = (operators.maxima(y.detach()) <= 0) & (wanted > 0)
        shape = self._interpolated(wanted, operators.factor)
        y = y + operators.replicate(empty.to(y.dtype)) * shape
        x = super().apply_to(self._rescaled(y, wanted, operators), coarse, operators)
        return x if self.least == 0 else self._emptied(x, coarse, operators)

    def _rescaled(self, y: Tensor, wanted: Tensor, operators: Coarsen) -> Tensor:
        """The rounds."""
        wet = wanted > 0
        # As many axes as y, but no copies of what members share.
        known = self._upsampled(wet.to(y.dtype), operators.factor).clamp_min(torch.finfo(y.dtype).tiny)
        for _ in range(self.rounds):
            mean = operators.average(y, missing=False)
            # Below, where no amounts are, slopes would overflow.
            there = wet & (mean > torch.finfo(y.dtype).tiny ** 0.5)
            logarithm = torch.where(there, wanted, 1.0).log() - torch.where(there, mean, 1.0).log()
            logarithm = logarithm.clamp(-STEEPEST, STEEPEST)
            y = (y * torch.exp(self._upsampled(logarithm, operators.factor) / known)).clamp_max(LARGEST)
        return y

    def _upsampled(self, c: Tensor, factor: Factor) -> Tensor:
        return upsample(c, factor, "linear")

    def _interpolated(self, wanted: Tensor, factor: Factor) -> Tensor:
        """What an empty block is given, positive where it is wet; its scale in a block does not matter."""
        own = Coarsen(factor).replicate(torch.where(wanted > 0, wanted, 1.0))
        return (self._upsampled(wanted, factor) / own).clamp_max(HUMP)

    def _emptied(self, x: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        """Without cells below ``least``, but for blocks that hold less."""
        kept = torch.where(x < self.least, 0.0, x)
        lost = (operators.maxima(kept.detach()) <= 0) & (coarse > 0)
        if bool(lost.any()):
            kept = kept + self._largest(x, coarse, lost, operators)
        return super().apply_to(kept, coarse, operators)

    def _largest(self, x: Tensor, coarse: Tensor, lost: Tensor, operators: Coarsen) -> Tensor:
        """In lost blocks the largest cells, as many as can share the block's total and end at ``least`` or above."""
        f = operators.factor
        t, h, w = coarse.shape[-3:]
        split = x.unflatten(-1, (w, f.x)).unflatten(-3, (h, f.y)).unflatten(-5, (t, f.time))
        blocks = split.movedim((-5, -3, -1), (-3, -2, -1)).flatten(-3)  # (…, t, h, w, cells)
        some = blocks[lost.expand(blocks.shape[:-1])]
        ordered, order = some.sort(-1, descending=True)
        mean = ordered.cumsum(-1) / torch.arange(1, some.shape[-1] + 1, device=x.device)
        count = torch.arange(some.shape[-1], device=x.device)
        # With k cells the k-th ends at x_k · total / (sum of k), and falls with k.
        total = some.sum(-1, keepdim=True)
        enough = ordered * total >= self.least * mean * (count + 1)
        chosen = torch.where(enough | (count == 0), ordered, 0.0)
        found = torch.zeros_like(blocks)
        found[lost.expand(blocks.shape[:-1])] = torch.zeros_like(some).scatter(-1, order, chosen)
        parts = found.unflatten(-1, tuple(f)).movedim((-3, -2, -1), (-5, -3, -1))
        return parts.flatten(-6, -5).flatten(-4, -3).flatten(-2, -1)
