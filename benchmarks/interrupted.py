"""Trainings on one and two processes: killed and resumed, and how fast.

    python benchmarks/interrupted.py [--kills 10] [--rounds 3] [--seed 0] [--results benchmarks/results]

Data are made (`finescale.data.synthetic`); torchrun starts two processes on this machine, over gloo.

    kills       ``fit`` with a checkpoint a step, killed (SIGKILL) in ``--kills`` random steps, the same command again
                after each: by one process, and by two, of which one or both and torchrun are killed. Are the weights
                and the log those of the unbroken run?
    pace        steps a second of the preset wavelet's denoiser, the same batch in every case: one process of one
                thread, two of one, one of two. The cases take turns, ``--rounds`` times; the middle one counts.

Writes interrupted.json and interrupted.md as it goes; what the file holds already is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from finescale.data.synthetic import synthetic_rain
from finescale.errors import InputError
from finescale.training.checkpoint import read_progress

STEPS = 80
TINY = {
    "train.steps": STEPS,
    "train.warmup": 4,
    "train.batch": 2,
    "train.checkpoint": 0,
    "data.crop": 32,
    "mean.backbone.width": 8,
    "denoiser.backbone.width": 8,
}
PACE = {"train.steps": 24, "train.batch": 8, "train.checkpoint": 1000, "data.crop": 128, "mean": "interpolation"}
CASES = {"1 process of 1 thread": (1, 1), "2 processes of 1 thread": (2, 1), "1 process of 2 threads": (1, 2)}


def command(folder: Path, out: Path, settings: dict[str, Any], processes: int = 1) -> list[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    common = {"train.minutes": "null", "factor": "1x4", "data.min_wet": 0, "data.path": folder / "fine.nc"}
    words = [word for key, value in (common | settings).items() for word in ("--set", f"{key}={value}")]
    return [
        sys.executable,
        *(launch if processes > 1 else []),
        "-m",
        "finescale",
        "fit",
        "wavelet",
        "-o",
        str(out),
        *words,
    ]


def environment(threads: int = 1) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": str(threads)}


def children(process: int) -> list[int]:
    """Processes that a process started."""
    found = Path(f"/proc/{process}/task/{process}/children")
    return [int(word) for word in found.read_text().split()] if found.exists() else []


def kills(folder: Path, processes: int, count: int, seed: int) -> dict[str, Any]:
    """A training killed at random moments, and whether it ends as the unbroken one."""
    rng, killed = random.Random(seed), []
    whole, broken = folder / f"whole-{processes}", folder / f"broken-{processes}"
    quiet = {"env": environment(), "stderr": subprocess.DEVNULL}
    assert subprocess.run(command(folder, whole, TINY, processes), **quiet).returncode == 0
    moments = sorted(rng.sample(range(1, STEPS - 1), count))
    for moment in moments:
        process = subprocess.Popen(command(folder, broken, TINY, processes), **quiet)
        while process.poll() is None and steps(broken) < moment:
            time.sleep(rng.uniform(0, 0.05))  # so that it is killed anywhere in a step
        ranks = children(process.pid) if processes > 1 else []
        some = rng.choice([ranks[:1], ranks[1:], [process.pid, *ranks]]) if ranks else [process.pid]
        killed.append(process.poll() is None)
        for number in some:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        process.wait()
    code = subprocess.run(command(folder, broken, TINY, processes), **quiet).returncode
    names = ("weights.safetensors", "config.yaml")
    same = {name: (broken / name).read_bytes() == (whole / name).read_bytes() for name in names}
    return {"killed": sum(killed), "steps": moments, "code": code, "same log": log(broken) == log(whole)} | same


def steps(folder: Path) -> int:
    """Steps of all stages that the folder's checkpoint holds: a quarter are the mean's."""
    try:
        saved = read_progress(folder)
    except InputError:  # replaced while it was read
        return 0
    return 0 if saved is None else int(saved["step"]) + (0 if saved["stage"] == "mean" else STEPS // 4)


def log(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def pace(folder: Path, processes: int, threads: int) -> float:
    """Steps a second of a training between its first and its last validation, each of which takes its time too."""
    out = folder / "pace"
    shutil.rmtree(out, ignore_errors=True)
    done = subprocess.run(
        command(folder, out, PACE, processes), env=environment(threads), stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stderr[-1000:]
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return float((rows[-1]["step"] - rows[0]["step"]) / (rows[-1]["seconds"] - rows[0]["seconds"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    file = args.results / "interrupted.json"
    out: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    out["command"] = " ".join(["python", "benchmarks/interrupted.py", *sys.argv[1:]])

    def once(key: str, make: Callable[[], Any]) -> None:
        if key not in out:
            out[key] = make()
            file.write_text(json.dumps(out, indent=2) + "\n")
            (args.results / "interrupted.md").write_text(report(out))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthetic_rain((4, 256, 256), seed=args.seed).to_dataset().to_netcdf(folder / "fine.nc", engine="netcdf4")
        for number in range(args.rounds):
            for case, (processes, threads) in CASES.items():
                once(f"{case}, round {number}", lambda p=processes, t=threads: pace(folder, p, t))  # type: ignore[misc]
        for processes in (1, 2):
            once(f"killed, {processes}", lambda p=processes: kills(folder, p, args.kills, args.seed))  # type: ignore[misc]


def report(out: dict[str, Any]) -> str:
    lines = [f"`{out['command']}`", "", "| training killed and resumed | 1 process | 2 processes |", "|---|---|---|"]
    both = [out.get(f"killed, {n}", {}) for n in (1, 2)]
    for key in ("killed", "code", "same log", "weights.safetensors", "config.yaml"):
        lines.append(f"| {key} | {both[0].get(key, '')} | {both[1].get(key, '')} |")
    rates = {c: [v for k, v in out.items() if k.startswith(f"{c}, round")] for c in CASES}
    lines += ["", "| pace | steps a second (rounds) | against 1 process of 1 thread |", "|---|---|---|"]
    base = statistics.median(rates["1 process of 1 thread"])
    for case, found in rates.items():
        if found:
            each = ", ".join(f"{rate:.2f}" for rate in found)
            lines.append(f"| {case} | {each} | {statistics.median(found) / base:.2f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
