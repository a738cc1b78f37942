"""Units on the workers of Dask: this machine's, or those of a scheduler that is there.

What travels to a worker once is a `Job`: names, from which it prepares the same prediction and loads its one model.
What travels for each unit is four numbers, several units at once where they take little; what comes back is what is
noted of its tasks, as a worker writes regions of Zarr by itself, or else the values, which the client writes. Workers
that come later, or in place of one that died, get the job from the scheduler, and what a dead worker had is handed out
again.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, cast

import torch
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, get_worker
from distributed.utils import silence_logging_cmgr

from finescale.data.regions import ZarrRegions
from finescale.errors import InputError
from finescale.inference.engines import Bundle, Made, Workers, keep_to, waves
from finescale.inference.inputs import Files
from finescale.inference.prepare import tasks_of
from finescale.inference.request import Model, Request
from finescale.inference.tasks import Result, Tasks, Unit
from finescale.signals import deferred

RETRIES = 2
"""How often a task that raises is tried again: a network or a disk may have failed for a moment."""
PATIENCE = 10.0
"""Seconds for a scheduler to answer."""
PREPARING = threading.Lock()
"""Held by whoever prepares or reads, of all workers of a process: HDF5 allows one thread alone."""


@dataclass(frozen=True)
class Job:
    """A prediction as a worker is told of it.

    Attributes:
        load: gives the model; pickled, a path rather than weights.
        coarse: files by names that hold everywhere, or datasets.
        request: what is asked, with everything settled that a processor might decide otherwise.
        identity: what `Output.identity` must be on every worker.
        regions: what writes the output's regions; None where values are to come back.
        cores: threads of the networks of a task; None to leave that as Dask's settings have it.
    """

    load: Callable[[], Model]
    coarse: Files
    request: Request
    identity: dict[str, Any]
    regions: ZarrRegions | None
    cores: int | None

    def prepared(self) -> Tasks:
        """The same prediction, prepared on a worker.

        Raises:
            InputError: if the worker sees other files than the client.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the client has said what there is to notice
            tasks = tasks_of(self.load(), self.coarse, self.request, values=False)
        mine = tasks.output.identity
        differs = [key for key, value in self.identity.items() if mine[key] != value]
        if differs:
            raise InputError(
                f"a worker finds another {', '.join(differs)} than this process under the same names: let all see the "
                "same files"
            )
        return tasks


class Place(WorkerPlugin):
    """What a worker keeps of a job: one model and the opened input, prepared when the first unit comes.

    Args:
        job: what to prepare.
    """

    def __init__(self, job: Job) -> None:
        self.job = job

    def setup(self, worker: Any) -> None:
        self.tasks: Tasks | None = None
        number = str(worker.name)
        self.number = int(number) if number.isdigit() else 0

    def work(self, unit: Unit) -> list[Result]:
        """Make a unit, and write it where the job says so."""
        if self.job.cores is not None:
            keep_to(self.job.cores)
        if torch.cuda.device_count() > 1:  # workers of one machine share out what it has
            torch.cuda.set_device(self.number % torch.cuda.device_count())
        with PREPARING:
            self.tasks = tasks = self.tasks or self.job.prepared()
            read = tasks.read(unit.piece)
        found = list(tasks.made(unit, read))
        if self.job.regions is None:
            return found
        for _, parts, _ in found:
            self.job.regions.write(parts)
        return [(task, [], note) for task, _, note in found]


def work(name: str, bundle: Bundle) -> Made:
    """Make units on a worker that has the plugin ``name``; what the user has to mend is not tried again."""
    try:
        place = cast("Place", get_worker().plugins[name])
        return [result for unit in bundle for result in place.work(unit)]
    except InputError as error:
        return error


@contextmanager
def on_dask(
    job: Job, workers: Workers, say: Callable[[str], None], units: Iterable[Unit]
) -> Iterator[Iterator[Result]]:
    """Units on workers of Dask.

    Args:
        job: what they are of.
        workers: whose.
        say: tells the user where the dashboard is.
        units: what is to be done.

    Raises:
        InputError: if no scheduler answers.
    """
    name, stack = f"finescale-{secrets.token_hex(8)}", ExitStack()
    try:
        stack.enter_context(silence_logging_cmgr(logging.CRITICAL))  # what goes wrong is told in a line of our own
        client = _client(workers, stack)
        if client.dashboard_link:
            say(f"dashboard at {client.dashboard_link}")
        _register(client, Place(job), name)
        if workers.scheduler is not None:
            stack.callback(_forget, client, name)
        pool = client.get_executor(pure=False, retries=RETRIES)
        stack.callback(pool.shutdown, wait=False)
        yield _told(waves(partial(pool.submit, work, name), units, _slots(client)))
    finally:
        with deferred():  # a second signal must not leave processes behind
            stack.close()


def _client(workers: Workers, stack: ExitStack) -> Client:
    """A client of the scheduler, whose end ends what it started."""
    if workers.scheduler is not None:
        try:
            return stack.enter_context(Client(workers.scheduler, timeout=PATIENCE))
        except (OSError, ValueError) as error:
            raise InputError(
                f"no scheduler answers at {workers.scheduler}: give the address that `dask scheduler` prints, such as "
                "tcp://host:8786"
            ) from error
    # No limit of Dask's: a worker near it would be paused, and a run that waits for it never end.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of another dashboard at the usual port: this one's address is told
        cluster = LocalCluster(
            n_workers=workers.workers,
            threads_per_worker=workers.threads or 1,
            processes=True,
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            dashboard_address="127.0.0.1:8787",
        )
    return stack.enter_context(Client(stack.enter_context(cluster)))


def _register(client: Client, place: Place, name: str) -> None:
    """Give a plugin to all workers, also where one dies meanwhile: the one in its place is given it as well."""
    for left in reversed(range(RETRIES + 1)):
        try:
            client.register_plugin(place, name)
        except OSError:
            if not left:
                raise
        else:
            return


def _forget(client: Client, name: str) -> None:
    """Let the workers drop a plugin; those that are gone have."""
    with suppress(OSError):
        client.unregister_worker_plugin(name)


def _slots(client: Client) -> Callable[[], int]:
    """How many bundles all workers work on at once, asked for at most every few seconds: workers come and go."""
    asked, found = -1e9, 0

    def now() -> int:
        nonlocal asked, found
        if monotonic() - asked > 2:
            asked, found = monotonic(), sum(client.nthreads().values())
        return found

    return now


def _told(results: Iterator[Result]) -> Iterator[Result]:
    """Results, or one line on why there are none."""
    try:
        yield from results
    except KilledWorker as error:
        raise InputError(
            "a task ended its worker again and again, often for lack of memory: take smaller windows (--window) or "
            f"fewer workers ({error})"
        ) from error


def anywhere(names: Any) -> Any:
    """Paths as every process of a machine finds them; addresses, datasets and None as they are."""
    if isinstance(names, list | tuple):
        return [anywhere(name) for name in names]
    if not isinstance(names, str | Path) or "://" in str(names):
        return names
    return os.path.abspath(names)


def settled(tasks: Tasks) -> Request:
    """The request of a prediction as workers need it."""
    files = {name: anywhere(getattr(tasks.request, name)) for name in ("static", "onto", "mask")}
    return replace(tasks.request, batch=tasks.at_once, **files)
