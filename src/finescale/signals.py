"""Signals that end a piece of work at a point of its own, so that what is saved is whole and no lock stays closed.

Python raises KeyboardInterrupt, and what `finescale.cli` makes of SIGTERM and SIGHUP, between any two steps of the main
thread: also between taking a library's lock and the block that gives it back, and whoever closes the file then waits
for ever. Inside `deferred` a signal is noted instead, and `check` acts on it where nothing is half done.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from finescale.errors import Interrupted

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(eq=False)
class Asked:
    """Whether to end.

    Attributes:
        signal: the first signal that arrived; None as long as there was none.
    """

    signal: int | None = None


_asked: list[Asked] = []


@contextmanager
def deferred(again: bool = True) -> Iterator[Asked]:
    """Note the first SIGINT, SIGTERM or SIGHUP instead of acting on it; the next one acts as before.

    ``again=False`` ignores those after the first: to a process that hears everything twice they say nothing more.
    Elsewhere than in the main thread, which alone may handle signals, nothing is changed.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in ENDING}

    def note(number: int, frame: FrameType | None) -> None:
        asked.signal = asked.signal or number
        if again:
            _restore()

    def _restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    _asked.append(asked)
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, note)
    try:
        yield asked
    finally:
        _asked.remove(asked)
        _restore()  # from here on a signal may act


@contextmanager
def ending_at_checks() -> Iterator[None]:
    """Let signals end the block where it calls `check`, in whatever thread, or at its end.

    Raises:
        Interrupted: at the end of the block.
    """
    with deferred() as asked:
        yield
    if asked.signal is not None:
        raise Interrupted(asked.signal)


def check() -> None:
    """A point at which work may end.

    Raises:
        Interrupted: if a signal was noted.
    """
    for asked in _asked:
        if asked.signal is not None:
            raise Interrupted(asked.signal)
