"""Lengths of time as people write them: ``1h``, ``10 min``, ``1.5 days``."""

from __future__ import annotations

import math
import re

import numpy as np

from finescale.errors import InputError

_UNITS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0}
_SPELLINGS = (
    dict.fromkeys(("d", "day", "days"), "d")
    | dict.fromkeys(("h", "hr", "hour", "hours"), "h")
    | dict.fromkeys(("min", "mins", "minute", "minutes"), "min")
    | dict.fromkeys(("s", "sec", "second", "seconds"), "s")
)


def parse_duration(text: str | float, what: str = "duration") -> float:
    """Seconds in ``"1h"``, ``"5 min"``, ``"30s"``, ``"1.5 days"``; a number counts as seconds.

    Args:
        text: the duration.
        what: its name in the error.

    Raises:
        InputError: if it is not a time above zero; a text without a unit is not.
    """
    if isinstance(text, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]+)\s*", text)
        unit = _SPELLINGS.get(match[2].lower()) if match else None
        seconds = float(match[1]) * _UNITS[unit] if match and unit else math.nan
    else:
        number = isinstance(text, (int, float, np.integer, np.floating)) and not isinstance(text, bool)
        seconds = float(text) if number else math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(
            f"{what} {text!r} is not understood: write a number above 0 and a unit, such as 1h, 10min or 30s"
        )
    return seconds


def format_duration(seconds: float) -> str:
    """``"12 h"`` for 43200: the largest unit that gives a whole number, otherwise seconds."""
    for unit, length in _UNITS.items():
        count = seconds / length
        if count > 0.5 and abs(count - round(count)) < 1e-9 * count:
            return f"{round(count)} {unit}"
    return f"{seconds:g} s"
