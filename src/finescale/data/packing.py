"""How exactly values are written: in steps (``0.01``), as whole numbers, or to some digits (``3digits``).

In steps of s, x becomes s · round(x / s), off by at most s / 2, and the file holds the whole number n with CF's
``scale_factor`` s and ``add_offset`` o, a multiple of s: x = o + n s; zero stays zero. To N digits, x keeps the first
b = ⌈N log₂ 10⌉ bits of its significand beside the leading one, off by at most 2^-(b+1) |x| <= 10^-N |x| / 2; the file
holds floats whose other bits are zero, which compress. Source: Klöwer et al. 2021, doi:10.1038/s43588-021-00156-2.

Values are rounded before block means are compared with the coarse field, so that the residual that an output states is
that of what is written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finescale.errors import InputError, brief

Array = NDArray[np.float32]
HEADROOM = 4.0
"""Times what was seen in training that a field may go beyond its middle in 16 bits; more takes 32."""
DIGITS = (1, 7)
"""Digits that can be asked for; single precision has 7."""
_DIGITS = re.compile(r"(\d+) ?(?:digits?|d)")


@dataclass(frozen=True)
class Packed:
    """Whole numbers n for x = offset + n step.

    Attributes:
        dtype: int16 or int32.
        step: of values, in the variable's units.
        offset: a multiple of it.
    """

    dtype: str
    step: float
    offset: float = 0.0

    @classmethod
    def of(cls, dtype: np.dtype[Any], attrs: Mapping[str, Any]) -> Packed | None:
        """As a file says; None where it holds values as they are."""
        if dtype.kind != "i" or "scale_factor" not in attrs:
            return None
        return cls(dtype.name, float(attrs["scale_factor"]), float(attrs.get("add_offset", 0.0)))

    @property
    def missing(self) -> Any:
        """The number that marks missing cells: the least one."""
        return np.dtype(self.dtype).type(np.iinfo(self.dtype).min)

    @property
    def attrs(self) -> dict[str, float]:
        """CF's attributes."""
        return {"scale_factor": self.step} | ({"add_offset": self.offset} if self.offset else {})

    @property
    def encoding(self) -> dict[str, Any]:
        """As xarray has it."""
        return {"dtype": self.dtype, "_FillValue": self.missing} | self.attrs

    def stored(self, values: NDArray[Any], name: str) -> NDArray[Any]:
        """The whole numbers of ``values``, NaN where missing, of the variable ``name``.

        Raises:
            InputError: for a value that is too large.
        """
        numbers = np.rint((values.astype(np.float64) - self.offset) / self.step)
        known = np.isfinite(numbers)
        largest = float(np.abs(numbers[known]).max(initial=0.0))
        if largest > np.iinfo(self.dtype).max:
            raise InputError(
                f"variable {name} reaches {largest * self.step:.4g} from {self.offset:g}, which steps of {self.step:g} "
                f"do not hold in {self.dtype}: begin afresh with a larger --precision, or with digits (3digits)"
            )
        return np.where(known, numbers, float(self.missing)).astype(self.dtype)


@dataclass(frozen=True)
class Precision:
    """How exactly values are written; one of both.

    Attributes:
        step: in the units of each variable.
        digits: significant decimal digits.
    """

    step: float | None = None
    digits: int | None = None

    @classmethod
    def parse(cls, text: str | float) -> Precision:
        """``0.01`` as steps, ``3digits`` as digits.

        Raises:
            InputError: for anything else.
        """
        found = _DIGITS.fullmatch(str(text).strip().lower())
        if found is not None and DIGITS[0] <= int(found[1][:3]) <= DIGITS[1]:
            return cls(digits=int(found[1]))
        try:
            step = float(text) if found is None and not isinstance(text, bool) else math.nan
        except ValueError:
            step = math.nan
        if not 1e-30 < step < 1e30:
            raise InputError(
                f"--precision is {brief(text)}, but must be a step in the units of the output, such as 0.01, or "
                f"significant digits, {DIGITS[0]}digits to {DIGITS[1]}digits"
            )
        return cls(step=step)

    def __str__(self) -> str:
        return f"{self.digits}digits" if self.step is None else f"{self.step:g}"

    @property
    def bits(self) -> int:
        """Bits of the significand that are kept, of 23."""
        return min(23, math.ceil((self.digits or 7) * math.log2(10)))

    def rounded(self, values: Array) -> Array:
        """The values as they can be read back, in single precision."""
        if self.step is not None:
            return np.asarray(self.step * np.rint(values.astype(np.float64) / self.step), dtype=np.float32)
        from numcodecs import BitRound

        kept = np.frombuffer(BitRound(self.bits).encode(np.ascontiguousarray(values)), dtype=np.float32)
        # Rounding carries the bits of NaN and infinity elsewhere.
        return np.where(np.isfinite(values), kept.reshape(values.shape), values)

    def packed(self, ends: tuple[float, float] | None) -> Packed | None:
        """How a variable is stored whose least and largest value in training are ``ends``, None where not known.

        In 16 bits if they hold `HEADROOM` times that range about its middle, or about zero where zero is in it.
        """
        if self.step is None:
            return None
        if ends is None:
            return Packed("int32", self.step)
        low, high = ends
        offset = 0.0 if low <= 0 <= high else round((low + high) / 2 / self.step) * self.step
        reach = HEADROOM * max(abs(low - offset), abs(high - offset))
        return Packed("int16", self.step, offset) if reach < 32767 * self.step else Packed("int32", self.step)

    def comment(self, units: str) -> str:
        """What is stated of a variable's values."""
        if self.step is not None:
            unit = f" {units}" if units else ""
            return f"in steps of {self.step:g}{unit}: each within {self.step / 2:g}{unit} of the value sampled"
        return (
            f"to {self.digits} digits: {self.bits} bits of the significand, each within {2.0 ** -(self.bits + 1):.2g} "
            "of its size of the value sampled"
        )
