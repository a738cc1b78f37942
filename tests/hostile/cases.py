"""One hostile input, and whether what came of it is right."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finescale.cli import main

MEMORY = 2**30
"""Bytes that a case may add to the process's largest size."""


@dataclass(frozen=True)
class Case:
    """A command line, and what must come of it.

    Attributes:
        name: what is hostile about it.
        arguments: the words after ``finescale``; relative paths are those of the part's folder.
        code: the exit code.
        says: words wanted in what is printed, on stderr where the code is not 0.
        keeps: files and folders that must be the same afterwards, byte by byte.
        writes: whether files may appear although the command is refused.
        disk: bytes that a file may have, as on a disk that is nearly full; None for no limit.
    """

    name: str
    arguments: list[str]
    code: int = 2
    says: tuple[str, ...] = ()
    keeps: tuple[Path, ...] = ()
    writes: bool = False
    disk: int | None = None

    @property
    def command(self) -> str:
        """The command's name; the first word, where that is none."""
        return self.arguments[0] if self.arguments else "(none)"


def faults(case: Case, folder: Path) -> list[str]:
    """What is wrong with what came of a case that is run in ``folder``; empty if all is right."""
    kept, there = {path: contents(path) for path in case.keeps}, names(folder)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.chdir(folder), captured() as streams, room(case.disk):
        try:
            code = main(case.arguments)
        except BaseException:  # whatever gets out of the entry point is a fault
            traceback.print_exc()
            code = -1
    out, err = streams
    lines, found = err.splitlines(), []
    if code != case.code:
        found.append(f"exit code {code}, not {case.code}")
    if case.code == 2 and (len(lines) != 1 or not lines[0].startswith("finescale: ")):
        found.append(f"{len(lines)} lines on stderr, not one that begins with finescale:")
    if "Traceback" in err or "fault of finescale's own" in err:
        found.append("a fault of finescale's own")
    text = err if case.code else out + err
    found += [f"does not say {words!r}" for words in case.says if words not in text]
    found += [f"{path} is changed" for path, before in kept.items() if contents(path) != before]
    if case.code == 2 and not case.writes:
        found += [f"leaves {os.path.relpath(name, folder)}" for name in sorted(names(folder) - there)]
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - largest)
    if grown > MEMORY:
        found.append(f"takes {grown / 2**30:.1f} GiB")
    return [f"{fault}; printed: {err.strip()[:1000] or 'nothing'}" for fault in found]


@contextlib.contextmanager
def room(size: int | None) -> Iterator[None]:
    """Files cannot grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size is None else size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> set[str]:
    """Everything below ``folder``."""
    return {os.path.join(at, name) for at, *parts in os.walk(folder) for part in parts for name in part}


def contents(path: Path) -> dict[str, bytes]:
    """What the file, or every file of the folder, holds."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@contextlib.contextmanager
def captured() -> Iterator[list[str]]:
    """Fills a list with what is printed on stdout and stderr, that of libraries in C included."""
    streams: list[str] = []
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile("w+", errors="replace")) for _ in range(2)]
        sys.stdout.flush()
        sys.stderr.flush()
        before = [os.dup(1), os.dup(2)]
        try:
            for number, file in enumerate(files, 1):
                os.dup2(file.fileno(), number)
            with contextlib.redirect_stdout(files[0]), contextlib.redirect_stderr(files[1]):
                yield streams
        finally:
            for number, (file, old) in enumerate(zip(files, before, strict=True), 1):
                file.flush()
                os.dup2(old, number)
                os.close(old)
        for file in files:
            file.seek(0)
            streams.append(file.read())
