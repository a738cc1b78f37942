"""Files and folders that appear under their name whole or not at all.

What is written grows under a hidden name of its own in the same folder and is renamed when it is whole, so neither a
reader nor another process that writes the same output ever sees a part of it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from finescale.data.place import Remote, cause_of
from finescale.errors import InputError, Interrupted
from finescale.signals import deferred


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A name to write under; the file or folder gets the name ``path`` at the end, or is removed after an error."""
    path = Path(path)
    temporary = partial_path(path)
    try:
        yield temporary
        publish(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def partial_path(path: Path) -> Path:
    """Where an output is written before it is whole: hidden, in the same folder, under a name that is no one else's."""
    return path.with_name(f".{path.stem[:48]}.{secrets.token_hex(4)}.partial{path.suffix}")


def publish(temporary: Path, path: Path) -> None:
    """Give a finished temporary output its name, replacing what had it."""
    if path.is_dir() and not path.is_symlink():
        old = partial_path(path)
        os.replace(path, old)
        os.replace(temporary, path)
        remove(old)
    else:
        os.replace(temporary, path)


def remove(path: Path | Remote) -> None:
    """Delete a file or a folder, if it is there."""
    if isinstance(path, Remote):
        path.remove()
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def sole_writer(path: str | Path | Remote) -> Iterator[None]:
    """Keep other processes from writing ``path`` meanwhile, by a lock beside it that ends with this process.

    An object store has no locks: there the first object of a journal is told to be new (`finescale.data.journal`).

    Raises:
        InputError: if another process is writing it.
        Interrupted: after a signal that came while the lock was taken.
    """
    if isinstance(path, Remote):
        yield
        return
    path = Path(path)
    lock = path.with_name(f".{path.name[:64]}.lock")
    file = None
    try:
        with deferred() as asked:  # a signal between the two would leave the file
            file = _locked(path, lock)
        if asked.signal is not None:
            raise Interrupted(asked.signal)
        yield
    finally:
        with deferred():
            if file is not None:
                lock.unlink(missing_ok=True)
                file.close()


def _locked(path: Path, lock: Path) -> IO[str]:
    with explained(path):
        file = lock.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = os.fstat(file.fileno()).st_nlink > 0  # it has lost its name where another's end came in between
    except BlockingIOError:
        mine = False
    except OSError:
        mine = True  # a file system without locks: outputs are still whole, and the last one stays
    if mine:
        return file
    file.close()
    raise InputError(f"another process is writing {path}: wait until it has ended, or name another output")


@contextmanager
def explained(path: str | Path | Remote, later: str = "") -> Iterator[None]:
    """Turn a failed write of ``path`` into an InputError that names the cause.

    Args:
        path: the output.
        later: what the user can do besides.

    Raises:
        InputError: instead of an OSError, of a RuntimeError, or of what a server's absence raises. To the NetCDF
            library a full disk is an "HDF error" or "Permission denied": the cause is then what another write beside
            the output meets.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        away = cause_of(error) if isinstance(path, Remote) else None
        if away is not None:
            raise InputError(f"{path} could not be written: {away}{later}") from error
        if not isinstance(error, OSError | RuntimeError):
            raise
        number = getattr(error, "errno", None)
        if number not in _CERTAIN:
            # Of a URL too, something is written on this machine first.
            number = _met(Path(tempfile.gettempdir()) if isinstance(path, Remote) else Path(path).parent) or number
        text = _CAUSES.get(number or 0) or (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{path} could not be written: {text}{later}") from error


_CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than the system allows (ulimit -f)",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "its folder may not be written: check the permissions",
    errno.EPERM: "its folder may not be written: check the permissions",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ENOENT: "its folder is gone",
    errno.EIO: "the disk reports an error",
}
_CERTAIN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_PROBE = 2**20
"""Bytes that a full disk has no room for."""


def _met(folder: Path) -> int | None:
    """The number of the error that writing a file into ``folder`` meets; None for none."""
    probe = partial_path(folder / "probe")
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE))
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno
    finally:
        with suppress(OSError):
            remove(probe)
    return None
