"""Whether the sections of GRIB messages have the lengths that they say, before eccodes walks them.

eccodes goes from a section to the next by its length, and does not end where that is 0. A message begins with the
letters GRIB; its first section says its length, in 8 bytes (edition 2) or 3 (edition 1). Then

    edition 2: sections of a length (4 bytes), a number (1 byte) and content, and 7777 at the end
    edition 1: section 1, 2 and 3 if its flags say so, and 4, each of a length (3 bytes) and content, and 7777

Source: WMO, Manual on Codes, No. 306, Volume I.2, FM 92 GRIB; edition 1 in the volume of 2001.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from finescale.errors import InputError

_START, _END = b"GRIB", b"7777"
_GRID, _BITMAP = 0x80, 0x40
"""Flags of edition 1."""
_SHORTEST = {1: 4, 2: 5}
"""Bytes of a section, by edition."""


def check_sections(path: Path, name: str) -> None:
    """Refuse a file in which a section is shorter than it can be, or reaches beyond its message.

    Args:
        path: the file.
        name: what messages call it.

    Raises:
        InputError: naming message and section. What is no message at all is left to eccodes.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at, count = content.find(_START), 0
        while at >= 0 and at + 16 <= len(content):
            count += 1
            edition = content[at + 7]
            length = _number(content, at + 8, 8) if edition == 2 else _number(content, at + 4, 3)
            end = at + length
            whole = edition in _SHORTEST and length > 16 and end <= len(content) and content[end - 4 : end] == _END
            wrong = _wrong(content, at, end - 4, edition) if whole else None
            if wrong is not None:
                raise InputError(
                    f"{name} cannot be read: it may be truncated or damaged (section {wrong} of its GRIB message "
                    f"{count} has not the length that it says); copy it again"
                )
            at = content.find(_START, end if whole else at + 4)


def _wrong(content: mmap.mmap, at: int, end: int, edition: int) -> int | None:
    """The number of the first section whose length cannot be; None for none."""
    position = at + (16 if edition == 2 else 8)
    if edition == 1:
        flags = content[position + 7]
        numbers = [1, *([2] if flags & _GRID else []), *([3] if flags & _BITMAP else []), 4]
    while position < end:
        number = content[position + 4] if edition == 2 else numbers.pop(0) if numbers else None
        if number is None:
            return None
        length = _number(content, position, 4 if edition == 2 else 3)
        position += length
        if length < _SHORTEST[edition] or position > end:
            return number
    return None


def _number(content: mmap.mmap, at: int, size: int) -> int:
    return int.from_bytes(content[at : at + size], "big")
