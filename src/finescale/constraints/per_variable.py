"""Another constraint for every variable."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from finescale.constraints.base import Constraint
from finescale.errors import InputError
from finescale.operators.coarsen import Coarsen


class PerVariable(Constraint):
    """x_v = P_v(y_v, c_v) for variables v along the channel axis: (..., V, T, H, W).

    Rain multiplicative, temperature additive, humidity bounded, for instance:
    ``PerVariable([Multiplicative(f), Additive(f), Bounded(f, low=0, high=100)])``.

    Args:
        parts: a constraint for each variable, of one factor.

    Raises:
        InputError: without constraints, or for different factors.
    """

    def __init__(self, parts: Sequence[Constraint]) -> None:
        factors = {part.coarsen.factor for part in parts}
        if len(factors) != 1:
            raise InputError(
                f"one constraint for each variable, all of one factor, are needed, not of {len(factors)} factors"
            )
        super().__init__(factors.pop())
        self.parts = nn.ModuleList(parts)

    def forward(self, y: Tensor, coarse: Tensor, coarsen: Coarsen | None = None) -> Tensor:
        """Project y (..., V, T, H, W) so that its block means are coarse (..., V, t, h, w).

        Raises:
            InputError: if the shapes do not belong together, or y has another number of variables.
        """
        if y.ndim < 4 or y.shape[-4] != len(self.parts):
            raise InputError(f"{len(self.parts)} variables are wanted along axis -4, but the field is {tuple(y.shape)}")
        sides = zip(self.parts, y.unbind(-4), coarse.unbind(-4), strict=True)
        return torch.stack([part(field, wanted, coarsen) for part, field, wanted in sides], dim=-4)
