"""A soft penalty on the coarse error: what a hard constraint is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen, require_blocks
from finescale.ranges import NotNegative


class SoftPenalty(nn.Module):
    """weight · mean (A x − c)², a term to add to a training loss; it changes no field.

    The mean is over coarse cells that are known and have a valid fine cell. With weight = the number of fine cells in a
    coarse one, an error that all cells of a block share counts as much as in the sum of squares of the fine field.

    Source: the comparator of Geiss & Hardin 2023 (AIES 2(1)) and Harder et al. 2023 (JMLR 24).

    Args:
        factor: the whole factor between c and x.
        weight: >= 0, in units of the loss per squared unit of c.
        area: cell areas (H, W) or anything broadcastable to x; None for equal ones.
        mask: valid cells, broadcastable to x.

    Raises:
        ValueError: if the weight is negative or not finite.

    Example:
        >>> import torch
        >>> from finescale import Factor
        >>> from finescale.constraints.penalty import SoftPenalty
        >>> float(SoftPenalty(Factor(y=1, x=2), weight=16.0)(torch.tensor([[1.0, 3.0]]), torch.tensor([[4.0]])))
        64.0
    """

    def __init__(
        self, factor: Factor, weight: NotNegative = 1.0, area: Tensor | None = None, mask: Tensor | None = None
    ) -> None:
        super().__init__()
        if not 0 <= weight < math.inf:
            raise ValueError(f"a penalty needs a finite weight >= 0, not {weight}")
        self.coarsen = Coarsen(factor, area, mask)
        self.weight = weight

    def forward(
        self,
        x: Tensor,
        coarse: Tensor,
        coarsen: Coarsen | None = None,
        count: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The penalty of x (..., T, H, W) with the wanted block means coarse (..., t, h, w); a scalar.

        Args:
            x: field; in float32 or wider, whatever its number type.
            coarse: wanted block means; NaN where unknown, which does not count.
            coarsen: operators of this window's areas and mask, where they differ from the constructor's.
            count: makes of the number of cells here what their sum is divided by; None for that number, at least 1.

        Raises:
            InputError: if the shapes do not belong together.
        """
        if x.ndim == 2 and coarse.ndim == 2:
            x, coarse = x[None], coarse[None]
        operators = coarsen or self.coarsen
        require_blocks(x, coarse, operators.factor)
        wide = torch.promote_types(x.dtype, torch.float32)
        error = operators(x.to(wide)) - coarse.to(wide)
        known = ~error.isnan()
        cells = known.sum().clamp_min(1) if count is None else count(known.sum())
        return self.weight * torch.where(known, error, 0.0).square().sum() / cells
