"""Stream a coarse store in and an ensemble store out, window by window; memory is bounded by the window.

What a window does is in `finescale.inference.tasks`; how stores are written and resumed in `finescale.data.store`.
"""

from __future__ import annotations

import math
import signal
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finescale.data.atomic import explained, sole_writer
from finescale.data.files import open_store, select
from finescale.data.reader import watched
from finescale.data.static import StaticFields
from finescale.data.store import Part, open_output
from finescale.errors import InputError, Interrupted, Notice
from finescale.grids.factor import Factor
from finescale.grids.resolution import factor_to
from finescale.inference.request import Model, Request
from finescale.inference.tasks import Tasks
from finescale.signals import deferred

SLOW = 200
"""Network evaluations a member from which the cost is told before sampling begins."""
Coarse = str | Path | xr.Dataset | xr.DataArray


def predict(
    model: Model,
    coarse: Coarse,
    out: str | Path,
    request: Request | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Downscale a coarse store to an ensemble store (time, realization, y, x).

    Args:
        model: a downscaler.
        coarse: a path, or a dataset.
        out: ends in .nc or .zarr; appears under its name once it is whole.
        request: what is asked.
        resume: continue an interrupted run to Zarr.
        overwrite: replace an output that exists.
        progress: show a progress bar on stderr.

    Raises:
        InputError: for input, a request or an output that cannot be used.
    """
    tasks, path = tasks_of(model, coarse, request or Request()), Path(out)
    with sole_writer(path):
        _predict(tasks, path, resume, overwrite, progress)


def _predict(tasks: Tasks, path: Path, resume: bool, overwrite: bool, progress: bool) -> None:
    output = tasks.output
    with explained(path), deferred() as asked:
        store = open_output(path, output.template(), output.chunks, output.identity, resume, overwrite)

    def write(task: int, parts: list[Part], note: list[float]) -> None:
        with explained(path, kept()):
            store.write(task, parts, note)

    def kept() -> str:
        return "; what is finished is kept: --resume continues" if store.resumable else ""

    try:
        if asked.signal is not None:
            raise Interrupted(asked.signal)
        tasks.unchanged(store.done)
        # One thread reads the next window and writes the last one while this one is computed. HDF5 allows no more.
        with ThreadPoolExecutor(1) as files:
            written: Future[None] | None = None
            done = len(store.done)
            for result in _shown(tasks.results(store.done, files), len(tasks), done, progress):
                if written is not None:
                    written.result()
                written = files.submit(write, *result)
            if written is not None:
                written.result()
        # A signal that comes now comes too late.
        with explained(path, kept()), deferred():
            store.finish(_finite(output.attrs(store.done.values())))
    except KeyboardInterrupt as stop:
        number = stop.number if isinstance(stop, Interrupted) else signal.SIGINT
        later = f"{len(store.done)} of {len(tasks)} tasks are kept: --resume continues" if store.resumable else ""
        raise Interrupted(number, later) from None
    finally:
        with deferred():
            store.close()


def _finite(attrs: dict[str, float]) -> dict[str, float]:
    """The residuals of an output that may be published.

    Raises:
        ArithmeticError: if members are not finite where their coarse cells are.
    """
    if not math.isfinite(attrs["finescale_conservation_residual"]):
        raise ArithmeticError(
            "members are not finite where the coarse field is: the model's weights are damaged or of absurd size, or "
            "the input is; nothing was written"
        )
    return attrs


def downscale_dataset(model: Model, coarse: Coarse, request: Request | None = None) -> xr.Dataset:
    """The ensemble of a dataset, in memory; arguments as in `predict`.

    Raises:
        InputError: for input or a request that cannot be used.
    """
    tasks = tasks_of(model, coarse, request or Request())
    values = {name: np.full(shape, np.nan, dtype=np.float32) for name, shape in tasks.output.shapes.items()}
    notes = []
    for _, parts, note in tasks.results({}):
        for name, region, part in parts:
            values[name][region] = part
        notes.append(note)
    return tasks.output.template(values).assign_attrs(_finite(tasks.output.attrs(notes)))


def tasks_of(model: Model, coarse: Coarse, request: Request) -> Tasks:
    """A prediction cut into tasks.

    Raises:
        InputError: for input or a request that cannot be used.
    """
    da, attrs = _input(model, coarse, request.variable)
    wanted = factor_to(da, request.to) if request.to is not None else request.factor
    model = model if wanted is None else model.at(Factor.parse(wanted), request.force)
    # Told before anything is computed: windows without a halo would not show it.
    model.check_plane(*(n * f for n, f in zip(da.shape[-2:], (model.factor.y, model.factor.x), strict=True)))
    request, static = request.of(model), _static(model, request)
    evaluations = model.evaluations(request.steps)
    tasks = Tasks(model, da, attrs, request, static)
    if evaluations >= SLOW and request.count:
        warnings.warn(
            f"sampling takes {evaluations} network evaluations for each of {request.count} members in each of "
            f"{len(tasks.windows)} windows, {evaluations * request.count * len(tasks.windows):,} in all; fewer steps "
            "(--steps) take less time",
            Notice,
            stacklevel=2,
        )
    return tasks


def _static(model: Model, request: Request) -> StaticFields | None:
    """The static fields that the model was trained with, in its order."""
    names = list(model.static)
    if names and not request.static:
        raise InputError(
            f"this model was trained with static fields ({', '.join(names)}): name their files with --static"
        )
    if request.static and not names:
        raise InputError("this model was trained without static fields: leave --static out")
    return StaticFields(request.static, names) if request.static else None


def _input(model: Model, coarse: Coarse, variable: str | None) -> tuple[xr.DataArray, Mapping[Any, Any]]:
    """The field as (time, y, x), lazy, and the attributes of its store."""
    source = "the dataset"
    if isinstance(coarse, xr.DataArray):
        coarse = coarse.to_dataset(name=coarse.name if coarse.name is not None else "field")
    if isinstance(coarse, xr.Dataset):
        coarse = watched(coarse.copy(), source)
    else:
        source, coarse = str(coarse), open_store(coarse, chunks=None)
    name = next(iter(model.variables), None)
    da = select(coarse, variable or (name if name in coarse.data_vars else None), source)
    if "realization" in da.dims:
        if da.sizes["realization"] > 1:
            raise InputError(f"variable {da.name} holds {da.sizes['realization']} members: select one to downscale")
        da = da.isel(realization=0, drop=True)
    return da, coarse.attrs


def _shown(results: Iterator[Any], total: int, done: int, progress: bool) -> Iterator[Any]:
    from tqdm import tqdm

    yield from tqdm(
        results,
        total=total,
        initial=done,
        desc="downscale",
        unit="window",
        disable=None if progress else True,  # None: where nobody looks at it
        leave=False,
    )
