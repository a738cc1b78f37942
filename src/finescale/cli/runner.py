"""How a command line runs: words to settings, errors to one line on stderr and an exit code.

Exit codes: 0; 2 for anything the user can mend, with one line on stderr that says what, where and how (``--debug``
shows the traceback); 1 for a fault of finescale's own; 128 + its number after a signal: 130 after Ctrl-C, 143 after
SIGTERM.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import select
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, pairwise, zip_longest
from pathlib import Path
from types import FrameType
from typing import Any

from cyclopts import App, CycloptsError

from finescale.cli.allocator import keep_memory
from finescale.errors import InputError, Interrupted, Notice, brief
from finescale.signals import ENDING

SOURCES = ("auto", "head", "members", "denoiser")
"""Where a variance can be from, as `finescale.model.uncertainty` has them, which takes torch to import."""

MOMENT, POSTPONED = 0.05, 200
"""Seconds until a signal that came where it would be lost comes again, and how often at most."""
MENDABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE),
    *(errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP),
)
"""Errors of the system that are about a disk or a name, not about us."""


def run(app: App, arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own, and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    keep_memory()
    for stream in (sys.stdout, sys.stderr):
        # Names of files need not be text.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not debug:
        _hush()
    try:
        with warnings.catch_warnings(), _interruptible(), _unraised(debug):
            if not debug:
                _quiet()
            words = [word for word in given if word != "--debug"]
            check_variance(words)
            app(bare_variance(words) or ["--help"])
            sys.stdout.flush()
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt as stop:
        number = stop.number if isinstance(stop, Interrupted) else signal.SIGINT
        later = stop.later if isinstance(stop, Interrupted) else ""
        if isinstance(stop, Interrupted) and stop.again:
            later += f"; the same command goes on from there: {_again(given)}"
        return _say(f"interrupted; {later or 'nothing was written under the name of the output'}", 128 + number, debug)
    except InputError as error:
        return _say(str(error), 2, debug)
    except CycloptsError as error:
        return _say(f"{error}; finescale --help lists what there is", 2, debug)
    except FileNotFoundError as error:
        return _say(f"{error.filename or error} does not exist", 2, debug)
    except PermissionError as error:
        return _say(f"{error.filename or error} may not be read or written: check its permissions", 2, debug)
    except MemoryError:
        return _say("the memory is full: take fewer members or smaller windows (--window), or a smaller file", 2, debug)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _unheard():
            return 128 + signal.SIGPIPE
        notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
        if isinstance(error, OSError) and error.errno in MENDABLE:
            return _say(f"{error.filename or 'a file'} cannot be used: {error.strerror}{notes}", 2, debug)
        where = "" if debug else "; --debug shows where"
        return _say(f"fault of finescale's own: {type(error).__name__}: {error}{notes}{where}", 1, debug)


def _unheard() -> bool:
    """Whether what reads our output has ended, as ``head`` does: what is left of it goes nowhere then."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    ended = any(event & select.POLLERR for _, event in output.poll(0))
    if ended:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ended


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end a command as Ctrl-C does: in order; unless they are ignored, as nohup has it.

    None does so where the exception could be lost (`_lost`): it comes again a moment later. An error that follows one
    that was lost all the same is its doing, such as netCDF4's, which takes whatever is raised while it asks for a
    file's name for a name that is no text.
    """
    postponed, ended = count(1), list[int]()

    def end(number: int, frame: FrameType | None) -> None:
        if _lost(frame) and next(postponed) <= POSTPONED:
            again = threading.Timer(MOMENT, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        ended.append(number)
        raise Interrupted(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in ENDING if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, end) for number in heard}
    try:
        yield
    except BaseException as error:
        if ended and isinstance(error, Exception):
            raise Interrupted(ended[0]) from error
        if _shared():
            # torchrun ends the others as soon as one has ended: this one still has to say why, and its exit code.
            before = dict.fromkeys(ENDING, signal.SIG_IGN)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lost(frame: FrameType | None) -> bool:
    """Whether an exception may end here: in an import, which would swallow it or keep a lock, or in code of Cython,
    such as netCDF4's, some of which have no way to raise."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib") or name.endswith(".pyx"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def _unraised(debug: bool) -> Iterator[None]:
    """Exceptions that nobody can catch, such as those in callbacks of libraries in C, are for --debug too."""
    before = sys.excepthook, sys.unraisablehook
    if not debug:  # Cython tells both hooks
        sys.excepthook = lambda *_: None
        sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook = before


def bare_variance(words: Sequence[str]) -> list[str]:
    """``--variance`` alone means auto; where no source follows, the next word is none of its own."""
    pairs = zip_longest(words, words[1:], fillvalue="")
    return [f"{word}=auto" if word == "--variance" and after not in SOURCES else word for word, after in pairs]


def check_variance(words: Sequence[str]) -> None:
    """Refuse a word after ``--variance`` that is neither a source nor a file."""
    for word, after in pairwise(words):
        if word == "--variance" and after not in SOURCES and not after.startswith("-") and not Path(after).exists():
            raise InputError(
                f"--variance is {after!r}, but must be one of {', '.join(SOURCES)}, or stand alone for auto"
            )


def _say(text: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    if _speaks():
        print("finescale:", " ".join(text.split()), file=sys.stderr)
    return code


def _speaks() -> bool:
    """Whether what this process says is not said, or caused, by another of those that torchrun started."""
    if not _shared():
        return True
    from finescale.training.processes import speaks

    return speaks()


def _shared() -> bool:
    """Whether this is one of several processes that torchrun started."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def _again(words: Sequence[str]) -> str:
    """The command line, to be given again."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    start = ["finescale"] if here == 1 else ["torchrun", "--nproc-per-node", str(here), "-m", "finescale"]
    return shlex.join([*start, *words])


def _hush() -> None:
    """What tasks of an event loop say that nobody waits for any more is for --debug, and comes as late as at the end of
    the process: an error of one of several at once ends a command, and leaves the others."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", r"coroutine .* was never awaited", RuntimeWarning)


def _quiet() -> None:
    """Show finescale's own warnings, each as one line; those of the libraries beneath are for --debug."""
    warnings.simplefilter("ignore")
    warnings.filterwarnings("default", category=Notice)

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print("finescale: warning:", " ".join(str(message).split()), file=sys.stderr)

    warnings.showwarning = show


def overrides(pairs: Sequence[str]) -> dict[str, object]:
    """``["a.b=1", "c=[x, y]"]`` as ``{"a.b": 1, "c": ["x", "y"]}``; values are YAML.

    Raises:
        InputError: for a pair without ``=`` or a value that is not YAML, or too much of it.
    """
    from finescale.config.document import parse

    values: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {brief(pair)} is not understood: write it as key=value, such as train.minutes=5")
        values[key.strip()] = parse(text, f"--set {key.strip()}")
    return values


def whole(_: Any, tokens: Sequence[Any]) -> int:
    """A whole number as it is written; Cyclopts alone would round 1.5.

    Raises:
        ValueError: for anything else.
    """
    text = tokens[0].value
    if not re.fullmatch(r"[+-]?\d{1,40}", text):
        raise ValueError(f"{text[:80]!r} is not a whole number")
    return int(text)


def ranges(text: str, option: str) -> dict[str, list[object]]:
    """``{time: ["2020-01-01", null], lat: [40, 50]}`` as a mapping.

    Raises:
        InputError: for anything else.
    """
    from finescale.config.document import parse

    found = parse(text, option)
    if not isinstance(found, dict) or not all(isinstance(k, str) and isinstance(v, list) for k, v in found.items()):
        raise InputError(
            f"{option} is {brief(text)}, but must be ranges of coordinates, such as '{{time: [\"2020-01-01\", null]}}'"
        )
    return found


def numbers(text: str, option: str) -> list[float]:
    """Finite numbers separated by commas, in rising order.

    Raises:
        InputError: for anything else.
    """
    from math import isfinite

    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not all(map(isfinite, found)):
        raise InputError(f"{option} is {text!r}, but must be numbers separated by commas, such as 0.1,1,10")
    return found


def cells(text: str, option: str) -> tuple[int, int, int]:
    """Numbers of coarse cells (t, y, x), written as a factor is.

    Raises:
        InputError: for anything else.
    """
    from finescale.grids.factor import Factor

    try:
        t, y, x = Factor.parse(text)
    except InputError:
        raise InputError(
            f"{option} is {text!r}, but must be whole numbers of coarse cells, at least 1: TIMExSPACE such as 1x64, "
            "or TIMExYxX"
        ) from None
    return t, y, x
