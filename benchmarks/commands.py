"""Trainings by the command line alone: the command that a table names is the one that ran, in a shell."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from protocol import fit_command


def trained(preset: str, settings: Mapping[str, Any], folder: Path) -> Path:
    """The model of `fit_command`, run in ``folder``, into which the data files are linked.

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
    paths = settings["data.path"]
    for data in map(Path, paths if isinstance(paths, list) else [paths]):
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


def measured(command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None) -> dict[str, float]:
    """Seconds, processor seconds, and the largest size in MB of a command's process, as /proc tells it while it runs.

    The size that the system tells at its end is at least that of the process that began it, on Linux.

    Raises:
        RuntimeError: if it fails, with what it said.
    """
    began, before, largest = time.monotonic(), _children(), 0
    with tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=err)
        while process.poll() is None:
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            largest = int(found[1]) if found else largest
            time.sleep(0.05)
        err.seek(0)
        if process.returncode:
            raise RuntimeError(err.read())
    return {
        "seconds": time.monotonic() - began,
        "processor seconds": _children() - before,
        "largest MB": largest * 1024 / 1e6,
    }


def _children() -> float:
    """Seconds of processor time of the processes that this one has waited for."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
