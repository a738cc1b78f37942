"""The only crossing between labelled arrays (xarray) and tensors (torch)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from finescale import axes
from finescale.errors import InputError


def to_tensor(da: xr.DataArray, dtype: torch.dtype = torch.float32) -> Tensor:
    """The values of ``da`` as (M or 1, 1, T, H, W), read into memory; missing values are NaN.

    Args:
        da: any field with y and x, and perhaps time and members.
        dtype: float32, or float64 to keep double precision.

    Raises:
        InputError: if the dimensions are not understood or the values are not numbers.
    """
    da = axes.canonical(da)
    if da.dtype.kind not in "fiub":
        raise InputError(f"variable {da.name} holds {da.dtype} values, not numbers")
    values = np.ascontiguousarray(da.values, dtype=np.float64 if dtype == torch.float64 else np.float32)
    if not values.flags.writeable:
        values = values.copy()
    tensor = torch.from_numpy(values)
    return (tensor if da.ndim == 4 else tensor[None])[:, None].to(dtype)


def to_dataarray(
    fine: Tensor,
    dims: tuple[Hashable, Hashable, Hashable],
    coords: Mapping[Hashable, Any] | None = None,
    name: Hashable | None = None,
    attrs: Mapping[str, Any] | None = None,
    first_member: int = 0,
) -> xr.DataArray:
    """A tensor (M, T, H, W) as (realization, time, y, x) with the members numbered from ``first_member``.

    Args:
        fine: the ensemble; (T, H, W) makes a field without members.
        dims: the names of the time, y and x dimensions.
        coords: coordinates, as `axes.refined_coords` gives them; bounds are left out, for a DataArray cannot carry
            them.
        name: the variable's name.
        attrs: the variable's attributes.
        first_member: number of the first member.
    """
    values = fine.detach().cpu().numpy()
    names = (("realization",) if values.ndim == 4 else ()) + tuple(dims)
    held = {key: c for key, c in (coords or {}).items() if set(getattr(c, "dims", ())) <= set(names)}
    if values.ndim == 4:
        held["realization"] = axes.realization(np.arange(first_member, first_member + values.shape[0]))
    return xr.DataArray(values, dims=names, coords=held, name=name, attrs=dict(attrs or {}))
