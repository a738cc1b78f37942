"""Stream a coarse store in and an ensemble store out, window by window; memory is bounded by the window.

What a prediction is made of is in `finescale.inference.prepare`, what a window does in `finescale.inference.tasks`, who
does it in `finescale.inference.engines`; how stores are written and resumed in `finescale.data.store`.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from finescale.data.atomic import explained, sole_writer
from finescale.data.finished import Finished
from finescale.data.place import Place, place
from finescale.data.regions import Part, ZarrRegions
from finescale.data.store import Store, ZarrStore, open_output
from finescale.errors import InputError, Interrupted
from finescale.inference import engines, progress
from finescale.inference.cost import LONG, Cost
from finescale.inference.engines import HERE, Workers
from finescale.inference.inputs import Files
from finescale.inference.prepare import tasks_of
from finescale.inference.request import Model, Request
from finescale.inference.tasks import Result, Unit
from finescale.signals import deferred

RESIDUAL = "conservation_residual"
"""The attribute of a variable that says how far its block means are from the coarse field."""
Load = Callable[[], Model]
"""Gives a model; pickled, it is the model's path."""


class Prediction:
    """A prediction that is checked and cut into tasks, of which nothing is computed yet.

    Args:
        model: a downscaler.
        coarse: a path or a dataset, or several, whose variables are one pool.
        request: what is asked.
        workers: who does it.
        load: gives other processes the model; None to send it to them.
        values: whether to look at values of the input, which is then compared with the training data.

    Raises:
        InputError: for input or a request that cannot be used.
    """

    def __init__(
        self,
        model: Model,
        coarse: Files,
        request: Request,
        workers: Workers = HERE,
        load: Load | None = None,
        values: bool = True,
    ) -> None:
        self.coarse, self.workers, self.load = coarse, workers, load or partial(_same, model)
        self.tasks = tasks_of(model, coarse, request, values)

    @property
    def cost(self) -> Cost:
        """What it will cost."""
        return Cost.of(self.tasks)

    def results(
        self, units: Iterable[Unit], files: ThreadPoolExecutor, regions: ZarrRegions | None
    ) -> AbstractContextManager[Iterator[Result]]:
        """What comes of units, made by the workers.

        Args:
            units: what is left to do.
            files: the thread that reads and writes for this process.
            regions: what workers write regions with; None where values are to come back.
        """
        workers, tasks = self.workers, self.tasks
        if workers.distributed:
            try:
                from finescale.inference import cluster
            except ImportError as error:
                raise InputError(
                    "--workers and --scheduler need Dask's distributed: pip install 'finescale[cluster]'"
                ) from error
            cores = None if workers.scheduler is not None else workers.cores
            job = cluster.Job(
                self.load, cluster.anywhere(self.coarse), cluster.settled(tasks), tasks.output.identity, regions, cores
            )
            return cluster.on_dask(job, workers, progress.say, units)
        if workers.threads is not None:
            return engines.on_threads(tasks, workers, files, units)
        return engines.here(tasks, files, units)


def _same(model: Model) -> Model:
    return model


def predict(
    prediction: Prediction, out: str | Path, *, resume: bool = False, overwrite: bool = False, shown: bool = True
) -> None:
    """Make a prediction and write it: (time, realization, y, x).

    Args:
        prediction: what.
        out: ends in .nc or .zarr, a path or a URL; appears under its name once it is whole.
        resume: continue an interrupted run to Zarr.
        overwrite: replace an output that exists.
        shown: say on stderr how far it is, and what it costs where that is much.

    Raises:
        InputError: for an output that cannot be used, or input that fails when it is read.
    """
    path = place(out)
    with sole_writer(path):
        _predict(prediction, path, resume, overwrite, shown)


def _predict(prediction: Prediction, path: Place, resume: bool, overwrite: bool, shown: bool) -> None:
    tasks = prediction.tasks
    output = tasks.output
    with explained(path), deferred() as asked:
        store = open_output(path, output.template(), output.chunks, output.identity, resume, overwrite, output.packed)

    try:
        if asked.signal is not None:
            raise Interrupted(asked.signal)
        tasks.unchanged(store.done)
        with _kept(store):
            _run(prediction, store, path, shown)
        residuals = _finite(output.residuals(store.done.worst))
        # A signal that comes now comes too late.
        with _kept(store), explained(path), deferred():
            store.finish(output.attrs(residuals), {name: {RESIDUAL: after} for name, (after, _) in residuals.items()})
    except KeyboardInterrupt as stop:
        number = stop.number if isinstance(stop, Interrupted) else signal.SIGINT
        later = f"{len(store.done)} of {len(tasks)} tasks are kept: --resume continues" if store.resumable else ""
        raise Interrupted(number, later) from None
    finally:
        with deferred(), _kept(store), explained(path):
            store.close()


def _run(prediction: Prediction, store: Store, path: Place, shown: bool) -> None:
    """Make and write what is left to do."""
    tasks, done, cost = prediction.tasks, store.done, prediction.cost
    long = cost.work >= LONG
    if shown and (long or prediction.workers.distributed):
        progress.say(str(cost))

    def write(task: int, parts: list[Part], note: list[float]) -> None:
        with explained(path):
            store.write(task, parts, note)

    # Where two tasks share a chunk, two processes that write it at once would lose one of both.
    regions = store.regions if isinstance(store, ZarrStore) and tasks.output.apart else None
    with ThreadPoolExecutor(1) as files, prediction.results(tasks.units(done), files, regions) as results:
        written: Future[None] | None = None
        left = (result for result in results if result[0] not in done)
        for result in progress.shown(left, len(tasks), len(done), shown, long):
            if written is not None:
                written.result()
            written = files.submit(write, *result)
        if written is not None:
            written.result()


@contextmanager
def _kept(store: Store) -> Iterator[None]:
    """Say of any error what is kept, where something is."""
    later = "what is finished is kept: --resume continues"
    try:
        yield
    except InputError as error:
        if store.resumable:
            raise InputError(f"{error}; {later}") from error
        raise
    except Exception as error:
        if store.resumable:
            error.add_note(later)
        raise


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


def in_memory(prediction: Prediction) -> xr.Dataset:
    """The ensemble of a prediction, in memory: (realization, time, y, x).

    Raises:
        InputError: for input that fails when it is read.
    """
    tasks = prediction.tasks
    values = {name: np.full(shape, np.nan, dtype=np.float32) for name, shape in tasks.output.shapes.items()}
    done = Finished()
    with ThreadPoolExecutor(1) as files, prediction.results(tasks.units(()), files, None) as results:
        for task, parts, note in results:
            for name, region, part in parts:
                values[name][region] = part
            done.add(task, note)
    residuals = _finite(tasks.output.residuals(done.worst))
    out = tasks.output.template(values).assign_attrs(tasks.output.attrs(residuals))
    for name, (after, _) in residuals.items():
        out[name].attrs[RESIDUAL] = after
    return out


def downscale_dataset(model: Model, coarse: Files, request: Request, lazy: bool = False) -> xr.Dataset:
    """The ensemble of a dataset, in memory or, where ``lazy``, as it is asked for.

    Raises:
        InputError: for input or a request that cannot be used.
    """
    prediction = Prediction(model, coarse, request, values=not lazy)
    if not lazy:
        return in_memory(prediction)
    from finescale.inference.lazy import lazily

    return lazily(prediction.tasks)
