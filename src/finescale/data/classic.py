"""How long a classic NetCDF file (CDF-1, CDF-2, CDF-5) must be, from its header.

The NetCDF library reads what lies beyond the end of a classic file as zeros, so that a download cut short looks whole.
The header says where every variable begins; a record variable's slabs lie ``recsize`` bytes apart, one slab of every
record variable after the other, each padded to 4 bytes unless there is one alone.

Source: NetCDF Classic Format Specification, https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

from finescale.errors import InputError

MAGIC = b"CDF"
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
"""Of a value of each type: byte, char, short, int, float, double, then CDF-5's unsigned and 64-bit ones."""
_DIMENSIONS, _VARIABLES, _ATTRIBUTES = 10, 11, 12
_LARGEST = 2**28
"""Bytes of a name or attribute that a header is believed to hold."""


def check_length(path: Path) -> None:
    """Refuse a classic file that is shorter than its header says.

    Raises:
        InputError: for such a file, or a header that is damaged.
    """
    has = path.stat().st_size
    try:
        with path.open("rb") as file:
            needs = _Header(file).needs()
    except (struct.error, KeyError, ValueError, IndexError, OverflowError):
        raise InputError(f"{path} cannot be read: its header is truncated or damaged; copy it again") from None
    if has < needs:
        raise InputError(f"{path} is truncated: it has {has} of {needs} bytes; copy it again")


class _Header:
    """Reads the header from its start; lists are a tag, a count and their elements."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        version = file.read(4)[3]
        self.count = ">q" if version == 5 else ">i"
        self.offset = ">i" if version == 1 else ">q"
        records = self._number(self.count)
        # A writer that was still at work left -1: how many there are is then told by the length.
        self.records = max(records, 0)

    def needs(self) -> int:
        """The first byte after the last value."""
        sizes = [self._dimension() for _ in range(self._elements(_DIMENSIONS))]
        self._attributes()
        fixed, slabs = [0], []
        for _ in range(self._elements(_VARIABLES)):
            begin, shape, width = self._variable(sizes)
            if shape and shape[0] == 0:  # the record dimension's length is written as 0
                slabs.append((begin, math.prod(shape[1:]) * width))
            else:
                fixed.append(begin + math.prod(shape) * width)
        if not slabs or not self.records:
            return max(fixed)
        step = slabs[0][1] if len(slabs) == 1 else sum(-(-size // 4) * 4 for _, size in slabs)
        return max(*fixed, *(begin + (self.records - 1) * step + size for begin, size in slabs))

    def _variable(self, sizes: list[int]) -> tuple[int, list[int], int]:
        """Where a variable begins, its shape, and the bytes of a value."""
        self._name()
        shape = [sizes[self._number(self.count)] for _ in range(self._number(self.count))]
        self._attributes()
        kind = self._number(">i")
        self._number(self.count)  # its size, which writers leave wrong for large ones
        return self._number(self.offset), shape, _BYTES[kind]

    def _dimension(self) -> int:
        self._name()
        return self._number(self.count)

    def _attributes(self) -> None:
        for _ in range(self._elements(_ATTRIBUTES)):
            self._name()
            width = _BYTES[self._number(">i")]
            self._skip(self._number(self.count) * width)

    def _name(self) -> None:
        self._skip(self._number(self.count))

    def _elements(self, tag: int) -> int:
        found, count = self._number(">i"), self._number(self.count)
        if found not in (0, tag) or (found == 0 and count) or count < 0:
            raise ValueError("no such list")
        return count

    def _number(self, form: str) -> int:
        return int(struct.unpack(form, self.file.read(struct.calcsize(form)))[0])

    def _skip(self, size: int) -> None:
        if not 0 <= size <= _LARGEST:
            raise ValueError("no such size")
        self.file.seek(-(-size // 4) * 4, 1)
