"""Which members a file has, and of which coarse member each is made.

An ensemble made of K coarse members, M of each, has K·M along ``realization``, and the coarse member of each in the
coordinate ``input_realization``.
"""

from __future__ import annotations

import xarray as xr

from finescale.errors import InputError
from finescale.grids.dimensions import texts

INPUT = "input_realization"


def members(da: xr.DataArray) -> xr.DataArray:
    """``da`` with a dimension of members."""
    return da if "realization" in da.dims else da.expand_dims("realization")


def single(da: xr.DataArray, what: str) -> xr.DataArray:
    """``da`` without its dimension of members.

    Raises:
        InputError: if it has several.
    """
    fields = each(da)
    if len(fields) > 1:
        raise InputError(f"{what} has {len(fields)} members, but must be one field: are ensemble and truth swapped?")
    return fields[0]


def each(da: xr.DataArray) -> list[xr.DataArray]:
    """The members of ``da``, or itself where it has none."""
    if "realization" not in da.dims:
        return [da]
    return [da.isel(realization=k, drop=True) for k in range(da.sizes["realization"])]


def counted(ens: xr.DataArray) -> list[str]:
    """A sentence where members are made of several coarse ones."""
    inputs = _inputs(ens)
    if len(set(inputs)) < 2:
        return []
    return [f"The ensemble's {len(inputs)} members are made of {len(set(inputs))} coarse members."]


def made_of(ens: xr.DataArray, coarse: xr.DataArray, placed: list[xr.DataArray], what: str) -> xr.DataArray:
    """The coarse field (M, t, h, w) of each member.

    Args:
        ens: the ensemble.
        coarse: the coarse field with its members.
        placed: the same on the blocks of the ensemble's cells, each.
        what: the ensemble's name, for the message.

    Raises:
        InputError: if the ensemble does not say of which coarse member each of its members is made, or that is absent.
    """
    names = texts(coarse["realization"])  # numbers from 0 where the file has none
    inputs = _inputs(ens)
    absent = next((name for name in inputs if name not in names), None)
    if not inputs or absent is not None:
        lost = f"names the coarse member {absent}, which is not there" if inputs else f"has no coordinate {INPUT}"
        raise InputError(
            f"the coarse field has {len(placed)} members, but {what} {lost}: give the one coarse field it is made of"
        )
    return xr.concat([placed[names.index(name)] for name in inputs], "realization", coords="minimal", compat="override")


def _inputs(ens: xr.DataArray) -> list[str]:
    """The coarse member of each member; none where the ensemble does not say."""
    coord = ens.coords.get(INPUT)
    if coord is None or coord.dims not in ((), ("realization",)):
        return []
    return texts(coord) if coord.ndim else texts(coord.expand_dims("realization")) * ens.sizes["realization"]
