"""A function in a process of its own, with bounds of time and memory, whatever happens to it.

Processes are forked, so that what is imported here is imported in each of them. Nothing else may have run here: no
thread, no file of a library in C.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import resource
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SECONDS = 20
"""Of the processor, that a process may take."""
WAIT = 600
"""Seconds until a process is given up that takes none."""
MEMORY = 2 * 2**30
"""Bytes that a process may hold at a time."""
ROOM = 2 * MEMORY
"""Bytes of addresses that it is given beyond those at its start: what asks for more is told that there is no memory."""


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code; 128 + the signal's number if a signal ended it.
        out: what it printed on stdout.
        err: and on stderr.
        seconds: of the processor.
        memory: the most bytes it held.
    """

    code: int
    out: str
    err: str
    seconds: float
    memory: int

    @property
    def signal(self) -> str:
        """The name of the signal that ended it, or nothing."""
        return signal.Signals(self.code - 128).name if self.code > 128 else ""


def run(function: Callable[[], int], folder: Path) -> Ended:
    """Run ``function`` in ``folder``; what it returns is the exit code."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if not process:
            _begin(function, folder, out.fileno(), err.fileno())
        handle = os.pidfd_open(process)
        if not select.select([handle], [], [], WAIT)[0]:
            os.kill(process, signal.SIGKILL)
        os.close(handle)
        _, status, used = os.wait4(process, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    code = os.waitstatus_to_exitcode(status)
    return Ended(128 - code if code < 0 else code, *texts, used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss)


def _begin(function: Callable[[], int], folder: Path, out: int, err: int) -> None:
    """In the new process: run and end through all that Python and libraries in C do at exit.

    What was imported before is not taken down object by object, which would take longer than most commands.
    """
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
    try:
        code = function()
    except BaseException:  # whatever gets out is for the judge
        traceback.print_exc()
        code = 70
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).exit(code)
