"""Whole factors between a coarse and a fine grid.

A fine grid of shape (T, H, W) and a coarse grid of shape (t, h, w) belong together when a `Factor` (ft, fy, fx) of
whole numbers joins them: T = ft·t, H = fy·h, W = fx·w. Time is an axis like the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finescale.errors import InputError, brief, nearest

LARGEST = 100_000
"""In any axis; a slip of the pen beyond."""


@dataclass(frozen=True, init=False)
class Factor:
    """A whole refinement factor in time, y and x.

    ``Factor(time=3, space=10)`` refines every coarse interval into 3 and every cell into 10 x 10;
    ``Factor(time=1, y=8, x=12)`` differs by axis. Written ``3x10`` (time x space) or ``1x8x12`` (time x y x x).

    Raises:
        InputError: if a factor is not a whole number >= 1.

    Example:
        >>> from finescale import Factor
        >>> print(Factor(time=3, space=10), Factor.parse("1x8x12").cells)
        3x10 96
    """

    time: int
    y: int
    x: int

    def __init__(self, time: int = 1, space: int | None = None, *, y: int | None = None, x: int | None = None) -> None:
        if space is not None and (y is not None or x is not None):
            raise InputError("a Factor takes either space or y and x, not both")
        values = {"time": time, "y": y if space is None else space, "x": x if space is None else space}
        for axis, value in values.items():
            value = 1 if value is None else value
            number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
            if not number or not 1 <= value <= LARGEST or int(value) != value:
                raise InputError(f"factor in {axis} is {brief(value)}, but must be a whole number from 1 to {LARGEST}")
            object.__setattr__(self, axis, int(value))

    @classmethod
    def parse(cls, text: str | Factor) -> Factor:
        """Read ``"3x10"`` or ``"1x8x12"``."""
        if isinstance(text, Factor):
            return text
        match = re.fullmatch(r"\s*(\d{1,9})\s*x\s*(\d{1,9})(?:\s*x\s*(\d{1,9}))?\s*", str(text)[:100])
        if match is None:
            raise InputError(
                f"factor {brief(text)} is not understood: write TIMExSPACE, such as 1x8, or TIMExYxX, such as 1x8x12"
            )
        time, y, x = match.groups()
        return cls(time=int(time), y=int(y), x=int(x or y))

    def __iter__(self) -> Iterator[int]:
        return iter((self.time, self.y, self.x))

    def __str__(self) -> str:
        return f"{self.time}x{self.y}" if self.y == self.x else f"{self.time}x{self.y}x{self.x}"

    @property
    def cells(self) -> int:
        """Fine cells in one coarse cell."""
        return self.time * self.y * self.x

    @classmethod
    def between(cls, coarse: Sequence[int], fine: Sequence[int]) -> Factor:
        """The factor between coarse cells (..., t, h, w) and fine cells (..., T, H, W).

        Raises:
            InputError: if it is not whole.
        """
        sides = list(zip(coarse[-3:], fine[-3:], strict=True))
        if any(n < 1 or m % n for n, m in sides):
            raise InputError(
                f"{tuple(fine[-3:])} fine cells are not a whole multiple of {tuple(coarse[-3:])} coarse ones"
            )
        t, y, x = (m // n for n, m in sides)
        return cls(time=t, y=y, x=x)


@dataclass(frozen=True)
class Factors:
    """The factors that one model serves: a single one, or all in a range of time and one of space.

    Attributes:
        time: least and largest factor in time.
        space: least and largest factor in y and x.
        without: factors of the range that training leaves out (for experiments); they are served all the same.
        single: the factor of a model that serves one alone.

    Example:
        >>> from finescale import Factor, Factors
        >>> some = Factors.parse({"time": [1, 6], "space": [2, 25]})
        >>> Factor(3, 10) in some, Factor(7, 10) in some
        (True, False)
    """

    time: tuple[int, int]
    space: tuple[int, int]
    without: frozenset[Factor] = field(default_factory=frozenset)
    single: Factor | None = None

    def __post_init__(self) -> None:
        for axis, (low, high) in (("time", self.time), ("space", self.space)):
            if not 1 <= low <= high <= LARGEST:
                raise InputError(
                    f"the factors in {axis} are {brief(low)} to {brief(high)}, but must rise, from 1 to {LARGEST}"
                )
        if self.single is None and not self._teach():
            raise InputError(f"the factors {self} leave none to train on: widen their range")

    @classmethod
    def parse(cls, spec: str | Factor | Mapping[str, Any]) -> Factors:
        """Read ``1x8`` or ``{time: [1, 6], space: [1, 25]}``."""
        if not isinstance(spec, Mapping):
            one = Factor.parse(spec)
            return cls((one.time, one.time), (min(one.y, one.x), max(one.y, one.x)), single=one)
        for key in spec:
            if key not in ("time", "space", "without"):
                raise InputError(
                    f"unknown configuration key factor.{key}{nearest(str(key), ('time', 'space', 'without'))}"
                )
        time, space = (_ends(spec.get(axis, 1), axis) for axis in ("time", "space"))
        without = spec.get("without") or []
        if not isinstance(without, list | tuple):
            raise InputError(f"configuration key factor.without is {brief(without)}, but must be a list of factors")
        return cls(time, space, frozenset(map(Factor.parse, without)))

    @property
    def only(self) -> Factor | None:
        """The one factor of the range; None where there are several."""
        one = self.time[0] == self.time[1] and self.space[0] == self.space[1]
        return self.single or (Factor(self.time[0], self.space[0]) if one else None)

    def _teach(self) -> bool:
        """Whether `draw` finds a factor: not 1x1, and not left out."""
        every = (
            Factor(time, space)
            for time in range(self.time[0], self.time[1] + 1)
            for space in range(self.space[0], self.space[1] + 1)
        )
        return any(factor.cells > 1 and factor not in self.without for factor in every)

    def __contains__(self, factor: Factor) -> bool:
        if self.single is not None:
            return factor == self.single
        low, high = self.space
        return self.time[0] <= factor.time <= self.time[1] and all(low <= n <= high for n in (factor.y, factor.x))

    def __str__(self) -> str:
        if self.single is not None:
            return str(self.single)
        time, space = (f"{low}" if low == high else f"{low}-{high}" for low, high in (self.time, self.space))
        return f"{time} in time x {space} in space"

    def draw(self, rng: np.random.Generator) -> Factor:
        """One factor of training: time and space uniform in their logarithms; never 1x1, which teaches nothing."""
        if self.single is not None:
            return self.single
        while True:
            time, space = (
                min(int(np.exp(rng.uniform(np.log(low), np.log(high + 1)))), high)
                for low, high in (self.time, self.space)
            )
            factor = Factor(time, space)
            if factor.cells > 1 and factor not in self.without:
                return factor


def _ends(value: Any, axis: str) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, list | tuple) else ()
    if len(pair) != 2 or any(isinstance(n, bool) or not isinstance(n, int) for n in pair):
        raise InputError(f"configuration key factor.{axis} is {brief(value)}, but must be two whole numbers: [1, 6]")
    return pair[0], pair[1]


def check_divisible(shape: tuple[int, int, int], factor: Factor) -> None:
    """Raise InputError, naming the crop that would do, unless ``shape`` (T, H, W) is divisible by ``factor``."""
    if all(n % f == 0 for n, f in zip(shape, factor, strict=True)):
        return
    crop = tuple(n - n % f for n, f in zip(shape, factor, strict=True))
    size = " x ".join(map(str, shape))
    if 0 in crop:
        raise InputError(f"a grid of {size} cells (time x y x x) is smaller than one block of factor {factor}")
    raise InputError(
        f"a grid of {size} cells (time x y x x) is not divisible by the factor {factor}; "
        f"a crop to {' x '.join(map(str, crop))} would be"
    )
