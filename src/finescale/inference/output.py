"""What a prediction writes: variables, their shapes, coordinates and attributes, and what identifies the run."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.extent import ATTRIBUTE
from finescale.data.packing import Packed
from finescale.data.place import place
from finescale.data.provenance import provenance
from finescale.errors import InputError, Notice
from finescale.grids import relabel
from finescale.grids.curvilinear import measured
from finescale.inference.inputs import Target
from finescale.model.uncertainty import LEVELS

if TYPE_CHECKING:
    from finescale.inference.tasks import Tasks

T = TypeVar("T")
SLIVER = 4
"""Parts of a window's core, along y and x, that a chunk is made of at least."""
Note = list[float]
"""Of a finished task, of every variable in its own units: max |A x - c|, then max |c|, then max |A x - c| before the
constraint; and a hash of what was read for it."""


@dataclass(frozen=True)
class Output:
    """The output of a prediction: its variables, and their standard deviations and quantiles where asked for.

    Args:
        tasks: the prediction.
    """

    tasks: Tasks

    @property
    def targets(self) -> list[Target]:
        """What every variable is refined from."""
        return self.tasks.given.inputs.targets

    @property
    def names(self) -> list[str]:
        """The variables' names."""
        return [target.name for target in self.targets]

    @property
    def stds(self) -> list[str]:
        """Names of the standard deviations, where asked for."""
        return [] if self.tasks.source is None else [f"{name}_std" for name in self.names]

    @property
    def quantiles(self) -> list[str]:
        """Names of the quantiles, where they say more than mean and standard deviation."""
        return [] if self.tasks.source is None or self.tasks.model.linear else [f"{n}_quantile" for n in self.names]

    @property
    def levels(self) -> int:
        """How many quantiles there are."""
        return len(LEVELS)

    @property
    def members(self) -> int:
        """Members of the output; 0 without."""
        return self.tasks.request.count * self.tasks.inputs

    @cached_property
    def leading(self) -> dict[str, dict[str, int]]:
        """Of every variable the dimensions before (time, y, x), and their lengths.

        Raises:
            InputError: if two have one name, or a coordinate has it.
        """
        before: list[tuple[list[str], dict[str, int]]] = [
            (self.names, {"realization": self.members} if self.members else {}),
            (self.stds, {}),
            (self.quantiles, {"quantile": self.levels}),
        ]
        found: dict[str, dict[str, int]] = {}
        for names, dims in before:
            for name in names:
                if name in found or name in self.tasks.domain.coords:
                    raise InputError(f"the output needs the name {name} for itself: rename the input's")
                found[name] = dims
        return found

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every variable."""
        cells = [n * f for n, f in zip(self.tasks.domain.grid.shape, self.tasks.model.factor, strict=True)]
        return {name: self._ordered(before.values(), cells) for name, before in self.leading.items()}

    @property
    def chunks(self) -> dict[str, tuple[int, ...]]:
        """One member of one window's core; less where cores would else share chunks, as those after a gap in time."""
        cells, _ = self._layout
        return {name: self._ordered([1] * len(before), cells) for name, before in self.leading.items()}

    def _ordered(self, before: Iterable[T], cells: Iterable[T]) -> tuple[T, ...]:
        return relabel.file_order(before, cells, self.tasks.request.members_first)

    @property
    def packed(self) -> dict[str, Packed]:
        """How every variable is stored, where in steps."""
        found: dict[str, Packed] = {}
        rounding, remembers = self.tasks.request.rounding, self.tasks.model.remembers
        if rounding is None:
            return found
        for n, (target, name) in enumerate(zip(self.targets, self.tasks.model.variables, strict=True)):
            seen = remembers.variables.get(name)
            ends = None
            if seen is not None and seen.low is not None and seen.high is not None:
                low, high = target.own(np.array([seen.low, seen.high], dtype=np.float32)).tolist()
                ends = low, high
            one = rounding.packed(ends)
            if one is not None:
                names = [listed[n] for listed in (self.names, self.quantiles) if listed]
                found |= dict.fromkeys(names, one)
                found |= {name: replace(one, offset=0.0) for name in self.stds[n : n + 1]}
        return found

    @property
    def apart(self) -> bool:
        """Whether no two tasks write to one chunk, so that several processes may write at once."""
        return self._layout[1]

    @cached_property
    def _layout(self) -> tuple[list[int], bool]:
        """Fine cells (t, y, x) of a chunk, and whether every core begins with a chunk.

        Cores of n cells are cut from one end of an axis. Where the output's cells count from the other end, they begin
        at r, r + n, …: chunks of gcd(n, r) cells have no core in common; along y and x they are not made smaller than
        n / `SLIVER`, as files of a few cells are no use.
        """
        domain, windows = self.tasks.domain, self.tasks.windows
        cells, apart = [], True
        for axis, factor in enumerate(self.tasks.model.factor):
            core, starts = windows[0].core[axis], windows.starts(axis)
            if axis and domain.flips[axis - 1]:
                starts = {domain.grid.shape[axis] - start for start in starts if start}
            common = math.gcd(core.stop - core.start, *starts)
            fits = axis == 0 or common * SLIVER >= core.stop - core.start
            apart = apart and fits
            cells.append((common if fits else core.stop - core.start) * factor)
        return cells, apart

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must not change between an interruption and its resumption, beside what `Tasks.unchanged` looks at."""
        tasks, digest, grid = self.tasks, hashlib.sha256(), self.tasks.domain.grid
        for edges in (grid.time, grid.y, grid.x):
            digest.update(edges.tobytes())
        first = tasks.windows[0]
        return {
            "model": tasks.model.fingerprint,
            "factor": str(tasks.model.factor),
            "grid": digest.hexdigest()[:16],
            "units": [[target.scale, target.offset] for target in self.targets],
            "shape": list(grid.shape),
            "variables": [str(target.field.name) for target in self.targets],
            "members of the input": tasks.inputs,
            "members": tasks.request.count,
            "seed": tasks.request.seed,
            "steps": tasks.request.steps,
            "lifetime": tasks.given.lifetime,
            "batch": tasks.members_at_once,
            "calibrated": tasks.model.calibrated.plain(),
            "variance": tasks.source,
            "conserve": list(tasks.model.conserves),
            "precision": str(tasks.request.rounding or ""),
            "members first": tasks.request.members_first,
            "windows": len(tasks.windows),
            "first window": [[c.stop for c in first.core], [r.stop for r in first.read]],
        }

    def template(self, values: Mapping[str, Any] | None = None) -> xr.Dataset:
        """The output's dataset, with ``values`` or lazy emptiness."""
        tasks, data = self.tasks, values
        if data is None:
            import dask.array

            # One block each, as nothing is computed: a graph of millions would take gigabytes.
            data = {n: dask.array.empty(s, dtype="float32", chunks=s) for n, s in self.shapes.items()}
        coords, dims = dict(tasks.domain.coords), tasks.domain.coarse.dims
        if self.members:
            coords |= self._realizations(coords)
        if self.quantiles:
            levels = {"long_name": "probability not to be exceeded", "units": "1"}
            coords["quantile"] = xr.Variable("quantile", np.array(LEVELS), levels)
        described = self._described()
        variables = {n: (self._ordered(before, dims), data[n], described[n]) for n, before in self.leading.items()}
        factor, model = tasks.model.factor, tasks.model.called
        out = xr.Dataset(variables, coords=coords, attrs=self._provenance()).assign_attrs(
            finescale_factor=str(factor),
            finescale_model=model,
            finescale_seed=tasks.request.seed,
            **self._unmasked(),
            **self._trained,
        )
        # In memory members come first, as in every array of this package.
        first = [dim for dim in ("realization", "quantile") if dim in out.dims]
        return out if values is None else out.transpose(*first, ...)

    def _realizations(self, coords: Mapping[Hashable, xr.Variable]) -> dict[Hashable, xr.Variable]:
        """Coordinates of the members: their numbers, and which member of the input each is of, where that is known."""
        tasks = self.tasks
        found: dict[Hashable, xr.Variable] = {"realization": relabel.realization(np.arange(self.members))}
        given = self.targets[0].field.coords.get("realization")
        if tasks.inputs > 1:
            numbers = np.arange(tasks.inputs) if given is None else given.values
            of = {"long_name": "member of the input"}
            member = {"long_name": "member of those of one member of the input"}
            found["input_realization"] = xr.Variable("realization", np.repeat(numbers, tasks.request.count), of)
            found["member"] = xr.Variable("realization", np.tile(np.arange(tasks.request.count), tasks.inputs), member)
        elif "realization" in coords:  # of the one member that the input was
            found["input_realization"] = coords["realization"]
        return found

    def _provenance(self) -> dict[str, Any]:
        """Global attributes: what the output is and what made it."""
        tasks, request = self.tasks, self.tasks.request
        asked = f"downscale --members {request.count} --seed {request.seed}"
        if tasks.source is not None:
            asked += f" --variance {tasks.source}"
        if request.conserve is not None:
            asked += " --conserve" if request.conserve else " --no-conserve"
        if request.rounding is not None:
            asked += f" --precision {request.rounding}"
        for option, file in (("onto", request.onto), ("mask", request.mask)):
            asked += f" --{option} {place(file).name}" if isinstance(file, str | Path) else ""
        kept = {key: value for key, value in tasks.given.inputs.attrs.items() if key != ATTRIBUTE}
        title = f"{', '.join(self.names)}: downscaled by {tasks.model.factor} (time x space)"
        title += f", {self.members} members" if self.members > 1 else ""
        return provenance(kept, asked, title, f"model {tasks.model.called}")

    def _unmasked(self) -> dict[str, str]:
        """Which mask is applied; or what has to be said where the training data had missing cells, and none tells
        which cells here are: as a Notice too."""
        mask = self.tasks.given.mask
        if mask is not None:
            return {"comment_on_missing_cells": mask.text}
        share = next((one["missing"] for one in self.tasks.model.variables.values() if one.get("missing")), None)
        if not share:
            return {}
        text = (
            f"{share} of the cells of the training data were missing, such as land in a field of the sea; which fine "
            "cells are is not known here (--mask would say): all those within known coarse cells have values"
        )
        warnings.warn(text, Notice, stacklevel=2)
        return {"comment_on_missing_cells": text}

    @property
    def _trained(self) -> dict[str, str]:
        """What the model was trained on, as `finescale verify` reads it."""
        trained = [dict(one) for one in self.tasks.model.trained]
        return {ATTRIBUTE: json.dumps(trained, ensure_ascii=False, separators=(",", ":"))} if trained else {}

    def residuals(self, noted: NDArray[np.float64]) -> dict[str, tuple[float, float]]:
        """Of every variable the conservation residual over all tasks, max |A x - c| / max |c|, after the constraint and
        before.

        Args:
            noted: the largest of what was noted of tasks, but for the hash; empty where there were none.
        """
        worst, largest, before = (noted if noted.size else np.zeros(3 * len(self.names))).reshape(3, -1)
        scale = np.where(largest > 0, largest, 1.0)
        return {
            name: (float(after), float(first))
            for name, after, first in zip(self.names, worst / scale, before / scale, strict=True)
        }

    def attrs(self, residuals: Mapping[str, tuple[float, float]]) -> dict[str, float]:
        """Global attributes: the largest residuals of the variables that conserve, or of all where none does."""
        conserved = [one for one, is_ in zip(residuals.values(), self.tasks.model.conserves, strict=True) if is_]
        worst, before = np.max(conserved or list(residuals.values()), axis=0)
        found = {"finescale_conservation_residual": float(worst)}
        return found | ({"finescale_conservation_residual_before": float(before)} if self.members else {})

    def _described(self) -> dict[str, dict[str, Any]]:
        """Attributes of every variable: those of its input."""
        tasks, found = self.tasks, {}
        comment = "" if tasks.source is None else tasks.model.variance_comment(tasks.source, tasks.request.latents)
        for n, target in enumerate(self.targets):
            name, attrs = target.name, {k: v for k, v in target.field.attrs.items() if k != "grid_mapping"}
            if tasks.domain.mapping is not None:
                attrs["grid_mapping"] = tasks.domain.mapping
            others = [listed[n] for listed in (self.stds, self.quantiles) if listed]
            attrs = measured(attrs, tasks.domain.coords)
            found[name] = attrs | ({"ancillary_variables": " ".join(others)} if others else {})
            long = attrs.get("long_name", name)
            methods = f"{attrs.get('cell_methods', '')} realization: standard_deviation".strip()
            # CF has no standard names for these.
            own = {key: value for key, value in attrs.items() if key not in ("standard_name", "ancillary_variables")}
            std = {"long_name": f"standard deviation of {long}", "cell_methods": methods, "comment": comment}
            quantile = {"long_name": f"quantiles of {long}", "comment": comment}
            found |= dict(zip(others, (own | std, own | quantile), strict=False))
        if tasks.request.rounding is not None:
            for attrs in found.values():
                attrs["finescale_precision"] = tasks.request.rounding.comment(str(attrs.get("units", "")))
        return found
