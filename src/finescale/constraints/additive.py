"""The L2 projection onto the fields with the wanted block means."""

from __future__ import annotations

from torch import Tensor

from finescale.coarsen import Coarsen
from finescale.constraints.base import Constraint


class Additive(Constraint):
    """x = y + U(c − A y): the nearest field to y (area-weighted least squares) with A x = c. Unbounded.

    Source: Harder et al. 2023 (JMLR 24), addition layer; Geiss & Hardin 2023.
    """

    def apply_to(self, y: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        # The second pass removes the rounding of the first where |y| is much larger than |c|.
        x = y + operators.replicate(coarse - operators(y))
        return x + operators.replicate(coarse - operators(x))
