"""Outputs while they grow: under another name, where there are names to change, or marked as unfinished.

On this machine an output grows under a hidden name and is renamed (`finescale.data.atomic`). An object store renames
nothing. There a NetCDF file is written on this machine and uploaded, which it shows whole or not at all; a Zarr store
is written under its own name, with a global attribute that says so, and is finished by the one object that no longer
has the attribute. Whoever opens it before sees that attribute; finescale refuses to read it.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from finescale.data.atomic import atomic
from finescale.data.place import Place, Remote, reached
from finescale.errors import InputError

if TYPE_CHECKING:
    from zarr.abc.store import Store

UNFINISHED = "finescale_unfinished"
"""The global attribute of a Zarr store that is being written."""
UNTIL = "this store is being written, or its run was interrupted; this attribute goes when it is whole"


def journal_of(path: Remote) -> Remote:
    """Where the journal of a run that writes to a URL lies: beside its output."""
    return Remote(f"{path.folder}/.{path.name}.finescale-run")


def check_remote(path: Remote, overwrite: bool) -> None:
    """Refuse a URL that cannot or must not be written; one that holds an unfinished output passes.

    Whether the server lets it be written is told by the first object.

    Raises:
        InputError: for a web server, a bucket that is not there, or an output that exists without ``overwrite``.
    """
    if path.protocol.startswith("http"):
        raise InputError(f"the output {path} cannot be written to a web server: name a folder, s3:// or gs://")
    with reached(path):
        there = path.names()
        if not there:
            path.check_bucket()
            return
        zarr, wanted = path.zarr_metadata(), path.suffix == ".zarr"
    if wanted and zarr is not None and UNFINISHED.encode() in zarr[1]:
        return
    if not overwrite:
        raise InputError(f"the output {path} exists: choose another name or give --overwrite")
    if zarr is None if wanted else (zarr is not None or len(there) > 1):
        raise InputError(
            f"{path} is there and is no {path.suffix[1:]} output, so that it is not overwritten: name another"
        )


@contextmanager
def growing(path: Place, overwrite: bool) -> Iterator[Path | Store]:
    """What to write an output to in one go; it is whole under its name at the end, or gone after an error.

    Raises:
        InputError: for the part that an interrupted run left behind a URL, without ``overwrite``.
    """
    if isinstance(path, Path):
        with atomic(path) as temporary:
            yield temporary
    elif path.suffix == ".nc":
        with tempfile.TemporaryDirectory(prefix="finescale-", ignore_cleanup_errors=True) as folder:
            yield Path(folder) / "output.nc"
            path.upload(Path(folder) / "output.nc")
    else:
        clear(path, overwrite)
        try:
            yield path.zarr()
        except BaseException:
            with suppress(Exception):  # where the server is away, what is there stays, marked as unfinished
                path.remove()
            raise


def clear(path: Remote, overwrite: bool) -> None:
    """Delete what is under the name of an output that is about to be written.

    Raises:
        InputError: if that is the part of an interrupted run, without ``overwrite``.
    """
    if path.names() and not overwrite:
        raise InputError(f"an interrupted run left a part of {path}: give --overwrite to begin afresh")
    path.remove()
    journal_of(path).remove()


def complete(store: Path | Store) -> None:
    """Say of a Zarr store that it is whole; its metadata in one place, where xarray looks for them."""
    import zarr

    where = str(store) if isinstance(store, Path) else store
    group = zarr.open_group(where, mode="r+")
    if UNFINISHED in group.attrs:
        del group.attrs[UNFINISHED]
    with warnings.catch_warnings():
        # Zarr's own warnings: the specification of its format 3 does not have them yet, and a journal is none of it.
        warnings.simplefilter("ignore", UserWarning)
        zarr.consolidate_metadata(where)
