"""A head that shares the total of each block among its cells."""

from __future__ import annotations

import torch
from torch import Tensor

from finescale.constraints.base import Constraint
from finescale.constraints.multiplicative import spread
from finescale.operators.coarsen import Coarsen


class Softmax(Constraint):
    """x = U(c) · exp(y) / U(A exp(y)): y are logits, any real numbers; x has the sign of c.

    A network head, because y has no units: it says how the block's total is shared, and adding a constant to y in a
    block changes nothing. Its block maximum is taken off first, so that exp does not overflow. A block with c = 0 gives
    exact zeros. Other cells are never zero, but for those whose logit is 100 below the largest of their block.

    Source: Harder et al. 2023 (JMLR 24), softmax layer.

    Example:
        >>> import torch
        >>> from finescale import Factor
        >>> from finescale.constraints import Softmax
        >>> Softmax(Factor(y=1, x=2))(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0]]))
        tensor([[3., 3.]])
    """

    domain = "logits"
    keeps_zero = True

    def apply_to(self, y: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        if operators.mask is not None:
            y = torch.where(operators.mask, y, -torch.inf)
        # x does not depend on what is taken off, so no gradient goes through it.
        largest = operators.maxima(y.detach())
        largest = torch.where(largest.isinf(), 0.0, largest)
        share = torch.exp(y - operators.replicate(largest))
        return spread(share, coarse, operators)
