"""Where a prediction lies: its coarse cells, its fine ones, and the coordinates of the output.

That is the coarse field's own grid, refined; or, of a fine grid that is given, the blocks of its cells.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.blocks import Blocks, cells, clock_of
from finescale.data.regions import Region
from finescale.data.sources import Source, covered
from finescale.errors import InputError, Notice
from finescale.grids import coordinates, relabel
from finescale.grids.factor import Factor
from finescale.grids.grid import Grid
from finescale.grids.windows import Slices, Window

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Domain:
    """The cells of a prediction; windows count them with y and x increasing, the output has them in ``coarse``'s order.

    Attributes:
        coarse: the coarse cells (time, y, x); of its values nothing is read.
        factor: from coarse to fine.
        given: the fine cells (time, y, x), where they are given; None for the coarse ones refined.
    """

    coarse: xr.DataArray
    factor: Factor
    given: xr.DataArray | None = None

    @cached_property
    def increasing(self) -> xr.DataArray:
        """The coarse cells with y and x increasing."""
        return coordinates.increasing(self.coarse)

    @cached_property
    def grid(self) -> Grid:
        """The coarse grid, y and x increasing."""
        return coordinates.read_grid(self.increasing)

    @cached_property
    def fine(self) -> Grid:
        """The fine grid, y and x increasing."""
        if self.given is not None:
            return coordinates.read_grid(coordinates.increasing(self.given))
        return self.grid.refine(self.factor)

    @cached_property
    def flips(self) -> tuple[bool, bool]:
        """Whether y and x of the output decrease."""
        sides = [(self.coarse[dim], self.increasing[dim]) for dim in self.coarse.dims[-2:]]
        y, x = (bool(given[0] != turned[0]) for given, turned in sides)
        return y, x

    @cached_property
    def coords(self) -> dict[Hashable, xr.Variable]:
        """The coordinates of the output.

        Raises:
            InputError: for times or names that an output cannot have.
        """
        if self.given is not None:
            return relabel.refined_coords(self.given, Factor())
        return relabel.refined_coords(self.coarse, self.factor)

    @cached_property
    def blocks(self) -> Blocks:
        """The coarse cells in space and time, y and x increasing, with the times of their fine frames."""
        found, time = cells(self.increasing), self.coarse.dims[-3]
        if found.clock is None:
            return found
        return replace(found, clock=clock_of(self.coords[time]).reshape(found.low.size, self.factor.time, 2))

    @property
    def mapping(self) -> str | None:
        """The name of the grid mapping; None without."""
        like = self.coarse if self.given is None else self.given
        name = like.encoding.get("grid_mapping", like.attrs.get("grid_mapping"))
        return name if name in like.coords else None

    def area(self, box: Slices) -> NDArray[np.float64] | None:
        """Fine cell areas of some coarse cells; None where all are equal."""
        if self.fine.uniform:
            return None
        if self.given is None:
            return self.grid.window(*box).refine(self.factor).cell_area
        t, y, x = (slice(side.start * n, side.stop * n) for side, n in zip(box, self.factor, strict=True))
        return self.fine.window(t, y, x).cell_area

    def unknown(self, window: Window, *before: int) -> Array:
        """Nothing but missing values in the core of a window."""
        shape = (c.stop - c.start for c in window.scaled(self.factor)[0])
        return np.full((*before, *shape), np.nan, dtype=np.float32)

    def region(self, window: Window, before: Sequence[slice], members_first: bool = False) -> Region:
        """The region of a window's core in the output, ``before`` being the members or quantiles."""
        t, *plane = window.scaled(self.factor)[0]
        sides = zip(plane, self.flips, self.fine.shape[-2:], strict=True)
        turned = (slice(n - side.stop, n - side.start) if flip else side for side, flip, n in sides)
        return relabel.file_order(before, (t, *turned), members_first)

    def oriented(self, values: Array, members_first: bool = False) -> Array:
        """Values (…, T, H, W) in the order of the output."""
        turned = tuple(axis for axis, flip in zip((-2, -1), self.flips, strict=True) if flip)
        values = np.flip(values, turned) if turned else values
        return values if members_first else np.moveaxis(values, -3, 0)


def onto(fine: xr.DataArray, field: xr.DataArray, file: str, factor: Factor) -> Domain:
    """The blocks of the cells of ``fine``, at its times where these are among those of the coarse ``field``.

    A grid without times, or with others altogether, has those of the coarse field. Cells at the ends that do not fill a
    block are left out, and so are times that the coarse field does not cover.

    Args:
        fine: ([realization,] time, y, x); nothing but its coordinates is read.
        field: the coarse field (time, y, x).
        file: where that is from, for messages.
        factor: from coarse to fine.

    Raises:
        InputError: if both have no place in common, or the grid is smaller than a block.
    """
    fine = fine.isel(realization=0, drop=True) if "realization" in fine.dims else fine
    size = {dim: fine.sizes[dim] // n * n for dim, n in zip(fine.dims[-2:], (factor.y, factor.x), strict=True)}
    if 0 in size.values():
        raise InputError(
            f"the grid of --onto has {fine.sizes[fine.dims[-2]]} x {fine.sizes[fine.dims[-1]]} cells, fewer than a "
            f"block of the factor {factor}: name a larger one"
        )
    fine = fine.isel({dim: slice(n) for dim, n in size.items()})
    template = _in_common(fine, Source(field, False, file), factor) if _same_years(fine, field) else None
    if template is None:
        template = _at_times_of(fine, field, factor)
        covered(Source(field, False, file), template)
    # Others, such as longitudes of each cell, are the output's and not those of blocks.
    along = template.drop_vars([name for name, c in template.coords.items() if len(c.dims) > 1])
    shape = [n // f for n, f in zip(template.shape, factor, strict=True)]
    return Domain(_empty(template, shape, relabel.coarsened_coords(along, factor)), factor, template)


def _same_years(fine: xr.DataArray, field: xr.DataArray) -> bool:
    """Whether both have times, and some of them in common."""
    if any(da.dims[-3] not in da.coords for da in (fine, field)):
        return False
    mine, wanted = cells(field), cells(fine)
    if mine.calendar != wanted.calendar:
        return False
    return bool(min(mine.high.max(), wanted.high.max()) > max(mine.low.min(), wanted.low.min()))


def _in_common(fine: xr.DataArray, source: Source, factor: Factor) -> xr.DataArray:
    """The frames of the fine grid that the coarse field covers, whole intervals of the factor."""
    frames = np.flatnonzero(covered(source, fine))
    if frames.size < factor.time:
        raise InputError(
            f"{source.file} covers {frames.size} frames of the grid of --onto, fewer than the factor {factor} makes of "
            "one: give more times"
        )
    return fine[frames[: frames.size // factor.time * factor.time]]


def _at_times_of(fine: xr.DataArray, field: xr.DataArray, factor: Factor) -> xr.DataArray:
    """The fine grid at the times of the coarse field, refined."""
    if fine.dims[-3] in fine.coords and fine.sizes[fine.dims[-3]] > 1:
        warnings.warn(
            f"the grid of --onto has other times than {field.name}: those of {field.name} are kept",
            Notice,
            stacklevel=4,
        )
    time, (y, x) = field.dims[-3], fine.dims[-2:]
    line = field.isel({dim: slice(1) for dim in field.dims[-2:]})
    times = relabel.refined_coords(line, Factor(factor.time))
    own = {name: c.variable for name, c in fine.coords.items() if fine.dims[-3] not in c.dims and c.dims}
    own |= {name: v for name, v in times.items() if v.dims and v.dims[0] == time}
    mapping = fine.encoding.get("grid_mapping", fine.attrs.get("grid_mapping"))
    own |= {mapping: fine[mapping].variable} if mapping in fine.coords else {}
    like = fine.rename({fine.dims[-3]: time}) if fine.dims[-3] != time else fine
    shape = (field.sizes[time] * factor.time, fine.sizes[y], fine.sizes[x])
    return _empty(like, shape, own)


def _empty(like: xr.DataArray, shape: Sequence[int], coords: dict[Hashable, xr.Variable]) -> xr.DataArray:
    """A field with the name and dimensions of another, given coordinates, and no values that take memory."""
    plain = {name: variable for name, variable in coords.items() if "bnds" not in variable.dims}
    values = np.broadcast_to(np.float32(0), tuple(shape))
    found = xr.DataArray(values, plain, like.dims, like.name)
    found.encoding = {key: value for key, value in like.encoding.items() if key == "grid_mapping"}
    found.attrs = {key: value for key, value in like.attrs.items() if key == "grid_mapping"}
    return coordinates.with_bounds(found, xr.Dataset(coords=coords))
