"""Batches made ahead of the step that takes them.

What a step sees depends on its number alone, so threads may make batches in any order: they are handed out in theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

DEPTH = 4
"""Batches that are made, or lie ready, at a time."""
THREADS = 2
"""A store of compressed chunks keeps more than one busy; libraries that take one at a time see to that themselves."""

Item = TypeVar("Item")


class Ahead(Generic[Item]):
    """``next()`` gives make(start), make(start + 1), …; to be used in ``with``.

    Args:
        make: makes the item of a number; called in threads.
        start: the first number.
    """

    def __init__(self, make: Callable[[int], Item], start: int) -> None:
        self.make, self.number = make, start
        self.pool = ThreadPoolExecutor(THREADS, "ahead")
        self.items: deque[Future[Item]] = deque()

    def next(self) -> Item:
        """The next item; what its making raised is raised here."""
        while len(self.items) < DEPTH:
            self.items.append(self.pool.submit(self.make, self.number))
            self.number += 1
        return self.items.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown(cancel_futures=True)
