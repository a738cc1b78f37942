"""Trainings by the command line alone: the command that a table names is the one that ran, in a shell."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from protocol import fit_command


def trained(preset: str, settings: Mapping[str, Any], folder: Path) -> Path:
    """The model of `fit_command`, run in ``folder``, into which the data file is linked.

    It goes on where it was stopped. Beside it lie command.txt, what ran to its end, and time.json, the seconds of all
    runs.

    Raises:
        ValueError: if the folder has a model of another command.
    """
    command, done = fit_command(preset, settings), folder / "command.txt"
    if done.is_file():
        if done.read_text() != command:
            raise ValueError(f"{done} is of another command: remove {folder}")
        return folder / "model"
    folder.mkdir(parents=True, exist_ok=True)
    data = Path(settings["data.path"])
    if not (folder / data.name).exists():
        (folder / data.name).symlink_to(data.resolve())
    before, file = _children(), folder / "time.json"
    earlier = json.loads(file.read_text())["training_processor_seconds"] if file.is_file() else 0.0
    try:
        shell(command, folder)
    finally:
        spent = earlier + _children() - before
        file.write_text(json.dumps({"training_processor_seconds": spent, "threads": torch.get_num_threads()}))
    done.write_text(command)
    return folder / "model"


def shell(command: str, folder: Path) -> None:
    """Run a command as pasted into a shell in ``folder``, with this interpreter's `finescale`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-c", command], cwd=folder, check=True, env=os.environ | {"PATH": path})


def training_told(folder: Path) -> dict[str, Any]:
    """Command, steps of each stage, validation losses, threads and seconds of processor time of `trained`."""
    rows = [json.loads(line) for line in (folder / "model" / "log.jsonl").read_text().splitlines()]
    return {
        "command": (folder / "command.txt").read_text(),
        "steps": {row["stage"]: row["step"] for row in rows},
        "valid": {row["stage"]: row["valid"] for row in rows},
        **json.loads((folder / "time.json").read_text()),
    }


def _children() -> float:
    """Seconds of processor time of the processes that this one has waited for."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
