"""Fields that do not change in time, such as elevation or a land mask, on the cells of any grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.blocks import Blocks, cells
from finescale.data.files import gridded, open_store, select
from finescale.data.placing import placing
from finescale.errors import InputError
from finescale.grids.coordinates import increasing
from finescale.grids.grid import Grid

Array = NDArray[np.float32]


class StaticFields:
    """Static fields that are brought to the cells they are asked for on: means of finer ones, coarser interpolated.

    Args:
        paths: files with gridded fields; of several times the first counts.
        names: the fields that are wanted, in this order; None for all, in the order of the files.

    Raises:
        InputError: if a field is missing or given twice.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path], names: Sequence[str] | None = None) -> None:
        listed = [paths] if isinstance(paths, str | Path) else list(paths)
        fields = []
        for path in listed:
            store = open_store(path)
            there = [str(name) for name in gridded(store)]
            chosen = [name for name in there if names is None or name in names] or there
            if not chosen:
                select(store, None, str(path))  # which says what it holds instead
            fields += [increasing(select(store, name, str(path)))[0] for name in chosen]
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

    def at(self, grid: Grid) -> Array:
        """(S, H, W) on the cells of a grid, y and x increasing; NaN outside a field.

        Raises:
            InputError: if the fields and the cells do not overlap, or are on grids that are not related.
        """
        always = np.zeros(1), np.ones(1)
        wanted = Blocks(*always, None, "", grid.y, grid.x, grid.crs)
        out = np.stack([self._placed(name, field, wanted) for name, field in zip(self.names, self.fields, strict=True)])
        if not np.isfinite(out).any():
            raise InputError(
                f"the static fields {', '.join(self.names)} do not cover y {grid.y[0]:g} to {grid.y[-1]:g}, "
                f"x {grid.x[0]:g} to {grid.x[-1]:g}"
            )
        return out

    def _placed(self, name: str, field: xr.DataArray, wanted: Blocks) -> Array:
        found = placing(field, cells(field.expand_dims("time")), wanted, True, f"the static field {name}")
        box = found.box
        if box is None:
            return np.full((wanted.y.size - 1, wanted.x.size - 1), np.nan, dtype=np.float32)
        part = np.asarray(field[box].values, dtype=np.float64)
        known = np.isfinite(part)
        share, total = (found.apply(values.astype(np.float64), box) for values in (known, np.where(known, part, 0.0)))
        return np.where(share >= 0.5, total / np.where(share > 0, share, 1.0), np.nan).astype(np.float32)
