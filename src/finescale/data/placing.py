"""How values on one grid are brought to the cells of another: weights, along y and x apart where the grids allow it.

Of grids with one pair of axes, such as latitude and longitude, first-order conservative means (Jones 1999, Mon. Wea.
Rev. 127): lengths of overlap W_y (h, m) and W_x (w, l), along y of sin φ where φ is latitude. Fields that have no total
to be kept (``smooth``) are interpolated linearly where their cells are the larger ones.

A field on axes of its own (a rotated pole, a projection) that says where its cells lie, by latitudes and longitudes in
two dimensions, is brought to latitudes and longitudes by the mean of the points in a cell where there are several, or
else linearly between the three points around its centre (Delaunay triangles): near to conservative, not exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.blocks import Blocks, Numbers
from finescale.data.regrid import overlap
from finescale.errors import InputError

if TYPE_CHECKING:
    from scipy import sparse

CIRCLE = 360.0
"""Degrees of longitude."""
SEVERAL = 4
"""Points in a cell, on average, from which their mean is taken."""
Box = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Separable:
    """W_y and W_x; ``box`` holds the cells that count, None where none does."""

    y: Numbers
    x: Numbers

    @property
    def box(self) -> Box | None:
        sides = [_columns(weights) for weights in (self.y, self.x)]
        return None if sides[0] is None or sides[1] is None else (sides[0], sides[1])

    @property
    def covered(self) -> float:
        """The share of the wanted cells that a cell touches."""
        return float((self.y.sum(1) > 0).mean() * (self.x.sum(1) > 0).mean())

    def apply(self, part: Numbers, box: Box) -> Numbers:
        """(…, h, w) from the cells (…, m, l) of the box."""
        return np.asarray(self.y[:, box[0]] @ part @ self.x[:, box[1]].T)


@dataclass(frozen=True, eq=False)
class Scattered:
    """Weights (h·w, m·l) of every cell for every wanted one."""

    weights: sparse.csr_array
    shape: tuple[int, int]
    own: tuple[int, int]

    @property
    def box(self) -> Box | None:
        used = np.unique(self.weights.indices)
        rows, columns = np.unravel_index(used, self.own)
        if used.size == 0:
            return None
        return slice(int(rows.min()), int(rows.max()) + 1), slice(int(columns.min()), int(columns.max()) + 1)

    @property
    def covered(self) -> float:
        """The share of the wanted cells that have a value."""
        return float((np.diff(self.weights.indptr) > 0).mean())

    def apply(self, part: Numbers, box: Box) -> Numbers:
        """(…, h, w) from the cells (…, m, l) of the box."""
        inside = np.arange(self.own[0] * self.own[1]).reshape(self.own)[box].ravel()
        flat = part.reshape(-1, inside.size)
        return np.asarray((self.weights[:, inside] @ flat.T).T).reshape(*part.shape[:-2], *self.shape)


def placing(field: xr.DataArray, mine: Blocks, wanted: Blocks, smooth: bool, what: str) -> Separable | Scattered:
    """The weights that bring a field (…, y, x) to wanted cells.

    Args:
        field: y and x increasing.
        mine: its cells.
        wanted: the cells wanted, of any times.
        smooth: interpolate linearly where its cells are the larger ones.
        what: what errors call it.

    Raises:
        InputError: for grids that are not related.
    """
    if mine.crs == wanted.crs:
        return Separable(_along_y(mine, wanted, smooth), _along_x(mine, wanted, smooth))
    points = _points(field)
    if wanted.crs != "latlon" or points is None:
        raise InputError(
            f"{what} is on a grid of {mine.crs or 'no known projection'}, the other field on one of "
            f"{wanted.crs or 'no known projection'}: bring it to the other's first"
        )
    return _scattered(*points, wanted, field.shape[-2:])


def _along_y(mine: Blocks, wanted: Blocks, smooth: bool) -> Numbers:
    """(h, m) shares of each wanted row."""
    if smooth and _larger(mine.y, wanted.y):
        return _linear(mine.y, wanted.y)
    old, new = (np.sin(np.deg2rad(e)) if mine.crs == "latlon" else e for e in (mine.y, wanted.y))
    return overlap(old, new) / np.abs(np.diff(new))[:, None]


def _along_x(mine: Blocks, wanted: Blocks, smooth: bool) -> Numbers:
    """(w, l) shares of each wanted column; longitudes are compared on the circle."""
    linear, widths = smooth and _larger(mine.x, wanted.x), np.abs(np.diff(wanted.x))[:, None]
    if mine.crs != "latlon":
        return _linear(mine.x, wanted.x) if linear else overlap(mine.x, wanted.x) / widths
    turns = CIRCLE * (np.round((wanted.x.mean() - mine.x.mean()) / CIRCLE) + np.arange(-1, 2))
    if not linear:
        return np.sum([overlap(mine.x + turn, wanted.x) for turn in turns], axis=0) / widths
    if abs(mine.x[-1] - mine.x[0] - CIRCLE) > 1e-3 * CIRCLE:
        return np.sum([_linear(mine.x + turn, wanted.x) for turn in turns], axis=0)
    # A field around the whole circle goes on beyond its ends, where others end.
    edges = np.concatenate([mine.x[:-1] + turn for turn in turns] + [mine.x[-1:] + turns[-1]])
    return np.sum(np.split(_linear(edges, wanted.x), len(turns), axis=1), axis=0)


def _larger(old: Numbers, new: Numbers) -> bool:
    return bool(np.abs(np.diff(old)).mean() > 1.01 * np.abs(np.diff(new)).mean())


def _linear(old: Numbers, new: Numbers) -> Numbers:
    """(n, m) weights of linear interpolation from cell centres to cell centres; none beyond the outermost edges."""
    centres, wanted = 0.5 * (old[1:] + old[:-1]), 0.5 * (new[1:] + new[:-1])
    weights = np.stack([np.interp(wanted, centres, unit) for unit in np.eye(centres.size)], axis=1)
    return weights * ((wanted >= old[0]) & (wanted <= old[-1]))[:, None]


def _columns(weight: Numbers) -> slice | None:
    """The cells that count; None where none does."""
    found = np.flatnonzero(weight.any(axis=0))
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else None


def _points(field: xr.DataArray) -> tuple[Numbers, Numbers] | None:
    """Latitudes and longitudes (y, x) of the cells of a field, where it has them in two dimensions."""
    found = {}
    for name, coord in field.coords.items():
        kind = coord.attrs.get("standard_name") or {"lat": "latitude", "lon": "longitude"}.get(str(name)[:3].lower())
        if coord.ndim == 2 and kind in ("latitude", "longitude"):
            found[kind] = coord.transpose(*field.dims[-2:]).values.astype(np.float64)
    return (found["latitude"], found["longitude"]) if len(found) == 2 else None


def _scattered(lat: Numbers, lon: Numbers, wanted: Blocks, own: Sequence[int]) -> Scattered:
    """Weights from points to cells of latitude and longitude."""
    middle = 0.5 * (wanted.x[0] + wanted.x[-1])
    lat, lon = lat.ravel(), (lon.ravel() - middle + CIRCLE / 2) % CIRCLE + middle - CIRCLE / 2
    from scipy import sparse

    step = [float(np.abs(np.diff(edges)).mean()) for edges in (wanted.y, wanted.x)]
    # Points a cell and a spacing of their own around the wanted cells are all that counts.
    margin = 2 * max(*step, float(np.sqrt(np.abs(np.diff(lat.reshape(own), axis=0)).mean() ** 2 + 1e-12)))
    near = np.flatnonzero(
        (lat > min(wanted.y[0], wanted.y[-1]) - margin)
        & (lat < max(wanted.y[0], wanted.y[-1]) + margin)
        & (lon > wanted.x[0] - margin / np.cos(np.deg2rad(np.abs(wanted.y).max().clip(max=80))))
        & (lon < wanted.x[-1] + margin / np.cos(np.deg2rad(np.abs(wanted.y).max().clip(max=80))))
    )
    shape = (wanted.y.size - 1, wanted.x.size - 1)
    if near.size < 3:
        return Scattered(sparse.csr_array((shape[0] * shape[1], lat.size)), shape, (own[0], own[1]))
    rows, columns = (np.searchsorted(e, p, side="right") - 1 for e, p in ((wanted.y, lat[near]), (wanted.x, lon[near])))
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    cell = rows[inside] * shape[1] + columns[inside]
    counts = np.bincount(cell, minlength=shape[0] * shape[1])
    means = np.zeros(counts.size, dtype=bool)
    if counts.sum() >= SEVERAL * np.count_nonzero(counts):
        means = counts > 0
    y, x = (0.5 * (edges[1:] + edges[:-1]) for edges in (wanted.y, wanted.x))
    centres = np.stack([a.ravel() for a in np.meshgrid(y, x, indexing="ij")], axis=1)
    numbers, corners, shares = _triangles(np.stack([lat[near], lon[near]], axis=1), centres, ~means)
    taken = means[cell]
    i = np.concatenate([cell[taken], np.repeat(numbers, 3)])
    j = np.concatenate([near[inside][taken], near[corners.ravel()]])
    values = np.concatenate([1.0 / counts[cell[taken]], shares.ravel()])
    return Scattered(sparse.csr_array((values, (i, j)), shape=(counts.size, lat.size)), shape, (own[0], own[1]))


def _triangles(
    points: Numbers, centres: Numbers, wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Numbers]:
    """Of the wanted centres inside a triangle: their numbers, its corners (n, 3) and barycentric coordinates (n, 3)."""
    from scipy.spatial import Delaunay

    triangles = Delaunay(points)
    numbers = np.flatnonzero(wanted)
    found = triangles.find_simplex(centres[numbers])
    numbers, found = numbers[found >= 0], found[found >= 0]
    transform = triangles.transform[found]
    two = np.einsum("nij,nj->ni", transform[:, :2], centres[numbers] - transform[:, 2])
    return numbers, triangles.simplices[found].astype(np.int64), np.column_stack([two, 1 - two.sum(1)])
