"""Where the units of a prediction are worked on: in this thread, on several, or on the workers of Dask.

Units never talk: noise is keyed by position, so whoever makes one, when, and how often, makes the same. An engine takes
the units that are left to do and gives finished tasks, in any order. One thread, ``files``, reads and writes all that
this process reads and writes, as HDF5 allows no more.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from time import monotonic

import torch

from finescale.errors import InputError
from finescale.inference.given import Read
from finescale.inference.tasks import Result, Tasks, Unit

AHEAD = 2
"""Bundles in flight for each that is worked on: a million units never wait in a scheduler, and nobody waits."""
LEAST = 1.0
"""Seconds that a bundle is to take: handing one out takes milliseconds, losing one costs as much again."""
BUNDLE = 256
"""Units of a bundle at most."""
MOST = 10_000
"""Workers, or threads of one, at most."""


@dataclass(frozen=True)
class Workers:
    """Who works on a prediction.

    Attributes:
        workers: processes of this machine's, each with a model of its own; None for this process.
        threads: tasks that each process works on at once, with one model.
        scheduler: the address of a Dask scheduler whose workers do the work, such as tcp://host:8786.
    """

    workers: int | None = None
    threads: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "threads"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and 1 <= value <= MOST):
                raise InputError(f"{name} is {value!r}, but must be a whole number from 1 to {MOST}")
        if self.scheduler is not None and (self.workers is not None or self.threads is not None):
            raise InputError(
                "a scheduler has workers and threads of its own: give either --scheduler, or --workers and --threads"
            )

    @property
    def distributed(self) -> bool:
        """Whether processes other than this one work."""
        return self.workers is not None or self.scheduler is not None

    @property
    def cores(self) -> int:
        """Threads of the networks of a task on this machine, so that all together keep to its cores."""
        from dask.system import CPU_COUNT

        each = CPU_COUNT // ((self.workers or 1) * (self.threads or 1))
        return max(1, min(torch.get_num_threads(), each))


HERE = Workers()
Engine = Callable[[Iterable[Unit]], AbstractContextManager[Iterator[Result]]]
"""Units that are left to do -> finished tasks; what is under way when the block is left is dropped, or waited for."""


def keep_to(cores: int) -> None:
    """Let the networks of this thread use so many threads of their own."""
    if torch.get_num_threads() != cores:
        torch.set_num_threads(cores)


Bundle = list[Unit]
"""What is handed out at once."""
Made = list[Result] | InputError
"""The finished tasks of a bundle, or what the user has to mend."""
Submit = Callable[[Bundle], Future[Made]]


def waves(
    submit: Callable[[Bundle], Future[Made]], units: Iterable[Unit], slots: Callable[[], int]
) -> Iterator[Result]:
    """Hand out units, a few at a time, and give what comes back, as it comes.

    Units that take little are handed out in bundles, which grow by no more than two from one to the next.

    Args:
        submit: hands out a bundle.
        units: what is to be done, of which no more is asked for than is handed out.
        slots: how many bundles are worked on at once now.
    """
    todo, flight, pace = iter(units), dict[Future[Made], int](), Pace()
    while True:
        while len(flight) < AHEAD * max(1, slots()) and (bundle := list(itertools.islice(todo, pace.bundle))):
            flight[submit(bundle)] = len(bundle)
        if not flight:
            return
        finished, _ = wait(flight, return_when=FIRST_COMPLETED)
        for future in finished:
            pace.count(flight.pop(future), max(1, slots()))
            try:
                made = future.result()
            except CancelledError:
                raise InputError("the scheduler of the workers has gone: start it again") from None
            if isinstance(made, InputError):
                raise made
            yield from made


class Pace:
    """How many units take `LEAST` seconds where they are worked on, as far as is known.

    Attributes:
        bundle: units to hand out at once.
    """

    def __init__(self) -> None:
        self.bundle = 1
        self._began: float | None = None
        self._done = 0

    def count(self, units: int, slots: int) -> None:
        """Units that have come back, of so many that are worked on at once."""
        if self._began is None:  # the first ones wait for a model to be loaded
            self._began = monotonic()
            return
        self._done += units
        seconds = monotonic() - self._began
        if seconds >= LEAST:  # sooner, some that came together would tell little
            self.bundle = max(1, min(int(LEAST * self._done / (seconds * slots)), 2 * self.bundle, BUNDLE))


@contextmanager
def here(tasks: Tasks, files: Executor, units: Iterable[Unit]) -> Iterator[Iterator[Result]]:
    """One after another in this thread, while ``files`` reads what the next one needs."""

    def made() -> Generator[Result, None, None]:
        for read, some in _read_ahead(tasks, files, units):
            for unit in some:
                yield from tasks.made(unit, read.result())

    with closing(made()) as results:
        yield results


def _read_ahead(tasks: Tasks, files: Executor, units: Iterable[Unit]) -> Iterator[tuple[Future[Read], list[Unit]]]:
    """Units that need the same, with what they need; that of the next ones is being read meanwhile."""
    waiting = None
    for piece, some in itertools.groupby(units, attrgetter("piece")):
        after = files.submit(tasks.read, piece), list(some)
        if waiting is not None:
            yield waiting
        waiting = after
    if waiting is not None:
        yield waiting


@contextmanager
def on_threads(tasks: Tasks, workers: Workers, files: Executor, units: Iterable[Unit]) -> Iterator[Iterator[Result]]:
    """Several at a time on threads of this process, which share the model."""

    def work(bundle: Bundle) -> Made:
        made: list[Result] = []
        for unit in bundle:
            made += tasks.made(unit, files.submit(tasks.read, unit.piece).result())
        return made

    count = workers.threads or 1
    pool = ThreadPoolExecutor(count, "finescale", keep_to, (workers.cores,))
    try:
        yield waves(lambda bundle: pool.submit(work, bundle), units, lambda: count)
    finally:
        pool.shutdown(cancel_futures=True)
