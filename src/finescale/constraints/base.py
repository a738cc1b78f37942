"""Conservation constraints: a last layer after which block means equal the coarse field exactly.

y is the raw field (..., T, H, W), c the coarse field (..., t, h, w), A the weighted block mean and U replication
(`finescale.coarsen`). Each constraint returns x with A x = c, and works in float32 or wider whatever the number type of
y, because bfloat16 has three decimal digits.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from finescale.coarsen import Coarsen, require_blocks
from finescale.grid import Factor


class Constraint(nn.Module):
    """Base of all constraints: ``Multiplicative(Factor(space=8))(y, c)``.

    Args:
        factor: the whole factor between c and y.
        area: cell areas (H, W) or anything broadcastable to y; None for equal ones.
        mask: valid cells, broadcastable to y; cells outside are left as they are and do not count.
    """

    domain: ClassVar[Literal["field", "logits"]] = "field"
    keeps_zero: ClassVar[bool] = False
    """Whether a block with c = 0 is exactly zero, whatever y."""

    def __init__(self, factor: Factor, area: Tensor | None = None, mask: Tensor | None = None) -> None:
        super().__init__()
        self.coarsen = Coarsen(factor, area, mask)

    def forward(self, y: Tensor, coarse: Tensor, coarsen: Coarsen | None = None) -> Tensor:
        """Project y (..., T, H, W) so that its block means are coarse (..., t, h, w).

        Args:
            y: raw field.
            coarse: wanted block means; NaN where unknown, which makes the whole block NaN.
            coarsen: operators of this window's areas and mask, where they differ from the constructor's.

        Raises:
            InputError: if the shapes do not belong together.
        """
        operators = coarsen or self.coarsen
        require_blocks(y, coarse, operators.factor)
        wide = torch.promote_types(y.dtype, torch.float32)
        x = self.apply_to(y.to(wide), coarse.to(wide), operators)
        if operators.mask is not None:
            x = torch.where(operators.mask.expand_as(x), x, y.to(wide))
        return x

    def apply_to(self, y: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        """The formula, in float32 or wider."""
        raise NotImplementedError

    def violation(self, x: Tensor, coarse: Tensor, coarsen: Coarsen | None = None) -> Tensor:
        """max |A x − c| / max |c| over cells where both are known; a scalar."""
        operators = coarsen or self.coarsen
        error = (operators(x.double()) - coarse.double()).abs()
        known = ~error.isnan()
        largest = torch.where(known, coarse.double().expand_as(error).abs(), 0.0).max()
        return torch.where(known, error, 0.0).max() / largest.clamp_min(torch.finfo(torch.float32).tiny)
