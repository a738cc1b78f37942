"""What a prediction writes: variables, their shapes, coordinates and attributes, and what identifies the run."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.data.extent import ATTRIBUTE
from finescale.data.provenance import provenance
from finescale.errors import Notice
from finescale.grids import relabel
from finescale.model.uncertainty import LEVELS

if TYPE_CHECKING:
    from finescale.inference.tasks import Tasks

Note = list[float]
"""Of a finished task: max |A x - c|, max |c|, max |A x - c| before the constraint, in the input's units, and a hash of
what was read for it."""


@dataclass(frozen=True)
class Output:
    """The output of a prediction: the variable itself, and its standard deviation and quantiles where asked for.

    Args:
        tasks: the prediction.
    """

    tasks: Tasks

    @property
    def name(self) -> str:
        """The variable's name."""
        name = self.tasks.coarse.name
        return str(name) if name is not None else "field"

    @property
    def leading(self) -> dict[str, dict[str, int]]:
        """Of every variable the dimensions before (time, y, x), and their lengths."""
        count = self.tasks.request.count
        found = {self.name: {"realization": count} if count else {}}
        if self.tasks.source is not None:
            found[f"{self.name}_std"] = {}
            if not self.tasks.model.linear:  # otherwise they say no more than mean and standard deviation
                found[f"{self.name}_quantile"] = {"quantile": len(LEVELS)}
        return found

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every variable."""
        cells = [n * f for n, f in zip(self.tasks.grid.shape, self.tasks.model.factor, strict=True)]
        return {name: relabel.file_order(before.values(), cells) for name, before in self.leading.items()}

    @property
    def chunks(self) -> dict[str, tuple[int, ...]]:
        """One member of one window's core."""
        cells = [c.stop - c.start for c in self.tasks.windows[0].scaled(self.tasks.model.factor)[0]]
        return {name: relabel.file_order([1] * len(before), cells) for name, before in self.leading.items()}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must not change between an interruption and its resumption, beside what `Tasks.unchanged` looks at."""
        tasks, digest = self.tasks, hashlib.sha256()
        for edges in (tasks.grid.time, tasks.grid.y, tasks.grid.x):
            digest.update(edges.tobytes())
        first = tasks.windows[0]
        return {
            "model": tasks.model.fingerprint,
            "factor": str(tasks.model.factor),
            "grid": digest.hexdigest()[:16],
            "units": list(tasks.units),
            "shape": list(tasks.grid.shape),
            "variable": str(tasks.coarse.name),
            "members": tasks.request.count,
            "seed": tasks.request.seed,
            "steps": tasks.request.steps,
            "batch": tasks.members_at_once,
            "variance": tasks.source,
            "windows": len(tasks.windows),
            "first window": [[c.stop for c in first.core], [r.stop for r in first.read]],
        }

    def template(self, values: Mapping[str, NDArray[np.float32]] | None = None) -> xr.Dataset:
        """The output's dataset, with ``values`` or lazy emptiness."""
        tasks, data = self.tasks, values
        if data is None:
            import dask.array

            chunks = self.chunks
            data = {n: dask.array.empty(s, dtype="float32", chunks=chunks[n]) for n, s in self.shapes.items()}
        coords, count = relabel.refined_coords(tasks.coarse, tasks.model.factor), tasks.request.count
        if count:
            if "realization" in coords:  # of the one member that the input was
                coords["input_realization"] = coords["realization"]
            coords["realization"] = relabel.realization(np.arange(count))
        attrs = dict(tasks.coarse.attrs)
        mapping = tasks.coarse.encoding.get("grid_mapping")
        if mapping in tasks.coarse.coords:
            attrs.setdefault("grid_mapping", mapping)
        asked = f"downscale --members {count} --seed {tasks.request.seed}"
        if tasks.source is not None:
            asked += f" --variance {tasks.source}"
            if f"{self.name}_quantile" in self.leading:
                levels = {"long_name": "probability not to be exceeded"}
                coords["quantile"] = xr.Variable("quantile", np.array(LEVELS), levels)
        described = self._described(attrs)
        variables = {
            n: (relabel.file_order(before, tasks.coarse.dims), data[n], described[n])
            for n, before in self.leading.items()
        }
        kept = {key: value for key, value in tasks.attrs.items() if key != ATTRIBUTE}
        factor, model = tasks.model.factor, tasks.model.fingerprint
        title = f"{self.name}: downscaled by {factor} (time x space)" + (f", {count} members" if count > 1 else "")
        given = provenance(kept, asked, title, f"model {model}")
        out = xr.Dataset(variables, coords=coords, attrs=given).assign_attrs(
            finescale_factor=str(factor),
            finescale_model=model,
            finescale_seed=tasks.request.seed,
            **self._unmasked(),
            **self._trained,
        )
        # In memory members come first, as in every array of this package.
        first = [dim for dim in ("realization", "quantile") if dim in out.dims]
        return out if values is None else out.transpose(*first, ...)

    def _unmasked(self) -> dict[str, str]:
        """What has to be said where the training data had missing cells: no mask tells which cells here are.

        Besides in the output, it is said as a Notice.
        """
        share = next((one["missing"] for one in self.tasks.model.variables.values() if one.get("missing")), None)
        if not share:
            return {}
        text = (
            f"{share} of the cells of the training data were missing, such as land in a field of the sea; which fine "
            "cells are is not known here: all those within known coarse cells have values"
        )
        warnings.warn(text, Notice, stacklevel=2)
        return {"comment_on_missing_cells": text}

    @property
    def _trained(self) -> dict[str, str]:
        """What the model was trained on, as `finescale verify` reads it."""
        trained = [dict(one) for one in self.tasks.model.trained]
        return {ATTRIBUTE: json.dumps(trained, ensure_ascii=False, separators=(",", ":"))} if trained else {}

    def attrs(self, notes: Iterable[Note]) -> dict[str, float]:
        """The conservation residual over all tasks, max |A x - c| / max |c|, after and before the constraint."""
        worst, largest, before = np.max([*(note[:3] for note in notes), [0.0, 0.0, 0.0]], axis=0)
        scale = largest if largest > 0 else 1.0
        found = {"finescale_conservation_residual": float(worst / scale)}
        drawn = {"finescale_conservation_residual_before": float(before / scale)} if self.tasks.request.count else {}
        return found | drawn

    def _described(self, attrs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Attributes of every variable."""
        tasks, name = self.tasks, self.name
        others = [other for other in self.leading if other != name]
        if tasks.source is None or not others:
            return {name: dict(attrs)}
        comment = tasks.model.variance_comment(tasks.source, tasks.request.latents)
        long = attrs.get("long_name", name)
        methods = f"{attrs.get('cell_methods', '')} realization: standard_deviation".strip()
        # CF has no standard names for these.
        own = {key: value for key, value in attrs.items() if key not in ("standard_name", "ancillary_variables")}
        std = {"long_name": f"standard deviation of {long}", "cell_methods": methods, "comment": comment}
        quantile = {"long_name": f"quantiles of {long}", "comment": comment}
        extra = {f"{name}_std": own | std, f"{name}_quantile": own | quantile}
        return {name: {**attrs, "ancillary_variables": " ".join(others)}} | {other: extra[other] for other in others}
