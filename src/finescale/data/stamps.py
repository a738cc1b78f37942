"""Times in the names of files whose format holds none: ``201609281620_FINUTM.tif``, ``PRECIP_20220101_1200.tif``.

A pattern such as ``PRECIP_{time:%Y%m%d_%H%M}.tif`` says how a name is to be read. Without one, a run of 8, 10, 12 or 14
digits (year, month, day, hour, minute, second), with ``-``, ``_`` or ``T`` between its parts, is taken for the time if
it is a date and the only one.
"""

from __future__ import annotations

import re
from datetime import datetime

import numpy as np

from finescale.data.place import Place
from finescale.errors import InputError

_STAMP = re.compile(
    r"(?<!\d)(?P<Y>(?:18|19|20|21)\d\d)[-_.]?(?P<m>\d\d)[-_.]?(?P<d>\d\d)"
    r"(?:[-_.T ]?(?P<H>\d\d)(?:[-_.:h]?(?P<M>\d\d)(?:[-_.:]?(?P<S>\d\d))?)?)?(?!\d)"
)
_FIELD = re.compile(r"\{time:([^{}]+)\}")
_DIGITS = {"Y": r"\d{4}", "j": r"\d{3}"} | dict.fromkeys("ymdHMS", r"\d\d")


def time_of(path: Place, stamp: str = "") -> np.datetime64 | None:
    """The time in a file's name; None where none is found.

    Args:
        path: the file.
        stamp: the pattern of its name; empty to guess.

    Raises:
        InputError: if the name does not follow the pattern.
    """
    if stamp:
        return _read(path, stamp)
    found = {when for match in _STAMP.finditer(path.name) if (when := _date(match)) is not None}
    return found.pop() if len(found) == 1 else None


def _date(match: re.Match[str]) -> np.datetime64 | None:
    day, clock = (":".join(match[key] or "00" for key in keys) for keys in ("Ymd", "HMS"))
    try:
        return np.datetime64(datetime.strptime(f"{day} {clock}", "%Y:%m:%d %H:%M:%S"), "ns")
    except ValueError:
        return None


def _read(path: Place, stamp: str) -> np.datetime64:
    field = _FIELD.search(stamp)
    assert field is not None
    before, form, after = stamp[: field.start()], field[1], stamp[field.end() :]
    unknown = [code for code in re.findall(r"%(.)", form) if code not in _DIGITS]
    if unknown or ("%Y" not in form and "%y" not in form):
        raise InputError(
            f"the time in {stamp} is written %{unknown[0] if unknown else 'Y'}, which is not understood: use "
            f"{', '.join('%' + code for code in _DIGITS)}, the year among them"
        )
    digits = "".join(
        _DIGITS[part[1]] if part.startswith("%") else re.escape(part) for part in re.split(r"(%.)", form) if part
    )
    match = re.fullmatch(f"{_glob(before)}({digits}){_glob(after)}", path.name)
    try:
        if match is None:
            raise ValueError
        return np.datetime64(datetime.strptime(match[1], form), "ns")
    except ValueError:
        raise InputError(f"the name of {path} does not hold a time as {stamp} writes it: change the pattern") from None


def _glob(text: str) -> str:
    """A glob as a regular expression."""
    return "".join(
        {"*": ".*?", "?": "."}.get(part, part if part.startswith("[") else re.escape(part))
        for part in re.split(r"(\*|\?|\[[^\]]+\])", text)
    )
