"""The journal of an interrupted run: what it was, and which of its tasks are finished.

A file of lines of JSON: the first identifies the run, then comes one for each finished task. One process keeps it,
whichever processes write the regions. Behind a URL, where nothing is appended to, an object identifies the run and the
lines come in objects of some seconds each.
"""

from __future__ import annotations

import json
import operator
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from finescale.data.finished import Finished
from finescale.data.growing import journal_of
from finescale.data.place import Place, Remote
from finescale.errors import InputError

JOURNAL = "finescale-run.jsonl"
IDENTITY = "identity.json"
EVERY = 10.0
"""Seconds of finished tasks in an object of a remote journal: so much is done again after a kill."""


class Journal(Protocol):
    """What was done of a run."""

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Identify the run."""

    def resume(self, identity: Mapping[str, Any]) -> Finished | None:
        """The finished tasks of the same run; None without a journal.

        Raises:
            InputError: if the journal is damaged or of another run.
        """

    def add(self, task: int, note: list[float]) -> None:
        """Note a task as finished, after its regions are written."""

    def keep(self) -> None:
        """Write what is noted and not yet written."""

    def end(self) -> None:
        """Everything is finished, or nothing is kept."""


def journal(store: Place) -> Journal:
    """The journal of a store: in a folder, beside a URL."""
    return RemoteJournal(store) if isinstance(store, Remote) else FileJournal(store)


class FileJournal:
    """The journal in the folder of a store.

    Args:
        store: the folder.
    """

    def __init__(self, store: Path) -> None:
        self.store, self.path = store, store / JOURNAL

    def begin(self, identity: Mapping[str, Any]) -> None:
        self.path.write_text(json.dumps(dict(identity)) + "\n")

    def resume(self, identity: Mapping[str, Any]) -> Finished | None:
        if not self.path.is_file():
            return None
        first, *lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        check_same(first, identity, self.store)
        done = Finished()
        # A line cut short must not merge with the next one.
        self.path.write_text("\n".join([first, *(line for line in lines if noted(line, done))]) + "\n")
        return done

    def add(self, task: int, note: list[float]) -> None:
        with self.path.open("a") as file:
            file.write(line_of(task, note) + "\n")

    def keep(self) -> None:
        pass  # every line is written at once

    def end(self) -> None:
        self.path.unlink(missing_ok=True)


class RemoteJournal:
    """The journal beside the URL of a store.

    Args:
        store: the URL.
    """

    def __init__(self, store: Remote) -> None:
        self.store, self.place = store, journal_of(store)
        self.lines: list[str] = []
        self.kept = time.monotonic()

    def begin(self, identity: Mapping[str, Any]) -> None:
        try:
            (self.place / IDENTITY).put(json.dumps(dict(identity)).encode(), new=True)
        except FileExistsError:
            raise InputError(f"another process is writing {self.store}: wait for it, or name another output") from None

    def resume(self, identity: Mapping[str, Any]) -> Finished | None:
        first = (self.place / IDENTITY).content()
        if first is None:
            return None
        check_same(first.decode(errors="replace"), identity, self.store)
        files = self.place.files
        names = [name for name in self.place.names() if not name.endswith(IDENTITY)]
        texts = files.cat(names, on_error="raise").values() if names else ()
        done = Finished()
        for line in (line for text in texts for line in text.decode(errors="replace").splitlines()):
            noted(line, done)
        return done

    def add(self, task: int, note: list[float]) -> None:
        self.lines.append(line_of(task, note))
        if time.monotonic() - self.kept >= EVERY:
            self.keep()

    def keep(self) -> None:
        if self.lines:
            # A name of its own, which two runs that are resumed at once do not share.
            (self.place / f"{secrets.token_hex(8)}.jsonl").put("\n".join(self.lines).encode())
        self.lines, self.kept = [], time.monotonic()

    def end(self) -> None:
        self.place.remove()


def check_same(first: str, identity: Mapping[str, Any], store: object) -> None:
    """Refuse to resume another run.

    Args:
        first: the journal's line that identifies its run.
        identity: of the run that is to go on.
        store: what messages call the store.

    Raises:
        InputError: naming what differs.
    """
    try:
        before = json.loads(first)
    except ValueError:
        before = None
    if not isinstance(before, dict):
        raise InputError(
            f"the journal in {store} does not say which run it is of: give --overwrite without --resume to begin afresh"
        )
    wanted = json.loads(json.dumps(dict(identity)))
    differs = [key for key in wanted if before.get(key) != wanted[key]]
    if differs:
        said = ", ".join(f"{key} {before.get(key)} is now {wanted[key]}" for key in differs)
        raise InputError(f"{store} is of another run ({said}): give the same settings, or --overwrite without --resume")


def line_of(task: int, note: list[float]) -> str:
    """A finished task in the journal."""
    return json.dumps([task, *note])


def noted(line: str, done: Finished) -> bool:
    """Read a line into ``done``; False for one that an interruption cut short: its task is done again."""
    try:
        task, *note = json.loads(line)
        done.add(operator.index(task), [float(value) for value in note])
    except (ValueError, TypeError):
        return False
    return True
