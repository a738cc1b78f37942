"""Training fields that are gone through several times, whole or without some runs of them.

Fields (B, C, T, H, W) come batch by batch and never lie in memory together, unless they come only once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from torch import Tensor

from finescale.latents.base import paired
from finescale.latents.patch_basis import Fields

ITEMS = 16
"""Fields that are worked on at once."""
Span = tuple[int, int]
"""First and end of a run of fields, in the order in which they come."""
ALL: Span = (0, sys.maxsize)


class Runs:
    """Fields and where they are known.

    Args:
        batches: fields (B, C, T, H, W).
        known: for each of them (B, 1, T, H, W), 1 where it is known; None for everywhere.
    """

    def __init__(self, batches: Iterable[Tensor], known: Iterable[Tensor] | None) -> None:
        self.batches = list(batches) if isinstance(batches, Iterator) else batches
        self.known = list(known) if isinstance(known, Iterator) else known

    def __len__(self) -> int:
        return sum(len(x) for x in self.batches)

    def of(self, *spans: Span) -> Fields:
        """Goes through the fields of some spans, a few at a time."""

        def fields() -> Iterator[tuple[Tensor, Tensor | None]]:
            first = 0
            for x, mask in paired(self.batches, self.known):
                for low, high in spans:
                    for start in range(max(0, low - first), min(len(x), high - first), ITEMS):
                        some = slice(start, min(start + ITEMS, high - first))
                        yield x[some], None if mask is None else mask[some].to(x)
                first += len(x)

        return fields
