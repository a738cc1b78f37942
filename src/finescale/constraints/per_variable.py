"""Another constraint for every variable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from finescale.constraints.base import Constraint
from finescale.errors import InputError
from finescale.operators.coarsen import Coarsen


class PerVariable(Constraint):
    """x_v = P_v(y_v, c_v) for variables v along the channel axis: (..., V, T, H, W).

    Rain multiplicative, temperature additive, wind left alone, for instance:
    ``PerVariable([Multiplicative(f), Additive(f), None])``.

    Args:
        parts: a constraint for each variable, of one factor; None where x_v = y_v.

    Raises:
        InputError: without constraints, or for different factors or domains.

    Example:
        >>> import torch
        >>> from finescale import Factor
        >>> from finescale.constraints import Additive, Multiplicative
        >>> from finescale.constraints.per_variable import PerVariable
        >>> factor = Factor(space=2)
        >>> both = PerVariable([Multiplicative(factor), Additive(factor)])  # rain, temperature
        >>> both(torch.rand(2, 1, 4, 4), torch.rand(2, 1, 2, 2)).shape
        torch.Size([2, 1, 4, 4])
    """

    def __init__(self, parts: Sequence[Constraint | None]) -> None:
        there = [part for part in parts if part is not None]
        factors, domains = {part.coarsen.factor for part in there}, {part.domain for part in there}
        if len(factors) != 1:
            raise InputError(
                f"one constraint for each variable, all of one factor, are needed, not of {len(factors)} factors"
            )
        if len(domains) > 1 or (domains == {"logits"} and len(there) < len(parts)):
            raise InputError("a network's head, such as softmax, is the constraint of all variables or of none")
        super().__init__(factors.pop())
        self.parts = nn.ModuleList(nn.Identity() if part is None else part for part in parts)
        self.domain = domains.pop()  # type: ignore[misc]
        self.keeps_zero = all(part is not None and part.keeps_zero for part in parts)  # type: ignore[misc]

    def forward(self, y: Tensor, coarse: Tensor, coarsen: Coarsen | None = None) -> Tensor:
        """Project y (..., V, T, H, W) so that its block means are coarse.

        Raises:
            InputError: if the shapes do not belong together, or y has another number of variables.
        """
        return self._each(y, coarse, coarsen, lambda part: part)

    def gently(self, y: Tensor, coarse: Tensor, coarsen: Coarsen | None = None) -> Tensor:
        return self._each(y, coarse, coarsen, lambda part: part.gently)

    def _each(
        self, y: Tensor, coarse: Tensor, coarsen: Coarsen | None, how: Callable[[Constraint], Callable[..., Tensor]]
    ) -> Tensor:
        if y.ndim < 4 or y.shape[-4] != len(self.parts):
            raise InputError(f"{len(self.parts)} variables are wanted along axis -4, but the field is {tuple(y.shape)}")
        sides = zip(self.parts, y.split(1, -4), coarse.split(1, -4), strict=True)
        return torch.cat(
            [
                how(part)(x, wanted, coarsen and coarsen.of_variable(number)) if isinstance(part, Constraint) else x
                for number, (part, x, wanted) in enumerate(sides)
            ],
            dim=-4,
        )
