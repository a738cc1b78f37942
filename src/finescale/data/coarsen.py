"""Block means of files: the coarse field of a fine one, lazily, in chunks of whole blocks.

The mean of `finescale.grids.blocks.block_means`, a box of cells at a time, so that a store of any size streams
through. A block without a valid cell is missing.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Hashable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.lazy import Cache, blockwise, is_lazy, stored_chunks
from finescale.errors import InputError
from finescale.grids import coordinates, relabel
from finescale.grids.blocks import block_means
from finescale.grids.curvilinear import measured
from finescale.grids.dimensions import label
from finescale.grids.factor import Factor, check_divisible
from finescale.grids.grid import Grid

MOST_CHUNKS = 100_000
"""Of a field that is coarsened in one go: dask plans them all before it begins, in about a kilobyte each."""
BOX = (2**20, 2**24)
"""Cells that are read at a time, at least and, where there would be too many chunks, at most."""
KEPT = 2**26
"""Bytes of decoded chunks that are kept, since boxes of whole blocks do not end where chunks do."""


def coarsen(da: xr.DataArray, factor: Factor, crop: bool = False) -> xr.Dataset:
    """The area-weighted block means of ``da``, with CF bounds and cell_methods, in a dataset under the same name.

    Args:
        da: a field in any order of dimensions; the means are computed when they are asked for if it is lazy, by dask or
            by xarray.
        factor: the blocks, in time, y and x.
        crop: drop the cells at the end of each axis that do not fill a block.

    Raises:
        InputError: if the shape is not divisible by the factor (the message names the crop that is), or uneven in time.
    """
    da = coordinates.canonical(da)
    sides = da.dims[-3:]
    if crop:
        da = da.isel(
            {dim: slice(da.sizes[dim] // f * f) for dim, f in zip(sides, factor, strict=True) if da.sizes[dim] >= f}
        )
    check_divisible((da.sizes[sides[0]], da.sizes[sides[1]], da.sizes[sides[2]]), factor)
    coords = relabel.coarsened_coords(da, factor)
    grid = coordinates.read_grid(da)
    if da.chunks is not None:
        means = _lazy_means(da, grid, factor)
    elif is_lazy(da):
        means = _streamed_means(da, grid, factor)
    else:
        means = block_means(da.values, factor, grid.cell_area, np.float32)
    attrs = dict(da.attrs)
    methods = str(attrs.get("cell_methods", ""))
    for method in ("area: mean", "time: mean")[: 2 if factor.time > 1 else 1]:
        methods += "" if method in methods else f" {method}"
    attrs["cell_methods"] = methods.strip()
    mapping = da.encoding.get("grid_mapping")
    if mapping in da.coords:
        attrs.setdefault("grid_mapping", mapping)
    attrs = measured(attrs, coords)
    name: Hashable = da.name if da.name is not None else "field"
    out = xr.Dataset({name: (da.dims, means, attrs)}, coords=coords)
    return out.assign_attrs(finescale_factor=str(factor))


def _streamed_means(da: xr.DataArray, grid: Grid, factor: Factor) -> object:
    """Means of a field that xarray reads, computed by dask box by box."""
    import dask.array as dask_array

    boxes = _boxes(da, factor)
    if math.prod(map(len, boxes)) > MOST_CHUNKS:
        raise _too_many(da, math.prod(map(len, boxes)))
    source = blockwise(da, Cache(KEPT))
    starts = [np.cumsum([0, *sizes]) for sizes in boxes]

    def means(block_id: tuple[int, ...]) -> NDArray[np.float32]:
        cells = tuple(slice(int(at[i]), int(at[i + 1])) for at, i in zip(starts, block_id, strict=True))
        # Of this box alone: areas of all cells together may be larger than the memory.
        area = grid.window(slice(None), *cells[-2:]).cell_area
        return np.asarray(block_means(source[cells].values, factor, area, np.float32))

    blocks = (1,) * (da.ndim - 3) + tuple(factor)
    return dask_array.map_blocks(
        means,
        chunks=tuple(tuple(n // f for n in sizes) for sizes, f in zip(boxes, blocks, strict=True)),
        dtype="float32",
        meta=np.empty((0,) * da.ndim, np.float32),
        name=f"block-means-{uuid.uuid4().hex}",  # dask would read the file to make one
    )


def _boxes(da: xr.DataArray, factor: Factor) -> tuple[tuple[int, ...], ...]:
    """Cells of boxes along each dimension: whole blocks, about as many as the chunks on disk have, or some of them."""
    chunks = stored_chunks(da) or (1,) * (da.ndim - 1) + (da.shape[-1],)
    sizes = [max(f, n // f * f) for n, f in zip(chunks[-3:], factor, strict=True)]
    cells = min(BOX[1], max(BOX[0], 2 * da.size // MOST_CHUNKS))
    for axis in (2, 1, 0):  # along memory first
        room = max(1, cells // math.prod(sizes))
        sizes[axis] = min(sizes[axis] * room, da.shape[axis - 3])
    lead = (1,) * (da.ndim - 3)
    return tuple(
        (size,) * (n // size) + ((n % size,) if n % size else ())
        for n, size in zip(da.shape, (*lead, *sizes), strict=True)
    )


def _too_many(da: xr.DataArray, chunks: int) -> InputError:
    return InputError(
        f"{da.encoding.get('source', label(da))} has {da.size} cells in {chunks} chunks, of which {MOST_CHUNKS} "
        "can be handled at once: select a part of it"
    )


def _lazy_means(da: xr.DataArray, grid: Grid, factor: Factor) -> object:
    import dask.array as dask_array

    chunks = math.prod(map(len, da.chunks or ()))
    if chunks > MOST_CHUNKS:
        raise _too_many(da, chunks)
    # Near the chunks there are: moving to wholly different ones would hold many of them at once.
    has = dict(zip(da.dims, da.chunks or (), strict=True))
    wanted = {dim: max(f, max(has[dim]) // f * f) for dim, f in zip(da.dims[-3:], factor, strict=True)}
    chunked = da.chunk(wanted | ({da.dims[0]: 1} if da.ndim == 4 else {})).data
    out_chunks = chunked.chunks[:-3] + tuple(
        tuple(n // f for n in sizes) for sizes, f in zip(chunked.chunks[-3:], factor, strict=True)
    )
    if grid.area is not None:
        area = dask_array.from_array(grid.area, chunks=chunked.chunks[-2:])
        return dask_array.map_blocks(
            lambda x, a: block_means(x, factor, a.reshape(a.shape[-2:]), np.float32),
            chunked,
            area[(None,) * (da.ndim - 2)],
            dtype="float32",
            chunks=out_chunks,
        )
    # Rows and columns apart: areas of all cells together may be larger than the memory.
    rows, columns = (
        dask_array.from_array(sides, chunks=cells)
        for sides, cells in zip(grid.cell_sides, chunked.chunks[-2:], strict=True)
    )
    lead = (None,) * (da.ndim - 2)
    return dask_array.map_blocks(
        lambda x, dy, dx: block_means(x, factor, np.outer(dy, dx), np.float32),
        chunked,
        rows[(*lead, slice(None), None)],
        columns[(*lead, None)],
        dtype="float32",
        chunks=out_chunks,
    )
