"""What a model remembers of its training data, so that it is not used on others without a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from finescale.errors import InputError
from finescale.grids.durations import format_duration
from finescale.grids.grid import Grid

Ends = tuple[float, float]
Count = Annotated[int, Field(ge=1, le=2**20)]
Apart = Annotated[int, Field(ge=1, le=17)]
LARGEST = 2**31
"""Cells of a mask."""


@dataclass(frozen=True)
class Seen:
    """Values of one variable.

    Attributes:
        low: least value, in the model's units.
        high: largest value.
        wet: largest share of coarse cells above zero in a crop; None for variables that do not end there, as rain does.
    """

    low: float | None = None
    high: float | None = None
    wet: float | None = None


@dataclass(frozen=True)
class Plane:
    """The cells of a field, evenly spaced.

    Attributes:
        y: first and last edge, and the number of cells.
        x: likewise.
        crs: as in `finescale.grids.grid.Grid`.
    """

    y: tuple[float, float, Count]
    x: tuple[float, float, Count]
    crs: str = ""

    def __post_init__(self) -> None:
        if self.y[2] * self.x[2] > LARGEST:
            raise InputError(f"remembers.masks: a mask has at most {LARGEST} cells")

    @classmethod
    def of(cls, grid: Grid) -> Plane:
        """The plane of a grid."""
        y, x = ((float(edges[0]), float(edges[-1]), edges.size - 1) for edges in (grid.y, grid.x))
        return cls(y, x, grid.crs)

    @property
    def grid(self) -> Grid:
        """A grid of one frame with these cells."""
        y, x = (np.linspace(first, last, n + 1) for first, last, n in (self.y, self.x))
        return Grid(np.array([0.0, 1.0]), y, x, self.crs)


@dataclass(frozen=True)
class Remembers:
    """The section ``remembers`` of a model's configuration, which training writes.

    Attributes:
        spacing: least and largest spacing of the fine rows.
        units: of the spacing: km, or those of the coordinates.
        cadence: least and largest length of a fine frame in seconds.
        variables: what was seen of every variable.
        masks: the planes on which the model has masks, the fine cells that were always missing.
        apart: up to how many times as far apart frames were seen where time is not refined (``data.skips``).
    """

    spacing: Ends | None = None
    units: str = "km"
    cadence: Ends | None = None
    variables: dict[str, Seen] = field(default_factory=dict)
    masks: list[Plane] = field(default_factory=list)
    apart: Apart = 1

    def plain(self) -> dict[str, Any]:
        """As a configuration has it: without what is not known."""
        return _plain(asdict(self))

    def lines(self, units: Mapping[str, str | None]) -> list[str]:
        """For people, a line each: of the fine field and of every variable, whose units are given."""
        said = []
        if self.spacing is not None:
            said.append(f"spacing {_span(self.spacing)} {self.units}")
        if self.cadence is not None:
            ends = " to ".join(dict.fromkeys(map(format_duration, self.cadence)))
            times = f" (up to {self.apart} times as long where time is not refined)" if self.apart > 1 else ""
            said.append(f"every {ends}{times}")
        found = [f"fine fields: {', '.join(said)}"] if said else []
        for name, seen in self.variables.items():
            if seen.low is not None and seen.high is not None:
                wet = "" if seen.wet is None else f", above zero in up to {seen.wet:.0%} of coarse cells"
                found.append(f"{name}: {seen.low:.4g} to {seen.high:.4g} {units.get(name) or ''}".rstrip() + wet)
        if self.masks:
            sizes = " and ".join(f"{plane.y[2]} x {plane.x[2]}" for plane in self.masks)
            found.append(f"mask: the cells that were always missing, of {sizes} cells")
        return found


def _span(pair: Ends) -> str:
    low, high = (f"{value:.4g}" for value in pair)
    return low if low == high else f"{low} to {high}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items() if one not in (None, [], {}, "")}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value
