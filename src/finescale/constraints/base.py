"""Conservation constraints: a last layer after which block means equal the coarse field exactly.

y is the raw field (..., T, H, W), c the coarse field (..., t, h, w), A the weighted block mean and U replication
(`finescale.operators.coarsen`). Each constraint returns x with A x = c, and works in float32 or wider whatever the
number type of y, because bfloat16 has three decimal digits.

They are modules without parameters, for any network:

    constrain = Additive(Factor(space=4))
    x = constrain(y, coarse)

With a factor of 1 in time the third axis from the end is like any other: pictures (B, C, H, W) need no axis of time,
nor does a single (H, W).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen, require_blocks


class Constraint(nn.Module):
    """Base of all constraints: ``Multiplicative(Factor(space=8))(y, c)``.

    Gradients are finite wherever y and c are, also where c is unknown or a block has no valid cell.

    Args:
        factor: the whole factor between c and y.
        area: cell areas (H, W) or anything broadcastable to y; None for equal ones.
        mask: valid cells, broadcastable to y; cells outside are left as they are and do not count.

    Example:
        >>> import torch
        >>> from finescale import Factor
        >>> from finescale.constraints import Additive
        >>> layer = Additive(Factor(space=2))  # a kind of Constraint
        >>> y, coarse = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 2, 2)
        >>> float(layer.violation(y, coarse)), float(layer.violation(layer(y, coarse), coarse))
        (1.0, 0.0)
    """

    domain: ClassVar[Literal["field", "logits"]] = "field"
    """What y is: a field in the units of c, or real numbers without units (so that only a network can make them)."""
    keeps_zero: ClassVar[bool] = False
    """Whether a block with c = 0 is exactly zero, whatever y."""

    def __init__(self, factor: Factor, area: Tensor | None = None, mask: Tensor | None = None) -> None:
        super().__init__()
        self.coarsen = Coarsen(factor, area, mask)

    def forward(self, y: Tensor, coarse: Tensor, coarsen: Coarsen | None = None) -> Tensor:
        """Project y so that its block means are coarse.

        Args:
            y: raw field (..., T, H, W); (..., H, W) where the factor in time is 1.
            coarse: wanted block means (..., t, h, w), whose leading axes broadcast; NaN where unknown, which makes the
                whole block NaN.
            coarsen: operators of this window's areas and mask, where they differ from the constructor's.

        Returns:
            x in the shape of y; float64 where y is, otherwise float32.

        Raises:
            InputError: if the shapes do not belong together.
        """
        if y.ndim == 2 and coarse.ndim == 2:
            return self(y[None], coarse[None], coarsen)[0]
        operators = coarsen or self.coarsen
        require_blocks(y, coarse, operators.factor)
        wide = torch.promote_types(y.dtype, torch.float32)
        y, coarse, mask = y.to(wide), coarse.to(wide), operators.mask
        if mask is None:
            return self.apply_to(y, coarse, operators)
        # What lies outside the mask may be NaN, and NaN times a gradient of zero is NaN.
        return torch.where(mask, self.apply_to(torch.where(mask, y, 0.0), coarse, operators), y)

    def gently(self, y: Tensor, coarse: Tensor, coarsen: Coarsen | None = None) -> Tensor:
        """What the loss of a generator goes through: `forward`, or nearly, with slopes that are nowhere steep.

        Arguments as in `forward`.
        """
        return self(y, coarse, coarsen)

    def apply_to(self, y: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        """The formula, in float32 or wider; y is zero outside the mask, where the result does not matter."""
        raise NotImplementedError

    def violation(self, x: Tensor, coarse: Tensor, coarsen: Coarsen | None = None) -> Tensor:
        """``max |A x − c| / max |c|`` over cells where both are known; a scalar."""
        if x.ndim == 2 and coarse.ndim == 2:
            x, coarse = x[None], coarse[None]
        operators = coarsen or self.coarsen
        error = (operators(widest(x)) - widest(coarse)).abs()
        known = ~error.isnan()
        largest = torch.where(known, widest(coarse).expand_as(error).abs(), 0.0).max()
        return torch.where(known, error, 0.0).max() / largest.clamp_min(torch.finfo(torch.float32).tiny)


def widest(x: Tensor) -> Tensor:
    """X in float64, on devices that have it."""
    return x if x.device.type == "mps" else x.double()
