"""Which fine cells are valid: those of a mask that is given, or of one that the model remembers of its training.

A cell of a mask file is valid where its value is known and above 0 (or True); of several times the first counts. The
mask lies on the fine grid of the output, or on a larger one that has its cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.files import open_store, select
from finescale.errors import InputError
from finescale.grids import coordinates
from finescale.grids.grid import inside
from finescale.inference.domain import Domain
from finescale.inference.request import Model

File = str | Path | xr.Dataset | xr.DataArray


@dataclass(frozen=True, eq=False)
class Mask:
    """Where fine cells are valid.

    Attributes:
        valid: (C, H, W) for every variable, or (1, H, W) for all; y and x increasing.
        text: what an output says of it.
    """

    valid: NDArray[np.bool_]
    text: str


def mask_of(model: Model, domain: Domain, file: File | None) -> Mask | None:
    """The mask of a prediction: that of a file, or else the model's own where it was trained on these cells.

    Raises:
        InputError: for a file that has not these cells, or none that is valid.
    """
    if file is None:
        known = model.masks.at(domain.fine)
        share = "" if known is None else f"{1 - known.mean():.1%}"
        text = f"the cells that were missing in all of the training data are missing, {share} of them"
        return None if known is None else Mask(known, text)
    name, field = _opened(file)
    valid = np.isfinite(field.values) & (field.values > 0)
    if any(dim in domain.coarse.coords or dim in field.coords for dim in field.dims[-2:]):
        found = inside(coordinates.read_grid(field), domain.fine)
    else:
        found = (slice(None), slice(None)) if valid.shape[1:] == domain.fine.shape[1:] else None
    if found is None:
        grid = domain.fine
        raise InputError(
            f"{name} lies on other cells than the output, which has {grid.shape[1]} x {grid.shape[2]} from y "
            f"{grid.y[0]:g} to {grid.y[-1]:g}, x {grid.x[0]:g} to {grid.x[-1]:g}: --mask takes a field on these, or on "
            "a larger grid that has them"
        )
    valid = valid[:1, *found]
    if not valid.any():
        raise InputError(f"{name} masks every cell of the output: a cell counts where the mask is above 0")
    return Mask(valid, f"{1 - valid.mean():.1%} of the cells are missing, those that {name} masks (no value above 0)")


def _opened(file: File) -> tuple[str, xr.DataArray]:
    """The name of a mask and its field (time, y, x), y and x increasing."""
    name = "the mask"
    if isinstance(file, xr.DataArray):
        file = file.to_dataset(name=file.name if file.name is not None else "mask")
    if not isinstance(file, xr.Dataset):
        name, file = str(file), open_store(file, chunks=None)
    truth = {key: da.astype("int8") for key, da in file.data_vars.items() if da.dtype.kind == "b"}
    field = coordinates.increasing(select(file.assign(truth), None, name))
    return name, field.isel(realization=0) if "realization" in field.dims else field
