"""What a prediction writes: variables, their shapes, coordinates and attributes, and what identifies the run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from finescale.data.store import history
from finescale.grids import coordinates
from finescale.grids.factor import Factor
from finescale.grids.grid import Grid
from finescale.grids.windows import Triple, Window
from finescale.inference.request import Model, Settings, Spreading

Note = list[float]
"""Of a finished task: max |A x - c|, max |c|, and max |A x - c| before the constraint, in the input's units."""


@dataclass(frozen=True)
class Product:
    """The output of a prediction.

    Args:
        model: a downscaler.
        coarse: the field in its own units and order.
        attrs_in: global attributes of its store.
        settings: what is asked.
        spreading: the spread that is asked for besides members.
        grid: the coarse grid, y and x increasing.
        windows: how it is cut.
        batch: members sampled at once; 0 without members.
    """

    model: Model
    coarse: xr.DataArray
    attrs_in: Mapping[Any, Any]
    settings: Settings
    spreading: Spreading | None
    grid: Grid
    windows: Sequence[Window]
    batch: int

    @property
    def name(self) -> str:
        """The variable's name."""
        return str(self.coarse.name) if self.coarse.name is not None else "field"

    @property
    def leading(self) -> dict[str, dict[str, int]]:
        """Of every variable of the output the dimensions before (time, y, x), and their lengths."""
        found = {self.name: {"realization": self.settings.members} if self.settings.members else {}}
        return found | ({} if self.spreading is None else self.spreading.leading(self.name))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every variable of the output."""
        cells = [n * f for n, f in zip(self.grid.shape, self.model.factor, strict=True)]
        return {name: (*before.values(), *cells) for name, before in self.leading.items()}

    @property
    def chunks(self) -> dict[str, tuple[int, ...]]:
        """One member of one window's core."""
        cells = [c.stop - c.start for c in self.windows[0].scaled(triple(self.model.factor))[0]]
        return {name: (*(1 for _ in before), *cells) for name, before in self.leading.items()}

    @cached_property
    def model_hash(self) -> str:
        """The first digits of a hash of the model's weights and settings."""
        digest = hashlib.sha256(repr(getattr(self.model, "config", None)).encode())
        state = self.model.state_dict() if isinstance(self.model, torch.nn.Module) else {}
        for name, value in sorted(state.items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must not change between an interruption and its resumption."""
        digest = hashlib.sha256()
        for edges in (self.grid.time, self.grid.y, self.grid.x):
            digest.update(edges.tobytes())
        for frame in (0, -1):
            digest.update(np.ascontiguousarray(self.coarse[frame].values).tobytes())
        first, s = self.windows[0], self.settings
        return {
            "model": self.model_hash,
            "input": digest.hexdigest()[:16],
            "shape": list(self.grid.shape),
            "variable": str(self.coarse.name),
            "members": s.members,
            "seed": s.seed,
            "steps": s.steps,
            "batch": self.batch,
            "variance": None if self.spreading is None else self.spreading.source,
            "windows": len(self.windows),
            "first window": [[c.stop for c in first.core], [r.stop for r in first.read]],
        }

    def template(self, values: Mapping[str, NDArray[np.float32]] | None = None) -> xr.Dataset:
        """The output's dataset, with ``values`` or lazy emptiness."""
        data: Mapping[str, Any] | None = values
        if data is None:
            import dask.array

            chunks = self.chunks
            data = {n: dask.array.empty(s, dtype="float32", chunks=chunks[n]) for n, s in self.shapes.items()}
        s, coords = self.settings, coordinates.refined_coords(self.coarse, self.model.factor)
        if s.members:
            coords["realization"] = coordinates.realization(np.arange(s.members))
        attrs = dict(self.coarse.attrs)
        mapping = self.coarse.encoding.get("grid_mapping")
        if mapping in self.coarse.coords:
            attrs.setdefault("grid_mapping", mapping)
        described, asked = {self.name: attrs}, f"downscale --members {s.members} --seed {s.seed}"
        if self.spreading is not None:
            described, asked = self.spreading.described(self.name, attrs), f"{asked} --variance {self.spreading.source}"
            coords.update(self.spreading.coords)
        variables = {n: ((*before, *self.coarse.dims), data[n], described[n]) for n, before in self.leading.items()}
        return xr.Dataset(variables, coords=coords, attrs=dict(self.attrs_in)).assign_attrs(
            finescale_factor=str(self.model.factor),
            finescale_model=self.model_hash,
            finescale_seed=s.seed,
            history=history(self.attrs_in, asked),
        )

    def attrs(self, notes: Iterable[Note]) -> dict[str, float]:
        """The conservation residual over all tasks, max |A x - c| / max |c|, after and before the constraint."""
        worst, largest, before = np.max([*notes, [0.0, 0.0, 0.0]], axis=0)
        scale = largest if largest > 0 else 1.0
        found = {"finescale_conservation_residual": float(worst / scale)}
        return found | ({"finescale_conservation_residual_before": float(before / scale)} if self.batch else {})


def triple(factor: Factor) -> Triple:
    """A factor as (t, y, x)."""
    return factor.time, factor.y, factor.x
