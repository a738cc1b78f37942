"""The journal of an interrupted run: what it was, and which of its tasks are finished.

A file of lines of JSON: the first identifies the run, then comes one for each finished task. One process keeps it,
whichever processes write the regions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from finescale.errors import InputError

JOURNAL = "finescale-run.jsonl"


class Journal:
    """The journal in the folder of a store.

    Args:
        store: the folder.
    """

    def __init__(self, store: Path) -> None:
        self.store, self.path = store, store / JOURNAL

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Identify the run."""
        self.path.write_text(json.dumps(dict(identity)) + "\n")

    def resume(self, identity: Mapping[str, Any]) -> dict[int, list[float]] | None:
        """The finished tasks of the same run, with what was noted of them; None without a journal.

        Raises:
            InputError: if the journal is damaged or of another run.
        """
        if not self.path.is_file():
            return None
        first, *lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        check_same(first, identity, self.store)
        done = noted(lines)
        # A line cut short must not merge with the next one.
        self.path.write_text("\n".join([first, *(line_of(task, note) for task, note in done.items())]) + "\n")
        return done

    def add(self, task: int, note: list[float]) -> None:
        """Note a task as finished, after its regions are written."""
        with self.path.open("a") as journal:
            journal.write(line_of(task, note) + "\n")

    def end(self) -> None:
        """Everything is finished."""
        self.path.unlink()


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


def noted(lines: Iterable[str]) -> dict[int, list[float]]:
    """Finished tasks; a line that an interruption cut short is none, and its task is done again."""
    done = {}
    for line in lines:
        try:
            task, *note = json.loads(line)
        except (ValueError, TypeError):
            continue
        if isinstance(task, int) and all(isinstance(value, int | float) for value in note):
            done[task] = note
    return done
