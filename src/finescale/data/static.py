"""Fields that do not change in time, such as elevation or a land mask, on the cells of any grid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.files import open_field
from finescale.errors import InputError
from finescale.grids.coordinates import increasing

Array = NDArray[np.float32]


class StaticFields:
    """Static fields that are interpolated linearly to cell centres when they are asked for.

    Args:
        paths: files with one gridded field each; of several times the first counts.
        names: the fields that are wanted, in this order; None for all, in the order of the files.

    Raises:
        InputError: if a field is missing or given twice.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path], names: Sequence[str] | None = None) -> None:
        listed = [paths] if isinstance(paths, str | Path) else list(paths)
        fields = [increasing(open_field(path))[0] for path in listed]
        found = {str(field.name): field for field in fields}
        if len(found) < len(fields):
            raise InputError(f"static fields need different names, not {', '.join(str(f.name) for f in fields)}")
        missing = [name for name in names or () if name not in found]
        if missing:
            raise InputError(
                f"the model was trained with the static field {missing[0]}, but {', '.join(found) or 'none'} is given: "
                "name a file that holds it with --static"
            )
        self.fields = [found[name] for name in (names if names is not None else found)]

    @property
    def names(self) -> list[str]:
        """Names of the fields."""
        return [str(field.name) for field in self.fields]

    def at(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> Array:
        """(S, H, W) at the cell centres y (H,) and x (W,), both increasing; NaN outside the field.

        Raises:
            InputError: if the fields and the cells do not overlap.
        """
        out = np.stack([_interpolated(field, {field.dims[0]: y, field.dims[1]: x}) for field in self.fields])
        if not np.isfinite(out).any():
            raise InputError(
                f"the static fields {', '.join(self.names)} do not cover y {y[0]:g} to {y[-1]:g}, "
                f"x {x[0]:g} to {x[-1]:g}"
            )
        return out


def _interpolated(field: xr.DataArray, centres: Mapping[Hashable, NDArray[np.float64]]) -> Array:
    near, places = {}, {}
    for dim, values in centres.items():
        own = field[dim].values.astype(np.float64)
        step = float(np.abs(np.diff(own)).mean()) if own.size > 1 else 1.0
        inside = np.flatnonzero((own >= values[0] - step) & (own <= values[-1] + step))
        if inside.size == 0:
            return np.full([len(v) for v in centres.values()], np.nan, dtype=np.float32)
        near[dim] = slice(int(inside[0]), int(inside[-1]) + 1)
        # A centre less than half a cell beyond the outermost one lies in its cell.
        edge = np.clip(values, own[0], own[-1])
        places[dim] = np.where(np.abs(values - edge) <= 0.5 * step, edge, values)
    part = field.isel(near).astype(np.float64).load()
    return np.asarray(part.interp(places).values, dtype=np.float32)
