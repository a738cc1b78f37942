"""Constrained amounts without those that are too small to be there."""

from __future__ import annotations

import torch
from torch import Tensor

from finescale.constraints.multiplicative import spread
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen
from finescale.operators.cut import cut


def emptied(x: Tensor, coarse: Tensor, operators: Coarsen, least: float) -> Tensor:
    """x >= 0 with block means c, its cells below ``least`` emptied and the others of their blocks with what they had.

    Block means stay, to rounding. Where all of a block would be emptied its largest cells take all, as many as end at
    ``least`` or above, or one.

    Args:
        x: (..., T, H, W), finite.
        coarse: c (..., t, h, w), NaN where unknown, which makes the block NaN.
        operators: block means and replication.
        least: amount in the units of c.

    Example:
        >>> from finescale import Factor
        >>> from finescale.operators.coarsen import Coarsen
        >>> emptied(torch.tensor([[0.1, 0.5, 3.4]]), torch.tensor([[4 / 3]]), Coarsen(Factor(y=1, x=3)), 0.2)
        tensor([[0.0000, 0.5128, 3.4872]])
    """
    kept = cut(x, least)
    mean = operators.average(kept, missing=False)
    lost = (mean <= 0) & (coarse > 0)
    if bool(lost.any()):
        _blocks(kept, operators.factor)[lost] = _largest(_blocks(x, operators.factor)[lost], least)
        mean = operators.average(kept, missing=False)
    return spread(kept, coarse, operators, mean)


def _largest(x: Tensor, least: float) -> Tensor:
    """Of blocks x (N, ft, fy, fx) the largest cells, as many as share the total and end at ``least`` or above."""
    ordered, order = x.flatten(1).sort(dim=1, descending=True)
    # With k cells the k-th ends at x_k · (sum of all) / (sum of k), which falls with k.
    ends = ordered * ordered.sum(1, keepdim=True) / ordered.cumsum(1)
    count = torch.arange(ordered.shape[1], device=x.device)
    chosen = torch.where((ends >= least) | (count == 0), ordered, 0.0)
    return torch.zeros_like(ordered).scatter(1, order, chosen).unflatten(1, x.shape[1:])


def _blocks(x: Tensor, factor: Factor) -> Tensor:
    """A view (…, t, h, w, ft, fy, fx) of (…, T, H, W)."""
    t, h, w = (n // f for n, f in zip(x.shape[-3:], factor, strict=True))
    split = x.unflatten(-1, (w, factor.x)).unflatten(-3, (h, factor.y)).unflatten(-5, (t, factor.time))
    return split.movedim((-5, -3, -1), (-3, -2, -1))
