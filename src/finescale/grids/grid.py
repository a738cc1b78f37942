"""A grid: cell edges along time, y and x.

A fine grid of shape (T, H, W) and a coarse grid of shape (t, h, w) belong together when a `Factor` (ft, fy, fx) of
whole numbers joins them: T = ft·t, H = fy·h, W = fx·w, and every ft-th, fy-th, fx-th fine cell edge is a coarse one.
Time is an axis like the others. This module knows numpy only: no files, no tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from finescale.errors import InputError
from finescale.grids.factor import Factor, check_divisible

Edges = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """Cell edges along time, y and x; a frozen value.

    Attributes:
        time: T + 1 edges in seconds of any epoch, strictly increasing.
        y: H + 1 edges, in degrees of latitude or metres, strictly increasing or decreasing.
        x: W + 1 edges, in degrees of longitude or metres, strictly increasing or decreasing.
        crs: ``"latlon"`` for geographic coordinates and ``"rotated_latitude_longitude"`` for those of a rotated pole
            (cell areas shrink with cos φ), otherwise any name; areas are then Δx·Δy.
        area: areas (H, W) of cells that y and x do not tell, up to a constant; None where they do.

    Example:
        >>> from finescale import Factor, Grid
        >>> fine = Grid.regular((4, 16, 24), steps=(300.0, 1000.0, 1000.0))
        >>> fine.coarsen(Factor(space=8)).shape
        (4, 2, 3)
    """

    time: Edges
    y: Edges
    x: Edges
    crs: str = ""
    area: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        for axis in ("time", "y", "x"):
            edges = np.array(getattr(self, axis), dtype=np.float64)
            steps = np.diff(edges)
            if edges.ndim != 1 or edges.size < 2 or not (np.all(steps > 0) or np.all(steps < 0)):
                raise InputError(f"the cell edges along {axis} must be at least two strictly monotonic numbers")
            edges.setflags(write=False)
            object.__setattr__(self, axis, edges)

    @classmethod
    def regular(
        cls, shape: tuple[int, int, int], steps: tuple[float, float, float] = (1.0, 1.0, 1.0), crs: str = ""
    ) -> Grid:
        """A grid of (T, H, W) equal cells that starts at the origin."""
        time, y, x = (np.arange(n + 1, dtype=np.float64) * step for n, step in zip(shape, steps, strict=True))
        return cls(time, y, x, crs)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""
        return self.time.size - 1, self.y.size - 1, self.x.size - 1

    @property
    def geographic(self) -> bool:
        return self.crs == "latlon"

    @property
    def spherical(self) -> bool:
        """Whether y and x are degrees on a sphere, about its own pole or another."""
        return self.geographic or self.crs == "rotated_latitude_longitude"

    @property
    def uniform(self) -> bool:
        """Whether all cells of a size in y and x count the same."""
        return self.area is None and not self.spherical

    @property
    def cell_sides(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Δ(sin φ) on a sphere, Δy otherwise, of each row (H,), and Δx of each column (W,)."""
        y = np.sin(np.deg2rad(np.clip(self.y, -90.0, 90.0))) if self.spherical else self.y
        return np.abs(np.diff(y)), np.abs(np.diff(self.x))

    @cached_property
    def cell_area(self) -> NDArray[np.float64]:
        """Cell areas (H, W) up to a constant: those given, or Δx·Δ(sin φ) on a sphere, Δx·Δy otherwise."""
        if self.area is not None:
            return np.asarray(self.area / self.area.mean())
        rows, columns = self.cell_sides
        area = rows[:, None] * columns[None, :]
        return area / area.mean()

    def coarsen(self, factor: Factor) -> Grid:
        """The grid of blocks of ``factor`` cells.

        Raises:
            InputError: if the shape is not divisible; the message names the crop that would be.
        """
        check_divisible(self.shape, factor)
        area = None if self.area is None else summed(self.area, factor)
        return Grid(self.time[:: factor.time], self.y[:: factor.y], self.x[:: factor.x], self.crs, area)

    def refine(self, factor: Factor) -> Grid:
        """The grid whose blocks of ``factor`` cells are this grid's cells (edges evenly spaced within each cell)."""
        sides = zip((self.time, self.y, self.x), factor, strict=True)
        time, y, x = (_split(edges, parts) for edges, parts in sides)
        return Grid(time, y, x, self.crs, None if self.area is None else shared(self.area, factor))

    def window(self, t: slice, y: slice, x: slice) -> Grid:
        """The cells selected by three slices of step 1."""
        sides = []
        for edges, cut in ((self.time, t), (self.y, y), (self.x, x)):
            start, stop, _ = cut.indices(edges.size - 1)
            sides.append(edges[start : stop + 1])
        area = None if self.area is None else self.area[y, x]
        return Grid(sides[0], sides[1], sides[2], self.crs, area)

    def matches(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both have the same spatial edges, to ``tolerance`` of a cell."""
        return all(
            a.size == b.size and np.allclose(a, b, rtol=0, atol=tolerance * np.abs(np.diff(a)).min())
            for a, b in ((self.y, other.y), (self.x, other.x))
        )


def inside(grid: Grid, part: Grid, tolerance: float = 1e-3) -> tuple[slice, slice] | None:
    """The rows and columns of a grid that are the cells of another, to ``tolerance`` of a cell; None if they are not.

    Both have y and x increasing; longitudes may differ by whole turns.
    """
    if grid.crs != part.crs:
        return None
    found = []
    for edges, wanted, turns in ((grid.y, part.y, False), (grid.x, part.x, grid.geographic)):
        step = np.abs(np.diff(wanted)).min()
        turn = 360.0 * np.round((edges.mean() - wanted.mean()) / 360.0) if turns else 0.0
        for shift in (turn, *((turn - 360.0, turn + 360.0) if turns else ())):
            start = int(np.abs(edges - (wanted[0] + shift)).argmin())
            same = edges[start : start + wanted.size]
            if same.size == wanted.size and np.allclose(same, wanted + shift, rtol=0, atol=tolerance * step):
                found.append(slice(start, start + wanted.size - 1))
                break
        else:
            return None
    return found[0], found[1]


def shared(area: NDArray[np.float64], factor: Factor) -> NDArray[np.float64]:
    """Areas of the parts of cells, which share each cell's area equally."""
    return np.asarray(np.repeat(np.repeat(area, factor.y, 0), factor.x, 1) / (factor.y * factor.x))


def summed(area: NDArray[np.float64], factor: Factor) -> NDArray[np.float64]:
    """Areas of blocks."""
    h, w = area.shape
    return np.asarray(area.reshape(h // factor.y, factor.y, w // factor.x, factor.x).sum(axis=(1, 3)))


def goes_round(grid: Grid) -> bool:
    """Whether longitudes close to a circle."""
    return grid.geographic and bool(abs(abs(grid.x[-1] - grid.x[0]) - 360.0) < 1e-3 * abs(grid.x[1] - grid.x[0]))


def _split(edges: Edges, parts: int) -> Edges:
    fractions = np.arange(parts) / parts
    inner = edges[:-1, None] + np.diff(edges)[:, None] * fractions
    return np.append(inner.ravel(), edges[-1])


def cell_size(grid: Grid) -> tuple[float, float]:
    """Mean (dy, dx) in metres on latitude and longitude (at the mean latitude), else in units of the coordinates."""
    dy, dx = (float(np.abs(np.diff(e)).mean()) for e in (grid.y, grid.x))
    if not grid.spherical:
        return dy, dx
    metres = np.pi / 180 * 6_371_000.0
    return dy * metres, dx * metres * float(np.cos(np.deg2rad((grid.y[0] + grid.y[-1]) / 2)))


def cell_bands(grid: Grid) -> tuple[tuple[int, int, tuple[float, float]], ...]:
    """(first row, last row + 1, (dy, dx)) of bands of rows whose cells are within a tenth of each other in size.

    Empty where one band holds all. A band has at least 32 rows, or there would be few wavenumbers left in it.
    """
    dy, dx = np.abs(np.diff(grid.y)), np.full(grid.y.size - 1, np.abs(np.diff(grid.x)).mean())
    if grid.spherical:
        metres = np.pi / 180 * 6_371_000.0
        dy, dx = dy * metres, dx * metres * np.cos(np.deg2rad((grid.y[1:] + grid.y[:-1]) / 2))
    cuts = [0]
    for row in range(dy.size):
        part = slice(cuts[-1], row + 1)
        if (
            row - cuts[-1] >= 32
            and dy.size - row >= 32
            and max(np.ptp(np.log(dy[part])), np.ptp(np.log(dx[part]))) > 0.1
        ):
            cuts.append(row)
    if len(cuts) == 1:
        return ()
    pairs = zip(cuts, [*cuts[1:], dy.size], strict=True)
    return tuple((a, b, (float(dy[a:b].mean()), float(dx[a:b].mean()))) for a, b in pairs)
