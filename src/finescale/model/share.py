"""An equal part of a batch, where several processes share it.

A loss is a sum over the batch's cells divided by their number K. The process with part r of P has the sum N_r over its
items' cells, and

    L = (1/K) Σ_r N_r = (1/P) Σ_r L_r,      L_r = N_r / (K/P),

so the mean of what the processes find is the loss, and the mean of their gradients the gradient, of the whole batch,
however the cells are spread over the parts. Means over items need nothing: parts have equally many. Random numbers are
drawn for the whole batch by every process, and each takes those of its items.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


def _same(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Share:
    """Part ``index`` of ``of`` equal ones, one after the other.

    Attributes:
        index: r.
        of: P.
        total: what adds a number up over all parts.
    """

    index: int = 0
    of: int = 1
    total: Callable[[Tensor], Tensor] = _same

    def items(self, batch: int) -> slice:
        """Which of the ``batch`` items of the whole."""
        size = batch // self.of
        return slice(self.index * size, (self.index + 1) * size)

    def part(self, x: Tensor, dim: int = 0) -> Tensor:
        """This part's items of the whole's, along an axis."""
        size = x.shape[dim] // self.of
        return x if self.of == 1 else x.narrow(dim, self.index * size, size)

    def count(self, here: Tensor) -> Tensor:
        """K/P of the number of cells here: by what a sum over them is divided; at least one of the whole batch."""
        return self.total(here).clamp_min(1) / self.of
