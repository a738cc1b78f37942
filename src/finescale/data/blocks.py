"""Block means of files: the coarse field of a fine one, lazily, in chunks of whole blocks.

The same mean as `finescale.coarsen.Coarsen`, c = Σ a x / Σ a over the valid cells of a block with cell areas a, in
numpy on dask chunks, so that a store of any size streams through. A block without a valid cell is missing.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale import axes
from finescale.grid import Factor, check_divisible


def coarsen(da: xr.DataArray, factor: Factor, crop: bool = False) -> xr.Dataset:
    """The area-weighted block means of ``da``, with CF bounds and cell_methods, in a dataset under the same name.

    Args:
        da: a field in any order of dimensions; lazy if it is.
        factor: the blocks, in time, y and x.
        crop: drop the cells at the end of each axis that do not fill a block.

    Raises:
        InputError: if the shape is not divisible by the factor (the message names the crop that is), or uneven in time.
    """
    da = axes.canonical(da)
    sides = da.dims[-3:]
    if crop:
        da = da.isel(
            {dim: slice(da.sizes[dim] // f * f) for dim, f in zip(sides, factor, strict=True) if da.sizes[dim] >= f}
        )
    check_divisible((da.sizes[sides[0]], da.sizes[sides[1]], da.sizes[sides[2]]), factor)
    coords = axes.coarsened_coords(da, factor)
    area = axes.read_grid(da).cell_area
    means = _lazy_means(da, area, factor) if da.chunks is not None else block_means(da.values, area, tuple(factor))
    attrs = dict(da.attrs)
    methods = str(attrs.get("cell_methods", ""))
    for method in ("area: mean", "time: mean")[: 2 if factor.time > 1 else 1]:
        methods += "" if method in methods else f" {method}"
    attrs["cell_methods"] = methods.strip()
    mapping = da.encoding.get("grid_mapping")
    if mapping in da.coords:
        attrs.setdefault("grid_mapping", mapping)
    name: Hashable = da.name if da.name is not None else "field"
    out = xr.Dataset({name: (da.dims, means, attrs)}, coords=coords)
    return out.assign_attrs(finescale_factor=str(factor))


def block_means(
    x: NDArray[np.floating], area: NDArray[np.float64], factor: tuple[int, ...], dtype: type[np.floating] = np.float32
) -> NDArray[Any]:
    """Means of (..., T, H, W) over blocks (ft, fy, fx), weighted by ``area`` (H, W) and over cells that are not NaN."""
    x = np.asarray(x)
    sides = [side for n, f in zip(x.shape[-3:], factor, strict=True) for side in (n // f, f)]
    over = (-5, -3, -1)
    blocks = x.reshape(*x.shape[:-3], *sides).astype(np.float64, copy=False)
    valid = np.isfinite(blocks)
    weight = np.broadcast_to(area, x.shape[-3:]).reshape(sides) * valid
    total = weight.sum(axis=over)
    sums = (np.where(valid, blocks, 0.0) * weight).sum(axis=over)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, sums / total, np.nan).astype(dtype)


def _lazy_means(da: xr.DataArray, area: NDArray[np.float64], factor: Factor) -> object:
    import dask.array as dask_array

    # Near the chunks there are: moving to wholly different ones would hold many of them at once.
    has = dict(zip(da.dims, da.chunks or (), strict=True))
    wanted = {dim: max(f, max(has[dim]) // f * f) for dim, f in zip(da.dims[-3:], factor, strict=True)}
    chunked = da.chunk(wanted | ({da.dims[0]: 1} if da.ndim == 4 else {})).data
    areas = dask_array.from_array(area, chunks=chunked.chunks[-2:])[(None,) * (da.ndim - 2)]
    out = tuple(tuple(n // f for n in sizes) for sizes, f in zip(chunked.chunks[-3:], factor, strict=True))
    return dask_array.map_blocks(
        lambda x, a: block_means(x, a.reshape(a.shape[-2:]), tuple(factor)),
        chunked,
        areas,
        dtype="float32",
        chunks=chunked.chunks[:-3] + out,
    )
