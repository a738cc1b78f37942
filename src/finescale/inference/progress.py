"""How far a prediction is: a bar where somebody looks, and the time left in words where nobody does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from time import monotonic
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def say(text: str) -> None:
    """One line to the user, above a bar that is there."""
    tqdm.write(f"finescale: {text}", file=sys.stderr)


def shown(results: Iterator[Item], total: int, done: int, progress: bool, long: bool) -> Iterator[Item]:
    """Give ``results`` on, and show how far they are.

    Args:
        results: of tasks, as they are finished.
        total: tasks of the prediction.
        done: tasks that were finished before.
        progress: False to say nothing.
        long: whether the time left is told in words where there is no bar: after the first tasks, then at every tenth.
    """
    # None: no bar where nobody looks at it.
    bar = tqdm(results, total=total, initial=done, desc="downscale", unit="task", disable=None if progress else True,
               leave=False)  # fmt: skip
    in_words = progress and long and bool(bar.disable)
    began, told = monotonic(), -1
    for count, item in enumerate(bar, done + 1):
        yield item
        tenth = 10 * count // total
        if in_words and tenth > told and count - done >= min(FIRST, total - done) and count < total:
            told = tenth
            left = (monotonic() - began) / (count - done) * (total - count)
            say(f"{count:,} of {total:,} tasks are done, about {duration(left)} left")


FIRST = 4
"""Tasks from which the time left is told; the first one opens files and loads what is needed."""


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(40), duration(7200), duration(900_000)
    ('1 minute', '2.0 hours', '10.4 days')
    """
    if seconds < 90:
        return "1 minute"
    for unit, length, most in (("minutes", 60, 90 * 60), ("hours", 3600, 48 * 3600)):
        if seconds < most:
            return f"{seconds / length:.0f} {unit}" if unit == "minutes" else f"{seconds / length:.1f} {unit}"
    return f"{seconds / 86400:.1f} days"
