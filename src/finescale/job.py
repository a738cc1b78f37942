"""One prediction cut into tasks: every window x batch of members is one.

Noise is keyed by (seed, member, absolute position), so a task is to read a window with its halo, sample, and keep the
core; a result depends neither on the order of tasks nor on an interruption. The model always sees y and x increasing,
so a field stored north to south gives the same members as the same field stored south to north; results keep the
input's order.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from finescale import axes
from finescale.data.blocks import block_means
from finescale.data.static import StaticFields
from finescale.data.store import Region, history
from finescale.data.units import conversion, convert_units
from finescale.errors import InputError, Notice
from finescale.grid import Factor, Grid
from finescale.windows import Triple, Window, cut, shifted

Note = list[float]
"""Of a finished task: max |A x - c|, max |c|, and max |A x - c| before the constraint, in the input's units."""


class Model(Protocol):
    """What prediction needs of a model, such as `finescale.downscaler.Downscaler`; lengths in coarse cells."""

    @property
    def factor(self) -> Factor: ...
    @property
    def variable(self) -> Mapping[str, str]: ...
    @property
    def multiple(self) -> Triple: ...
    @property
    def window(self) -> Triple: ...
    @property
    def halo(self) -> Triple: ...
    @property
    def context(self) -> int: ...

    def at(self, factor: Factor, force: bool = False) -> Model: ...

    def sample(
        self,
        coarse: Tensor,
        *,
        members: int,
        seed: int,
        first_member: int = 0,
        steps: int | None = None,
        origin: Triple = (0, 0, 0),
        area: Tensor | None = None,
        static: Tensor | None = None,
        gaps: list[float] | None = None,
    ) -> Tensor: ...


@dataclass(frozen=True)
class Settings:
    """What is asked of a prediction; None leaves the choice to the model."""

    members: int = 16
    seed: int = 0
    steps: int | None = None
    window: Triple | None = None
    halo: Triple | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("members", 1), ("seed", 0), ("steps", 1), ("batch", 1)):
            value = getattr(self, name)
            if value is not None and (int(value) != value or value < least):
                raise InputError(f"{name} is {value!r}, but must be a whole number of at least {least}")


@dataclass(frozen=True)
class Job:
    """One prediction, cut into tasks.

    Args:
        model: a downscaler.
        coarse: the field in its own units and order.
        attrs_in: global attributes of its store.
        settings: what is asked.
        static: static fields, for a model that takes them.
    """

    model: Model
    coarse: xr.DataArray
    attrs_in: Mapping[Any, Any]
    settings: Settings
    static: StaticFields | None = None

    @cached_property
    def grid(self) -> Grid:
        """The coarse grid, y and x increasing."""
        return axes.read_grid(self.increasing)

    @cached_property
    def increasing(self) -> xr.DataArray:
        return axes.increasing(self.coarse)

    @cached_property
    def flips(self) -> tuple[bool, bool]:
        """Whether y and x of the input decrease."""
        sides = [(self.coarse[dim], self.increasing[dim]) for dim in self.coarse.dims[-2:]]
        y, x = (bool(given[0] != turned[0]) for given, turned in sides)
        return y, x

    @cached_property
    def windows(self) -> list[Window]:
        size, halo = self.settings.window or self.model.window, self.settings.halo
        halo = self.model.halo if halo is None else halo
        _, y, x = self.grid.shape
        return [
            shifted(window, start)
            for start, stop in self.sequences
            for window in cut((stop - start, y, x), size, halo, multiple=self.model.multiple)
        ]

    @cached_property
    def sequences(self) -> list[tuple[int, int]]:
        """First and last frame of every stretch without a gap in time, over which nothing is refined together."""
        frames = self.grid.shape[0]
        sequential = self.model.context > 1 or self.model.factor.time > 1
        gaps = axes.breaks(self.coarse) if sequential else ()
        found = list(pairwise((0, *gaps, frames)))
        shortest = min(stop - start for start, stop in found)
        if shortest < self.model.context:
            warnings.warn(
                f"a sequence of {shortest} coarse frames is shorter than the {self.model.context} that the model saw "
                "in training: its context is shortened",
                Notice,
                stacklevel=2,
            )
        return found

    @cached_property
    def batches(self) -> list[range]:
        size = self.settings.batch or int(getattr(self.model, "batch", 8))
        return [
            range(start, min(start + size, self.settings.members)) for start in range(0, self.settings.members, size)
        ]

    @property
    def tasks(self) -> int:
        return len(self.windows) * len(self.batches)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(members, T, H, W)."""
        t, y, x = (n * f for n, f in zip(self.grid.shape, self.model.factor, strict=True))
        return self.settings.members, t, y, x

    @property
    def chunks(self) -> tuple[int, int, int, int]:
        """One member of one window's core."""
        t, y, x = (c.stop - c.start for c in self.windows[0].scaled(_triple(self.model.factor))[0])
        return 1, t, y, x

    @cached_property
    def units(self) -> tuple[float, float]:
        """(scale, offset) from the input's units to the model's."""
        wanted = self.model.variable.get("units", "")
        has = str(self.coarse.attrs.get("units", "")).strip()
        if not has or not wanted:
            convert_units(self.coarse.isel({self.coarse.dims[0]: slice(0, 0)}), wanted)  # warns of missing units
            return 1.0, 0.0
        return conversion(has, wanted, f"variable {self.coarse.name}")

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
            "batch": len(self.batches[0]),
            "windows": len(self.windows),
            "first window": [[c.stop for c in first.core], [r.stop for r in first.read]],
        }

    def template(self, values: NDArray[np.float32] | None = None) -> xr.Dataset:
        """The output's dataset, with ``values`` or lazy emptiness."""
        self.units  # noqa: B018  (units that do not fit are refused before anything is written)
        if values is None:
            import dask.array

            data: Any = dask.array.empty(self.shape, dtype="float32", chunks=self.chunks)
        else:
            data = values
        coords = axes.refined_coords(self.coarse, self.model.factor)
        coords["realization"] = axes.realization(np.arange(self.settings.members))
        attrs = dict(self.coarse.attrs)
        mapping = self.coarse.encoding.get("grid_mapping")
        if mapping in self.coarse.coords:
            attrs.setdefault("grid_mapping", mapping)
        name = self.coarse.name if self.coarse.name is not None else "field"
        out = xr.Dataset(
            {name: (("realization", *self.coarse.dims), data, attrs)}, coords=coords, attrs=dict(self.attrs_in)
        )
        return out.assign_attrs(
            finescale_factor=str(self.model.factor),
            finescale_model=self.model_hash,
            finescale_seed=self.settings.seed,
            history=history(self.attrs_in, f"downscale --members {self.settings.members} --seed {self.settings.seed}"),
        )

    def attrs(self, notes: Iterable[Note]) -> dict[str, float]:
        """The conservation residual over all tasks, max |A x - c| / max |c|, after and before the constraint."""
        worst, largest, before = np.max([*notes, [0.0, 0.0, 0.0]], axis=0)
        scale = largest if largest > 0 else 1.0
        return {
            "finescale_conservation_residual": float(worst / scale),
            "finescale_conservation_residual_before": float(before / scale),
        }

    def results(self, done: Mapping[int, Any]) -> Iterator[tuple[int, Region, NDArray[np.float32], Note]]:
        """Sample the tasks that are not ``done``: number, region of the output, values (members, T, H, W), note."""
        for w, window in enumerate(self.windows):
            todo = [(w * len(self.batches) + b, batch) for b, batch in enumerate(self.batches)]
            todo = [(task, batch) for task, batch in todo if task not in done]
            if not todo:
                continue
            block = np.ascontiguousarray(self.increasing[window.read].values, dtype=np.float32)
            for task, batch in todo:
                values, before = self._sample(block, window, batch)
                note = [*self._note(values, block[window.inner], window), before]
                region, values = self._oriented(values, window, batch)
                yield task, region, values, note

    def _sample(self, block: NDArray[np.float32], window: Window, batch: range) -> tuple[NDArray[np.float32], float]:
        """The core of ``window`` for some members, and max |A x - c| before the constraint, in the input's units."""
        core, _, inner = window.scaled(_triple(self.model.factor))
        if not np.isfinite(block[window.inner]).any():
            return np.full((len(batch), *(c.stop - c.start for c in core)), np.nan, dtype=np.float32), 0.0
        scale, offset = self.units
        coarse = torch.from_numpy(
            block * np.float32(scale) + np.float32(offset) if (scale, offset) != (1.0, 0.0) else block
        )
        area = self._area(window.read)
        t, y, x = (r.start for r in window.read)
        gaps: list[float] = []
        fine = self.model.sample(
            coarse[None, None],
            members=len(batch),
            first_member=batch.start,
            seed=self.settings.seed,
            steps=self.settings.steps,
            origin=(t, y, x),
            area=None if area is None else torch.from_numpy(area).float(),
            gaps=gaps,
            **({} if self.static is None else {"static": self._static(self.static, window)}),
        )
        values = fine[0, :, 0][(slice(None), *inner)].float().cpu().numpy()
        before = max(gaps, default=0.0) / scale
        return (values - np.float32(offset)) / np.float32(scale) if (scale, offset) != (1.0, 0.0) else values, before

    def _static(self, static: StaticFields, window: Window) -> Tensor:
        """Static fields (S, H, W) on the fine cells that a window reads."""
        _, y, x = window.scaled(_triple(self.model.factor))[1]
        rows, columns = (0.5 * (edges[:-1] + edges[1:]) for edges in (self._fine.y, self._fine.x))
        return torch.from_numpy(static.at(rows[y], columns[x]))

    @cached_property
    def _fine(self) -> Grid:
        return self.grid.refine(self.model.factor)

    def _area(self, cells: tuple[slice, slice, slice]) -> NDArray[np.float64] | None:
        """Fine cell areas of some coarse cells; None where all are equal."""
        return self.grid.window(*cells).refine(self.model.factor).cell_area if self.grid.geographic else None

    def _note(self, values: NDArray[np.float32], coarse: NDArray[np.float32], window: Window) -> Note:
        area = self._area(window.core)
        weight = np.ones(values.shape[-2:]) if area is None else area
        with np.errstate(invalid="ignore"):
            gap = np.abs(block_means(values, weight, tuple(self.model.factor), dtype=np.float64) - coarse)
        known = np.isfinite(coarse)
        if not known.any():
            return [0.0, 0.0]
        return [float(np.nan_to_num(gap[:, known], nan=np.inf).max()), float(np.abs(coarse[known]).max())]

    def _oriented(
        self, values: NDArray[np.float32], window: Window, batch: range
    ) -> tuple[Region, NDArray[np.float32]]:
        """Region and values in the order of the input's own axes."""
        t, y, x = window.scaled(_triple(self.model.factor))[0]
        sides = []
        for axis, cells, flip, n in zip((-2, -1), (y, x), self.flips, self.shape[-2:], strict=True):
            sides.append(slice(n - cells.stop, n - cells.start) if flip else cells)
            values = np.flip(values, axis) if flip else values
        return (slice(batch.start, batch.stop), t, sides[0], sides[1]), values


def _triple(factor: Factor) -> Triple:
    return factor.time, factor.y, factor.x
