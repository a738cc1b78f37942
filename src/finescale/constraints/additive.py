"""The L2 projection onto the fields with the wanted block means."""

from __future__ import annotations

from torch import Tensor

from finescale.constraints.base import Constraint, widest
from finescale.operators.coarsen import Coarsen


class Additive(Constraint):
    """x = y + U(c − A y): the nearest field to y (area-weighted least squares) with A x = c. Unbounded.

    Source: Harder et al. 2023 (JMLR 24), addition layer; Geiss & Hardin 2023.

    Example:
        >>> import torch
        >>> from finescale import Factor
        >>> from finescale.constraints import Additive
        >>> Additive(Factor(y=1, x=2))(torch.tensor([[1.0, 3.0]]), torch.tensor([[5.0]]))
        tensor([[4., 6.]])
    """

    def apply_to(self, y: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        # In float64, so that all that is left of |y| much larger than |c| is the rounding of the result to its type.
        wide = widest(y)
        return (wide + operators.replicate(coarse - operators.average(wide))).to(y.dtype)
