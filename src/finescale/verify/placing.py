"""A field on the cells, blocks and times of an ensemble: flipped, cut and matched, never interpolated."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import xarray as xr

from finescale.errors import InputError
from finescale.grids import coordinates, relabel
from finescale.grids.dimensions import texts
from finescale.grids.factor import Factor, check_divisible
from finescale.scores.cells import Array


def on_cells(da: xr.DataArray, like: xr.DataArray, what: str) -> xr.DataArray:
    """``da`` on the cells of ``like``: flipped and cut as needed.

    Raises:
        InputError: if the cells are not the same.
    """
    mine, wanted = coordinates.read_grid(da), coordinates.read_grid(like)
    if mine.crs and wanted.crs and mine.crs != wanted.crs:
        raise InputError(
            f"{what} is on a {mine.crs} grid, but the ensemble on a {wanted.crs} grid: reproject one of them"
        )
    for axis, dim, target in zip(("y", "x"), da.dims[-2:], like.dims[-2:], strict=True):
        ours, theirs = getattr(mine, axis), getattr(wanted, axis)
        if (ours[1] > ours[0]) != (theirs[1] > theirs[0]):
            da, ours = da.isel({dim: slice(None, None, -1)}), ours[::-1]
        start = int(np.abs(ours - theirs[0]).argmin())
        part = ours[start : start + theirs.size]
        if part.size != theirs.size or not np.allclose(part, theirs, rtol=0, atol=1e-2 * np.abs(np.diff(theirs)).min()):
            raise InputError(
                f"{what} and the ensemble are not on the same cells: along {axis} {what} has {_describe(ours)}, "
                f"the ensemble {_describe(theirs)}; give --regrid, or crop one to the other first"
            )
        da = da.isel({dim: slice(start, start + theirs.size - 1)})
        da = da.drop_vars([name for name in da.coords if dim in da[name].dims])
        if dim != target:
            da = da.rename({dim: target})
        da = da.assign_coords({name: c for name, c in like.coords.items() if c.dims == (target,)})
    return da


def common_times(
    ens: xr.DataArray, other: xr.DataArray, what: str, notes: list[str]
) -> tuple[xr.DataArray, xr.DataArray]:
    """Both cut to the times they share; by position where one has no times and their number is the same.

    Raises:
        InputError: if no time is shared.
    """
    dim, theirs = ens.dims[1], other.dims[-3]
    if dim not in ens.coords or theirs not in other.coords:
        if ens.sizes[dim] != other.sizes[theirs]:
            raise InputError(
                f"{what} has {other.sizes[theirs]} times and the ensemble {ens.sizes[dim]}, and not both say when: "
                "add time coordinates"
            )
        notes.append(f"Times of {what} were matched by position, because one file has no time coordinate.")
        return ens, _rename(other, theirs, dim)
    mine, place = texts(ens[dim]), {key: i for i, key in enumerate(texts(other[theirs]))}
    keep = [i for i, key in enumerate(mine) if key in place]
    if not keep:
        raise InputError(
            f"the ensemble ({mine[0]} to {mine[-1]}) and {what} ({next(iter(place))} to {next(reversed(place))}) have "
            "no time in common"
        )
    if len(keep) < len(mine):
        notes.append(f"{len(keep)} of the ensemble's {len(mine)} times are scored: {what} has no others.")
    chosen = other.isel({theirs: [place[mine[i]] for i in keep]})
    return ens.isel({dim: keep}), _rename(chosen, theirs, dim)


def on_coarse(coarse: xr.DataArray, ens: xr.DataArray, factor: Factor) -> xr.DataArray:
    """The coarse field on the blocks of the ensemble's cells, for the ensemble's times.

    Raises:
        InputError: if the coarse cells are not those blocks, or times do not match.
    """
    like = xr.DataArray(np.zeros((1, 1, 1)), dims=ens.dims[1:])
    check_divisible((ens.shape[1], ens.shape[2], ens.shape[3]), factor)
    blocks = relabel.coarsened_coords(ens[0].isel({ens.dims[1]: slice(0, 1)}), Factor(1, y=factor.y, x=factor.x))
    shape = (1, ens.shape[2] // factor.y, ens.shape[3] // factor.x)
    keep = {name: v for name, v in blocks.items() if v.dims and set(v.dims) <= set(like.dims[1:])}
    like = xr.DataArray(np.zeros(shape), keep, like.dims)
    scalars = {name: v for name, v in ens.coords.items() if v.ndim == 0}
    coarse = on_cells(coarse, like.assign_coords(scalars), "the coarse field")
    dim, own = ens.dims[1], coarse.dims[0]
    frames = ens.shape[1] // factor.time
    if factor.time == 1 and dim in ens.coords and own in coarse.coords:
        place = {key: i for i, key in enumerate(texts(coarse[own]))}
        missing = [key for key in texts(ens[dim]) if key not in place]
        if missing:
            raise InputError(f"the coarse field lacks {len(missing)} of the ensemble's times, such as {missing[0]}")
        return coarse.isel({own: [place[key] for key in texts(ens[dim])]})
    if coarse.sizes[own] != frames:
        raise InputError(
            f"with the factor {factor}, {ens.shape[1]} scored times need {frames} coarse ones, but the coarse "
            f"field has {coarse.sizes[own]}"
        )
    return coarse


def _rename(da: xr.DataArray, old: Hashable, new: Hashable) -> xr.DataArray:
    return da if old == new else da.rename({old: new})


def _describe(edges: Array) -> str:
    low, high = sorted((edges[0], edges[-1]))
    return f"{edges.size - 1} cells of {abs(edges[-1] - edges[0]) / (edges.size - 1):.6g} from {low:.6g} to {high:.6g}"
