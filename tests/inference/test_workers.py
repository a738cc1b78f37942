"""Who makes a prediction leaves no trace: this process, threads, workers of Dask, of which some die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import finescale
from finescale.cli import main
from finescale.data.journal import JOURNAL
from finescale.data.store import ZarrStore
from finescale.data.writing import write
from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.inference import cluster, cost, engines
from finescale.inference.prepare import tasks_of
from finescale.inference.request import Request
from finescale.inference.tasks import Unit

SETTINGS = ["--members", "3", "--window", "1x4x8"]
Rain = Callable[..., xr.Dataset]
Built = Callable[..., Downscaler]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sums go in the order of a network's threads: here one, as workers take, however many the tests are given."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler with two workers, threads of this process."""
    from distributed import LocalCluster

    settings = {"processes": False, "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with LocalCluster(n_workers=2, threads_per_worker=1, **settings) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def words(rain: Rain, built: Built, tmp_path: Path) -> Callable[..., list[str]]:
    """``words(out, …)``: a command that downscales a small file, 12 tasks, in ``tmp_path``."""
    write(rain(3, 8, 16), tmp_path / "coarse.zarr")
    built().save(tmp_path / "model")

    def made(out: str, *more: str) -> list[str]:
        paths = [str(tmp_path / name) for name in ("model", "coarse.zarr")]
        return ["downscale", *paths, "-o", str(tmp_path / out), *SETTINGS, *more]

    return made


def values(path: Path) -> np.ndarray:
    with xr.open_dataset(path, engine="zarr" if path.suffix == ".zarr" else None) as ds:
        return ds["rain"].transpose("realization", ...).values


def test_all_make_the_same(words: Callable[..., list[str]], scheduler: str, tmp_path: Path) -> None:
    assert main(words("here.zarr")) == 0
    whole = values(tmp_path / "here.zarr")
    assert np.isfinite(whole).any()
    for name, engine in {"threads": ["--threads", "2"], "dask": ["--scheduler", scheduler]}.items():
        for suffix in (".zarr", ".nc"):
            assert main(words(name + suffix, *engine)) == 0
            np.testing.assert_array_equal(values(tmp_path / (name + suffix)), whole)


def test_workers_of_one_process_read_one_file_in_turn(
    words: Callable[..., list[str]], scheduler: str, rain: Rain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 allows one thread alone, and two of them may end the process."""
    inside, most = [], []
    prepared = cluster.Job.prepared

    def counted(job: cluster.Job) -> Any:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.2)
        try:
            return prepared(job)
        finally:
            inside.pop()

    monkeypatch.setattr(cluster.Job, "prepared", counted)
    write(rain(3, 8, 16), tmp_path / "coarse.nc")
    arguments = [word.replace("coarse.zarr", "coarse.nc") for word in words("here.zarr")]
    assert main(arguments) == 0
    there = [word.replace("here.zarr", "dask.zarr") for word in arguments]
    assert main([*there, "--scheduler", scheduler]) == 0
    assert most == [1, 1]  # both have prepared, one after the other
    np.testing.assert_array_equal(values(tmp_path / "dask.zarr"), values(tmp_path / "here.zarr"))


def test_windows_and_batches_of_workers(built: Built, rain: Rain, scheduler: str) -> None:
    """Other windows and batches, in whatever order they are finished, are equal to 1e-5 of the spread; in memory."""
    whole = finescale.downscale(built(), rain(2, 8, 8), members=3, window=(9, 99, 99))
    assert whole is not None
    spread = float(whole["rain"].std("realization").mean())
    found = finescale.downscale(built(), rain(2, 8, 8), members=3, scheduler=scheduler, window=(1, 4, 8), batch=2)
    assert found is not None
    # Of cells of many times the spread float32 keeps a part in 10⁷, and sums of them a few of these.
    np.testing.assert_allclose(found["rain"].values, whole["rain"].values, rtol=1e-5, atol=1e-5 * spread)


@pytest.mark.slow
def test_a_worker_that_is_killed_leaves_no_trace(
    words: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words("here.zarr")) == 0
    capsys.readouterr()
    write_task, killed = ZarrStore.write, list[int]()

    def kill(self: ZarrStore, *what: Any) -> None:
        if not killed:
            victim = multiprocessing.active_children()[0].pid
            assert victim is not None
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
        write_task(self, *what)

    monkeypatch.setattr(ZarrStore, "write", kill)
    assert main(words("workers.zarr", "--workers", "2")) == 0
    np.testing.assert_array_equal(values(tmp_path / "workers.zarr"), values(tmp_path / "here.zarr"))
    assert killed and not multiprocessing.active_children()
    said = capsys.readouterr().err
    assert "12 tasks (12 windows x 3 members)" in said and "dashboard at http://" in said and "Traceback" not in said


@pytest.mark.parametrize("engine", ["here", "threads", "dask"])
def test_a_task_that_raises_ends_the_run_in_one_line(
    engine: str,
    words: Callable[..., list[str]],
    scheduler: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen = {"here": [], "threads": ["--threads", "2"], "dask": ["--scheduler", scheduler]}[engine]
    assert main(words("here.zarr")) == 0
    sample = Downscaler.sample

    def failing(self: Downscaler, given: Any, members: Any) -> Any:
        if given.origins[0][0] == 2:
            raise RuntimeError("no such kernel")
        return sample(self, given, members)

    monkeypatch.setattr(Downscaler, "sample", failing)
    capsys.readouterr()
    assert main(words("out.zarr", *chosen)) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "RuntimeError" in line]
    assert len(lines) == 1 and "no such kernel; what is finished is kept: --resume continues" in lines[0]
    monkeypatch.undo()
    assert main(words("out.zarr", *chosen, "--resume")) == 0
    np.testing.assert_array_equal(values(tmp_path / "out.zarr"), values(tmp_path / "here.zarr"))


def test_input_that_only_a_worker_misses_is_named(
    built: Built, words: Callable[..., list[str]], scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the user has to mend is said by the worker's own line."""
    from finescale.inference import cluster

    def gone(*_: Any, **__: Any) -> None:
        raise InputError("coarse.zarr does not exist on node 7")

    monkeypatch.setattr(cluster, "tasks_of", gone)
    with pytest.raises(InputError, match=r"^coarse.zarr does not exist on node 7$"):
        finescale.downscale(built(), tmp_path / "coarse.zarr", tmp_path / "o.zarr", scheduler=scheduler, members=1)
    assert not list(tmp_path.glob("*o.*"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_workers_too(words: Callable[..., list[str]], tmp_path: Path, number: int) -> None:
    """One line, 128 + the number, no process left behind, and what is finished is gone on from."""
    code = f"""
import multiprocessing, signal, sys, time
from finescale.cli import main
from finescale.data.store import ZarrStore

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    real = ZarrStore.write

    def told(self, task, *rest):
        real(self, task, *rest)
        if len(self.done) == 2:
            print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        time.sleep(1)

    ZarrStore.write = told
    sys.exit(main({words("out.zarr", "--workers", "2")}))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        children = [int(word) for word in process.stdout.readline().split()]
        process.send_signal(number)
        try:
            _, err = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 128 + number, err
    lines = [line for line in err.splitlines() if "interrupted" in line]
    assert len(lines) == 1 and " of 12 tasks are kept: --resume continues" in lines[0] and "Traceback" not in err
    assert len(children) == 2
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
    assert (tmp_path / ".out.partial.zarr" / JOURNAL).is_file()
    assert main(words("out.zarr", "--resume")) == 0
    assert main(words("here.zarr")) == 0
    np.testing.assert_array_equal(values(tmp_path / "out.zarr"), values(tmp_path / "here.zarr"))


@pytest.mark.parametrize("falling", [False, True], ids=["rising", "falling latitude"])
@pytest.mark.parametrize("window", [(1, 4, 4), (1, 4, 6), (2, 3, 99)])
@pytest.mark.parametrize("members", [1, 9])
def test_no_two_tasks_write_to_one_chunk(
    built: Built, rain: Rain, window: tuple[int, int, int], falling: bool, members: int
) -> None:
    """…where the output says so; where it cannot be, workers leave writing to the client."""
    field = rain(6, 14, 10)
    field = field.isel(lat=slice(None, None, -1)) if falling else field
    tasks = tasks_of(built(), field, Request(members, window=window, halo=(0, 0, 0)))
    owners: dict[tuple[int, ...], set[Unit]] = {}
    for unit in tasks.units(()):
        for number in range(unit.first, unit.stop):
            for name, region in tasks.regions(tasks.windows[number], unit.member, unit.part).items():
                sides = [
                    range(side.start // chunk, -(-side.stop // chunk))
                    for side, chunk in zip(region, tasks.output.chunks[name], strict=True)
                ]
                for place in product(*sides):
                    owners.setdefault(place, set()).add(unit)
    shared = any(len(units) > 1 for units in owners.values())
    assert shared == (not tasks.output.apart)
    # 14 rows from the north in windows of 4 begin at row 2, 6, …: chunks of 2; in windows of 3 chunks would be of 1.
    assert tasks.output.apart or (falling and window[1] == 3 and members >= 1)


def test_after_a_gap_in_time_chunks_are_shorter(built: Built, rain: Rain) -> None:
    field = rain(9, 8, 8)
    field = field.isel(time=[0, 1, 2, 5, 6, 7, 8])
    model = built(factor="2x4", mean="interpolation", data={"frames": 2})
    tasks = tasks_of(model, field, Request(2, window=(2, 9, 9)))
    assert tasks.windows.starts(0) == {0, 2, 3, 5} and tasks.output.apart
    assert tasks.output.chunks["rain"] == (2, 1, 32, 32)


@pytest.mark.parametrize(("seconds", "bundle"), [(2.0, 1), (1e-3, engines.BUNDLE)])
def test_units_are_handed_out_in_waves(seconds: float, bundle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, a few bundles for each that is worked on are in flight, and no more are asked for; units
    that take little come in bundles."""
    now = 0.0
    monkeypatch.setattr(engines, "monotonic", lambda: now)
    asked = 0
    flight: list[tuple[Future[Any], list[Unit]]] = []
    most = largest = 0

    def units() -> Iterator[Unit]:
        nonlocal asked
        for number in range(20_000):
            asked += 1
            yield Unit(number, number + 1, 0, 0)

    def submit(units: list[Unit]) -> Future[Any]:
        nonlocal most, largest, now
        future: Future[Any] = Future()
        flight.append((future, units))
        most, largest = max(most, len(flight)), max(largest, len(units))
        if len(flight) == 3 * engines.AHEAD or units[-1].stop == 20_000:  # the last ones first
            now += sum(len(some) for _, some in flight) * seconds / 3
            for one, some in reversed(flight):
                one.set_result([(unit.first, [], []) for unit in some])
            flight.clear()
        return future

    done = set()
    for given, (task, _, _) in enumerate(engines.waves(submit, units(), lambda: 3), 1):
        assert asked <= given + 2 * 3 * engines.AHEAD * bundle
        done.add(task)
    assert done == set(range(20_000)) and most == 3 * engines.AHEAD and largest == bundle


def test_the_cost_is_told_and_nothing_written(
    words: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert main(words("out.zarr", "--dry-run")) == 0
    out, err = capsys.readouterr()
    assert not err and sorted(tmp_path.rglob("*")) == before
    first, variable, *_ = out.splitlines()
    assert first.startswith("12 tasks (12 windows x 3 members), 73.7 kB of output before compression, about ")
    assert variable.startswith("rain: 3 x 3 x 32 x 64 values of 4 bytes in 36 chunks of 1 x 1 x 16 x 32 (2.05 kB)")
    (tmp_path / "out.zarr").mkdir()
    assert main(words("out.zarr", "--dry-run")) == 2
    assert main(words("no.such.folder/out.zarr", "--dry-run")) == 2
    assert main(words("out.zarr", "--dry-run", "--overwrite", "--factor", "1x5")) == 2
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["finescale:"] * 3


def test_a_long_run_tells_the_time_left(
    words: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("finescale.inference.predict.LONG", 0.0)
    assert main(words("out.zarr")) == 0
    told, *left = capsys.readouterr().err.splitlines()
    assert told.startswith("finescale: 12 tasks (12 windows x 3 members)")
    assert len(left) == 7 and left[0].startswith("finescale: 4 of 12 tasks are done, about ")
    assert cost.size(2_100_000_000) == "2.1 GB"


@pytest.mark.parametrize(
    ("who", "message"),
    [
        ({"workers": 0}, "workers is 0, but must be a whole number from 1"),
        ({"threads": 1.5}, "threads is 1.5, but must be"),
        ({"workers": 2, "scheduler": "tcp://127.0.0.1:1"}, "give either --scheduler, or --workers"),
        ({"scheduler": "tcp://127.0.0.1:1"}, "no scheduler answers at tcp://127.0.0.1:1: give the address"),
        ({"scheduler": "nowhere"}, "no scheduler answers at nowhere"),
    ],
    ids=["none", "half", "both", "no scheduler", "no address"],
)
def test_workers_that_cannot_be(
    built: Built, rain: Rain, tmp_path: Path, who: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finescale.inference.cluster.PATIENCE", 0.5)
    with pytest.raises(InputError, match=message):
        finescale.downscale(built(), rain(), tmp_path / "o.zarr", members=1, **who)
    assert not list(tmp_path.iterdir())
