"""A field brought to other cells by area-weighted means (first-order conservative, Jones 1999), along y and x apart.

With W_y (new rows, old rows) and W_x (new columns, old columns) the lengths of overlap of new cells with old ones, and
v = 1 where the field f is known, 0 elsewhere:

    f' = W_y (f v) W_xᵀ / W_y v W_xᵀ,    unknown where less than half of a new cell is covered by known old ones

On latitude–longitude grids lengths along y are differences of sin φ, so that products are areas. A finer field is
averaged; a coarser one is repeated, not interpolated: no detail is made up that would count as truth.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.errors import InputError
from finescale.grids import coordinates
from finescale.grids.grid import Grid

Array = NDArray[np.float64]


def overlap(old: Array, new: Array) -> Array:
    """Lengths (new, old) of overlap of cells given by their edges, in either direction."""
    low_old, high_old = np.minimum(old[1:], old[:-1]), np.maximum(old[1:], old[:-1])
    low_new, high_new = np.minimum(new[1:], new[:-1]), np.maximum(new[1:], new[:-1])
    return np.clip(np.minimum.outer(high_new, high_old) - np.maximum.outer(low_new, low_old), 0.0, None)


def regrid(da: xr.DataArray, like: xr.DataArray, what: str = "the field") -> xr.DataArray:
    """``da`` (…, y, x) on the cells of ``like``.

    Raises:
        InputError: if both cover no common area, or one is in degrees and the other is not.
    """
    from scipy import sparse

    mine, wanted = coordinates.read_grid(da), coordinates.read_grid(like)
    if mine.geographic != wanted.geographic or (mine.crs and wanted.crs and mine.crs != wanted.crs):
        raise InputError(f"{what} is in another projection than the ensemble: bring it to the ensemble's first")
    rows = sparse.csr_array(overlap(_metric(mine), _metric(wanted)))
    columns = sparse.csr_array(overlap(mine.x, wanted.x))
    if rows.nnz == 0 or columns.nnz == 0:
        raise InputError(f"{what} and the ensemble cover no common area: are both coordinates in the same units?")
    whole = np.outer(np.abs(np.diff(_metric(wanted))), np.abs(np.diff(wanted.x)))

    def one(field: Array) -> Array:
        known = np.isfinite(field)
        weight = rows @ known.astype(np.float64) @ columns.T
        total = rows @ np.where(known, field, 0.0) @ columns.T
        enough = weight >= 0.5 * whole
        return np.where(enough, total / np.where(enough, weight, 1.0), np.nan).astype(field.dtype)

    values = da.values.astype(np.result_type(da.dtype, np.float32), copy=False)
    fields = np.stack([one(f) for f in values.reshape(-1, *values.shape[-2:])])
    y, x = like.dims[-2:]
    spatial = set(da.dims[-2:])
    kept = {name: c for name, c in da.coords.items() if not spatial & set(c.dims)}
    placed = {name: c for name, c in like.coords.items() if c.dims in ((y,), (x,))}
    shape = (*values.shape[:-2], *like.shape[-2:])
    return xr.DataArray(fields.reshape(shape), {**kept, **placed}, (*da.dims[:-2], y, x), da.name, da.attrs)


def _metric(grid: Grid) -> Array:
    """Edges along y in which lengths times those along x are areas."""
    return np.sin(np.deg2rad(grid.y)) if grid.geographic else grid.y
