"""The error for anything the user can mend: the command line prints it as one line and exits with code 2."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

LONGEST = 1000


class InputError(ValueError):
    """Wrong input, described for the person who gave it: what is wrong, where, and how to mend it, in one line.

    Whatever names and values of theirs it quotes, it is one line of at most `LONGEST` letters.

    Example:
        >>> import finescale
        >>> try:
        ...     finescale.Factor.parse("by ten")
        ... except finescale.InputError as error:
        ...     print(str(error)[:36])
        factor 'by ten' is not understood: w
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.splitlines())
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST - 4]} ...")


class Interrupted(KeyboardInterrupt):
    """An ending that was asked for by a signal; what is finished is kept where ``later`` says so.

    Attributes:
        number: of the signal.
        later: what was kept and how to go on; empty where nothing was.
        again: whether the same command goes on.
    """

    def __init__(self, number: int, later: str = "", again: bool = False) -> None:
        super().__init__(number)
        self.number, self.later, self.again = number, later, again


class Notice(UserWarning):
    """Something the user should know; the command line shows it as one line."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of ``allowed``, or ``"; allowed: a, b"`` where none is close."""
    choices = sorted(allowed)
    close = difflib.get_close_matches(name, choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; allowed: {', '.join(choices) or 'none'}"


def brief(value: object) -> str:
    """``repr(value)`` in a line of bounded length."""
    short = reprlib.Repr()
    short.maxlist = short.maxtuple = short.maxdict = short.maxset = 4
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 3, 80, 80, 40
    return " ".join(short.repr(value).split())[:160]
