"""Which tasks of a run are finished, in eight bytes a task: a run may have millions."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NONE = -1.0
MOST = 100_000_000
"""Tasks of a run."""


class Finished:
    """Finished tasks: their number, the hash of what each read, and the largest of everything else noted of them.

    Attributes:
        worst: the largest of every number that was noted, over all tasks; empty without any; not a number if one was.
    """

    def __init__(self) -> None:
        self.worst: NDArray[np.float64] = np.zeros(0)
        self._count = 0
        self._hashes = array("d")

    def add(self, task: int, note: Sequence[float]) -> None:
        """A finished task.

        Args:
            task: its number, from 0.
            note: numbers, as many for every task, of which the last is a hash, which is not negative.

        Raises:
            ValueError: for a note of another length, or numbers that are none of a task or a hash.
        """
        *numbers, found = note
        if (self._count and len(numbers) != len(self.worst)) or not found >= 0 or not 0 <= task < MOST:
            raise ValueError(f"{note} cannot be noted of task {task}")
        self.worst = np.maximum(self.worst, numbers) if self._count else np.array(numbers)
        missing = task + 1 - len(self._hashes)
        if missing > 0:
            self._hashes.extend(array("d", [NONE]) * max(missing, len(self._hashes)))
        self._count += self._hashes[task] == NONE
        self._hashes[task] = found

    def hash(self, task: int) -> int:
        """The hash of what a finished task has read."""
        return int(self._hashes[task])

    def __contains__(self, task: object) -> bool:
        return isinstance(task, int) and 0 <= task < len(self._hashes) and self._hashes[task] != NONE

    def __len__(self) -> int:
        return self._count
