"""Commands as processes of their own: hundreds in a row, and trainings that are killed.

    python benchmarks/faults.py [--parts kills,loops] [--count 100] [--kills 10] [--workers 2] [--seed 0]

Data are made (`finescale.data.synthetic`), models are tiny: what is asked is whether every process ends as it should.

    loops       ``coarsen``, ``downscale`` and ``verify``, each ``--count`` times: exit codes, and whether anything but
                one line was said on stderr
    kills       ``fit`` with a checkpoint a step, killed (SIGKILL) in ``--kills`` random steps, the same command again
                after each; then to its end: are weights and log those of the unbroken run?

Writes faults.json and faults.md as it goes; what is there of what is not asked for stays.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from finescale.data.synthetic import synthetic_rain
from finescale.training.checkpoint import read_progress

STEPS = 80
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
SETTINGS = [
    "train.minutes=null",
    f"train.steps={STEPS}",
    "train.warmup=4",
    "train.batch=2",
    "train.checkpoint=0",
    "data.crop=32",
    "factor=1x4",
    "mean.backbone.width=8",
    "denoiser.backbone.width=8",
    "data.min_wet=0",
]


def finescale(*words: object) -> list[str]:
    return [sys.executable, "-m", "finescale", *map(str, words)]


def ended(command: list[str]) -> tuple[int, list[str]]:
    """Exit code, and lines on stderr that are no progress bar."""
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    lines = [line for line in done.stderr.splitlines() if line.strip() and "\r" not in line and "|" not in line]
    return done.returncode, lines


def loops(folder: Path, names: list[str], count: int, workers: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """For each command: exit codes, and processes that said something on stderr; the last needs the second."""
    commands = {
        "coarsen": lambda n: finescale("coarsen", folder / "fine.nc", "-o", folder / f"c{n}.nc", "--factor", "1x4"),
        "downscale": lambda n: finescale(
            "downscale", folder / "whole", folder / "coarse.nc", "-o", folder / f"e{n}.nc", "--members", 2
        ),
        "verify": lambda n: finescale("verify", folder / "e0.nc", folder / "fine.nc", "-o", folder / f"v{n}"),
    }
    for name, command in commands.items():
        if name not in names:
            continue
        with ThreadPoolExecutor(workers) as pool:
            results = list(pool.map(ended, map(command, range(count))))
        codes = Counter(code for code, _ in results)
        said = {line for _, lines in results for line in lines}
        found = {"codes": dict(codes), "said something": sum(bool(lines) for _, lines in results)}
        yield name, found | {"lines": sorted(line.replace(f"{folder}/", "") for line in said)}


def kills(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """A training killed at random moments, and whether it ends as the unbroken one in ``folder/whole``."""
    rng, killed = random.Random(seed), 0
    for moment in sorted(rng.sample(range(1, STEPS - 1), count)):
        process = subprocess.Popen(fit(folder, "broken"), env=ENVIRONMENT, stderr=subprocess.DEVNULL)
        while process.poll() is None and steps(folder / "broken") < moment:
            time.sleep(rng.uniform(0, 0.05))  # so that it is killed anywhere in a step
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    code, _ = ended(fit(folder, "broken"))
    names = ("weights.safetensors", "config.yaml")
    same = {name: (folder / "broken" / name).read_bytes() == (folder / "whole" / name).read_bytes() for name in names}
    return {"killed": killed, "code": code, "same log": log(folder / "broken") == log(folder / "whole")} | same


def steps(folder: Path) -> int:
    """Steps of all stages that the folder's checkpoint holds: a quarter are the mean's."""
    saved = read_progress(folder)
    return 0 if saved is None else int(saved["step"]) + (0 if saved["stage"] == "mean" else STEPS // 4)


def fit(folder: Path, name: str) -> list[str]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    return finescale("fit", "wavelet", "-o", folder / name, "--set", f"data.path={folder / 'fine.nc'}", *settings)


def log(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="kills,loops")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--loops", nargs="+", default=["coarsen", "downscale", "verify"], help="which of the three")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    file = args.results / "faults.json"
    out: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    parts = args.parts.split(",")

    def write() -> None:
        file.write_text(json.dumps(out, indent=2) + "\n")
        (args.results / "faults.md").write_text(report(out))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthetic_rain((4, 64, 96), seed=args.seed).to_dataset().to_netcdf(folder / "fine.nc", engine="netcdf4")
        assert ended(finescale("coarsen", folder / "fine.nc", "-o", folder / "coarse.nc", "--factor", "1x4")) == (0, [])
        assert ended(fit(folder, "whole"))[0] == 0
        if "kills" in parts:
            out["kills"] = kills(folder, args.kills, args.seed)
            write()
        if "loops" in parts:
            for command, found in loops(folder, args.loops, args.count, args.workers):
                out.setdefault("loops", {})[command] = found
                write()


def report(out: dict[str, Any]) -> str:
    lines = ["`python benchmarks/faults.py`", "", "| | |", "|---|---|"]
    for key, value in out.get("kills", {}).items():
        lines.append(f"| training killed: {key} | {value} |")
    for name, found in out.get("loops", {}).items():
        codes = ", ".join(f"{n} × exit {code}" for code, n in found["codes"].items())
        said = "".join(f": *{line}*" for line in found.get("lines", []))
        lines.append(f"| {name} | {codes}; {found['said something']} said something on stderr{said} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
