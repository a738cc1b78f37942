"""Stream a coarse store in and an ensemble store out, window by window; memory is bounded by the window.

What a window does is in `finescale.inference.tasks`; how stores are written and resumed in `finescale.data.store`.
"""

from __future__ import annotations

import math
import signal
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finescale.data.atomic import explained, sole_writer
from finescale.data.files import gridded, open_store, select
from finescale.data.place import Place, place
from finescale.data.regions import Part
from finescale.data.sources import DERIVED, Source, covered, derived
from finescale.data.static import StaticFields
from finescale.data.store import open_output
from finescale.errors import InputError, Interrupted, Notice
from finescale.grids.coordinates import read_grid
from finescale.grids.factor import Factor
from finescale.grids.grid import goes_round
from finescale.grids.resolution import factor_to
from finescale.inference.domain import Domain, onto
from finescale.inference.given import Given
from finescale.inference.guard import check_alike
from finescale.inference.inputs import Files, Inputs, find
from finescale.inference.lazy import lazily
from finescale.inference.masks import mask_of
from finescale.inference.request import Model, Request
from finescale.inference.tasks import Tasks
from finescale.signals import deferred

SLOW = 200
"""Network evaluations a member from which the cost is told before sampling begins."""
RESIDUAL = "conservation_residual"
"""The attribute of a variable that says how far its block means are from the coarse field."""


def predict(
    model: Model,
    coarse: Files,
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
        coarse: a path or a dataset, or several, whose variables are one pool.
        out: ends in .nc or .zarr, a path or a URL; appears under its name once it is whole.
        request: what is asked.
        resume: continue an interrupted run to Zarr.
        overwrite: replace an output that exists.
        progress: show a progress bar on stderr.

    Raises:
        InputError: for input, a request or an output that cannot be used.
    """
    tasks, path = tasks_of(model, coarse, request or Request()), place(out)
    with sole_writer(path):
        _predict(tasks, path, resume, overwrite, progress)


def _predict(tasks: Tasks, path: Place, resume: bool, overwrite: bool, progress: bool) -> None:
    output = tasks.output
    with explained(path), deferred() as asked:
        store = open_output(path, output.template(), output.chunks, output.identity, resume, overwrite, output.packed)

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
        residuals = _finite(output.residuals(store.done.values()))
        # A signal that comes now comes too late.
        with explained(path, kept()), deferred():
            store.finish(output.attrs(residuals), {name: {RESIDUAL: after} for name, (after, _) in residuals.items()})
    except KeyboardInterrupt as stop:
        number = stop.number if isinstance(stop, Interrupted) else signal.SIGINT
        later = f"{len(store.done)} of {len(tasks)} tasks are kept: --resume continues" if store.resumable else ""
        raise Interrupted(number, later) from None
    finally:
        with deferred(), explained(path, kept()):
            store.close()


def _finite(residuals: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """The residuals of an output that may be published.

    Raises:
        ArithmeticError: if members are not finite where their coarse cells are.
    """
    if not all(math.isfinite(after) for after, _ in residuals.values()):
        raise ArithmeticError(
            "members are not finite where the coarse field is: the model's weights are damaged or of absurd size, or "
            "the input is; nothing was written"
        )
    return residuals


def downscale_dataset(model: Model, coarse: Files, request: Request | None = None, lazy: bool = False) -> xr.Dataset:
    """The ensemble of a dataset, in memory or, where ``lazy``, as it is asked for; arguments as in `predict`.

    Raises:
        InputError: for input or a request that cannot be used.
    """
    tasks = tasks_of(model, coarse, request or Request(), values=not lazy)
    if lazy:
        return lazily(tasks)
    values = {name: np.full(shape, np.nan, dtype=np.float32) for name, shape in tasks.output.shapes.items()}
    notes = []
    for _, parts, note in tasks.results({}):
        for name, region, part in parts:
            values[name][region] = part
        notes.append(note)
    residuals = _finite(tasks.output.residuals(notes))
    out = tasks.output.template(values).assign_attrs(tasks.output.attrs(residuals))
    for name, (after, _) in residuals.items():
        out[name].attrs[RESIDUAL] = after
    return out


def tasks_of(model: Model, coarse: Files, request: Request, values: bool = True) -> Tasks:
    """A prediction cut into tasks; without ``values`` none are read.

    Raises:
        InputError: for input or a request that cannot be used.
    """
    inputs = find(model, coarse, request.variable, free=request.onto is not None)
    wanted = factor_to(inputs.first, request.to) if request.to is not None else request.factor
    model = model if wanted is None else model.at(Factor.parse(wanted), request.force)
    model = model if request.conserve is None else model.conserving(request.conserve)
    domain = _domain(inputs, model.factor, request.onto)
    # Told before anything is computed: windows without a halo would not show it.
    plane = zip(domain.coarse.shape[-2:], (model.factor.y, model.factor.x), strict=True)
    model.check_plane(*(n * f for n, f in plane))
    if goes_round(read_grid(domain.coarse)):
        warnings.warn(
            f"variable {domain.coarse.name} goes round the globe, but windows do not: members do not continue across "
            "its first and last longitude",
            Notice,
            stacklevel=2,
        )
    request, static = request.of(model), _static(model, request)
    evaluations = model.evaluations(request.steps)
    mask = mask_of(model, domain, request.mask)
    tasks = Tasks(model, Given(inputs, domain, static, mask), request)
    _check_covered(inputs, domain)
    check_alike(model, inputs, domain, request.force, values)
    if evaluations >= SLOW and request.count:
        warnings.warn(
            f"sampling takes {evaluations} network evaluations for each of {tasks.output.members} members in each of "
            f"{len(tasks.windows)} windows, {evaluations * tasks.output.members * len(tasks.windows):,} in all; fewer "
            "steps (--steps) take less time",
            Notice,
            stacklevel=2,
        )
    return tasks


def _domain(inputs: Inputs, factor: Factor, fine: str | Path | xr.Dataset | xr.DataArray | None) -> Domain:
    """The coarse field's own cells, or the blocks of a fine grid."""
    if fine is None:
        return Domain(inputs.first, factor)
    source = "the dataset of the fine grid"
    if isinstance(fine, xr.DataArray):
        fine = fine.to_dataset(name=fine.name if fine.name is not None else "field")
    if not isinstance(fine, xr.Dataset):
        source, fine = str(fine), open_store(fine, chunks=None)
    names = gridded(fine)
    # Of several the one with times, which a mask or an elevation beside it does not have.
    name = max(names, key=lambda name: fine[name].ndim, default=None)
    grid = select(fine, None if name is None else str(name), source)
    return onto(grid, inputs.first, inputs.targets[0].file, factor)


def _check_covered(inputs: Inputs, domain: Domain) -> None:
    """Refuse what has no time or place in common with the domain, and say in one line what covers it in part.

    Raises:
        InputError: for that, and for predictors of dates or latitudes on a domain without.
    """
    like = domain.coarse if domain.given is None else domain.given
    others = [] if domain.given is None else inputs.targets[1:]
    for target in others:
        covered(Source(target.member(0), False, target.file), like)
    told = inputs.told(0)
    if told is None:
        return
    for source in told.sources.values():
        covered(source, like)
    for name in told.names:
        if name in DERIVED:
            derived(name, domain.blocks.window(slice(1), slice(1), slice(1)))


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
