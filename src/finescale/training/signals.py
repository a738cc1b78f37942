"""Signals that end a training at the end of its step, so that what is saved is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Asked:
    """Whether to end.

    Attributes:
        signal: the first signal that arrived; None as long as there was none.
    """

    signal: int | None = None


@contextmanager
def deferred() -> Iterator[Asked]:
    """Note the first SIGINT, SIGTERM or SIGHUP instead of acting on it; the next one acts as before.

    Elsewhere than in the main thread, which alone may handle signals, nothing is changed.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in ENDING}

    def note(number: int, frame: FrameType | None) -> None:
        asked.signal = number
        _restore()

    def _restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, note)
    try:
        yield asked
    finally:
        _restore()
