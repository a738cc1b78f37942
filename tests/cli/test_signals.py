"""Signals that end a command: one line, 128 + the number, nothing under the output's name, nothing hidden."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import finescale
from finescale.data.writing import write
from finescale.downscaler import Downscaler

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A child says when it writes: the signal comes in the middle of its work, whatever the machine's speed.
SLOW = """
import signal, sys, time
import {module}
from finescale.cli import main

# Whatever is ignored where the tests run: a shell ignores SIGINT for what it starts in the background, nohup SIGHUP.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
real = {module}.{name}

def slow(*arguments, **settings):
    print("working", flush=True)
    for _ in range(600):
        time.sleep(0.1)
        if {again}:
            real(*arguments, **settings)
    return real(*arguments, **settings)

{module}.{name} = slow
sys.exit(main({arguments}))
"""
# The signal comes just when a lock of xarray's has been taken, and the block that gives it back has not begun.
LOCKED = """
import os, signal, sys
import xarray
from finescale.cli import main

signal.signal(signal.SIGTERM, signal.SIG_DFL)
real, left = xarray.Dataset.to_netcdf, [{lock}]

def count(frame, event, argument):
    entered = getattr(frame.f_locals.get("self"), "gen", None) if frame.f_code.co_name == "__enter__" else None
    if event == "return" and entered is not None and "backends" in entered.gi_code.co_filename:
        left[0] -= 1
        if left[0] == 0:
            sys.settrace(None)
            print("signalled", flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
    return count

def traced(*arguments, **settings):
    sys.settrace(count)
    try:
        return real(*arguments, **settings)
    finally:
        sys.settrace(None)

xarray.Dataset.to_netcdf = traced
sys.exit(main({arguments}))
"""
# A library swallows what a signal raises, and fails of it.
SWALLOWED = """
import signal, sys
import netCDF4
from finescale.cli import main

def opened(*arguments, **settings):
    try:
        signal.raise_signal(signal.{number})
    except:
        raise TypeError("expected bytes") from None

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
netCDF4.Dataset = opened
sys.exit(main({arguments}))
"""
# The signal comes inside an import, where Python swallows what is raised.
IMPORTING = """
import signal, sys, weakref
from finescale.cli import main

class Thing:
    pass

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "finescale.verify.report":
            thing = Thing()
            reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.{number}))
            del thing

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
sys.meta_path.insert(0, Finder())
sys.exit(main({arguments}))
"""
COMPILED = """
import signal, sys, time
from finescale.cli import main
import finescale.verify.report as report

there = dict(signal=signal)
exec(compile('''
def work():
    try:
        signal.raise_signal(signal.{number})
    except BaseException:
        pass
''', "work.pyx", "exec"), there)
evaluate = report.evaluate

def slow(*arguments, **settings):
    there["work"]()
    time.sleep(20)
    return evaluate(*arguments, **settings)

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
report.evaluate = slow
sys.exit(main({arguments}))
"""
# A signal at every line of what writes a file, one after another: the file is whole, or nothing is there.
EVERYWHERE = """
import signal, sys
from pathlib import Path
import numpy as np
import xarray as xr
from finescale.data.writing import write
from finescale.errors import Interrupted

def end(number, frame):
    raise Interrupted(number)

def count(frame, event, argument):
    if not frame.f_code.co_filename.endswith(("atomic.py", "growing.py", "signals.py", "writing.py")):
        return None
    if event == "line":
        left[0] -= 1
        if left[0] == 0:
            sys.settrace(None)
            signal.raise_signal(signal.SIGTERM)
    return count

signal.signal(signal.SIGTERM, end)
ds = xr.Dataset({"rain": (("time", "y", "x"), np.ones((1, 4, 4), "f4"))})
folder = Path("empty")
folder.mkdir()
points, stops, left = 0, 0, [0]
while left[0] <= 0:
    points += 1
    left, stopped = [points], False
    sys.settrace(count)
    try:
        write(ds, folder / "out.nc")
    except Interrupted:
        stopped = True
    finally:
        sys.settrace(None)
    there = [path.name for path in folder.iterdir()]
    assert there == ["out.nc"] or (stopped and not there), (points, there)
    assert signal.getsignal(signal.SIGTERM) is end
    if there:
        assert xr.load_dataset(folder / "out.nc").identical(ds)
        (folder / "out.nc").unlink()
    stops += not there
print(points, stops)
"""
WORK = {
    "coarsen": ("finescale.data.reader", "Watched._read", True),  # it is told between two pieces of the file
    "downscale": ("finescale.downscaler", "Downscaler.sample", False),
    "verify": ("finescale.verify.report", "evaluate", False),
}


@pytest.fixture
def files(rain: Callable[..., xr.Dataset], built: Callable[..., Downscaler], tmp_path: Path) -> Path:
    truth = rain(2, 16, 16).fillna(0)
    write(truth, tmp_path / "truth.nc")
    write(truth.coarsen(lat=4, lon=4).mean(), tmp_path / "coarse.nc")
    members = xr.concat([truth, truth * np.float32(1.1)], "realization")
    write(members.assign_coords(realization=[0, 1]), tmp_path / "ensemble.nc")
    built().save(tmp_path / "model")
    return tmp_path


def words(command: str) -> list[str]:
    return {
        "coarsen": ["coarsen", "truth.nc", "-o", "out.nc", "--factor", "1x4"],
        "downscale": ["downscale", "model", "coarse.nc", "-o", "out.nc", "--members", "2"],
        "verify": ["verify", "ensemble.nc", "truth.nc", "-o", "out"],
    }[command]


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def assert_whole(folder: Path) -> None:
    """That the output of ``coarsen`` is all that it should be."""
    wanted = finescale.coarsen(folder / "truth.nc", "1x4")
    with xr.open_dataset(folder / "out.nc", engine="netcdf4") as made:
        assert set(made.data_vars) >= set(wanted.data_vars)
        for name in wanted.data_vars:
            np.testing.assert_array_equal(made[name].values, wanted[name].values)


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process said; one that does not end in ten minutes is killed, so that the tests end."""
    try:
        return process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@pytest.mark.parametrize("number", SIGNALS, ids=[number.name for number in SIGNALS])
@pytest.mark.parametrize("command", WORK)
def test_a_signal_ends_a_command_in_order(files: Path, command: str, number: signal.Signals) -> None:
    before = listing(files)
    module, name, again = WORK[command]
    code = SLOW.format(module=module, name=name, again=again, arguments=words(command))
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=files, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.send_signal(number)
        _, err = ended(process)
    lines = [line for line in err.splitlines() if "finescale:" in line]
    assert process.returncode == 128 + number, err
    assert len(lines) == 1 and "interrupted; " in lines[0] and "Traceback" not in err
    assert listing(files) == before


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_error_that_a_signal_made_in_a_library_is_no_error_of_the_file(files: Path, name: str) -> None:
    before, number = listing(files), getattr(signal, name)
    code = SWALLOWED.format(number=name, arguments=words("coarsen"))
    done = subprocess.run([sys.executable, "-c", code], cwd=files, capture_output=True, text=True, timeout=600)
    assert done.returncode == 128 + number, done.stderr
    assert len(done.stderr.splitlines()) == 1 and "interrupted; " in done.stderr
    assert listing(files) == before


def test_signals_at_any_moment(files: Path) -> None:
    """Of an unchanged command: in order from the first line of its own on; before that it is the system's to end it."""
    before, number = listing(files), signal.SIGTERM
    for wait in (0.0, 0.2, 0.4, 0.6, 0.8):
        code = (
            f"import sys; from finescale.cli import main; print('on', flush=True); sys.exit(main({words('coarsen')}))"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], cwd=files, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(wait)
            os.kill(process.pid, number)
            _, err = ended(process)
        if process.returncode == 0:
            assert not err
            assert_whole(files)
            (files / "out.nc").unlink()
        elif process.returncode == 128 + number:
            assert len(err.splitlines()) == 1 and "interrupted" in err
            if (files / "out.nc").is_file():  # it came after the writing: the file is whole
                assert_whole(files)
                (files / "out.nc").unlink()
        else:
            assert process.returncode == -number and not err, err  # before its handlers are there, or after its end
            (files / "out.nc").unlink(missing_ok=True)
        assert listing(files) == before


def test_a_signal_at_every_line_of_the_writing_leaves_all_or_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", EVERYWHERE], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    points, stops = map(int, done.stdout.split())
    assert points > 100 and 50 < stops < points


@pytest.mark.parametrize("lock", [1, 5, 12])
def test_nothing_waits_for_a_lock_that_a_signal_left_closed(files: Path, lock: int) -> None:
    before = listing(files)
    code = LOCKED.format(lock=lock, arguments=words("coarsen"))
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=files, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        out, err = ended(process)
    assert process.returncode == 143 and "signalled" in out, err
    assert len(err.splitlines()) == 1 and "interrupted" in err
    assert listing(files) == before


@pytest.mark.parametrize("where", [IMPORTING, COMPILED], ids=["import", "Cython"])
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_where_exceptions_end_is_not_lost(files: Path, number: str, where: str) -> None:
    before = listing(files)
    code = where.format(number=number, arguments=words("verify"))
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=files, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        _, err = ended(process)
    assert process.returncode == 128 + getattr(signal, number), err
    assert len(err.splitlines()) == 1 and "interrupted" in err
    assert listing(files) == before
