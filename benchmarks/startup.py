"""What a command costs before it does anything: seconds until it is there, and pages touched for the first time.

    python benchmarks/startup.py

Fresh processes, in turn, round by round, after a round that does not count; medians are given. Measured are

    start       of the interpreter alone, of `import finescale`, of `finescale --help`, `--version` and `info` of a
                small file, and of the packages that the first ones leave alone (xarray, torch)
    memory      page faults while 20 arrays of 64 MB are made and freed, one after the other, with and without
                `finescale.cli.allocator.keep_memory`

Writes startup.json and startup.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

from protocol import interleaved, processor, rounded

from finescale.data.synthetic import synthetic_rain

FAULTS = """
import resource, numpy as np
from finescale.cli.allocator import keep_memory
{call}
for n in range(20):
    np.ones(8_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for n in range(20):
    np.ones(8_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--seed", type=int, default=0, help="of the small file's rain")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rain.nc"
        synthetic_rain((2, 32, 32), seed=args.seed).to_netcdf(path, engine="netcdf4")
        seconds = interleaved({name: run(*words) for name, words in commands(path).items()}, args.repeats)
    faults = {
        name: median(page_faults(call) for _ in range(args.repeats))
        for name, call in {"as the system has it": "", "kept": "assert keep_memory()"}.items()
    }
    settings = {
        "repeats": args.repeats,
        "seed": args.seed,
        "device": processor(),
        "threads": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    } | {name: version(name) for name in ("torch", "xarray", "numpy")}
    found = rounded({"settings": settings, "seconds": seconds, "page faults": faults})
    args.results.mkdir(exist_ok=True)
    (args.results / "startup.json").write_text(json.dumps(found, indent=1) + "\n")
    (args.results / "startup.md").write_text(table(found))


def commands(path: Path) -> dict[str, list[str]]:
    """Words after the interpreter's name, by what they start."""
    return {
        "python": ["-c", "pass"],
        "import finescale": ["-c", "import finescale"],
        "finescale --help": ["-m", "finescale", "--help"],
        "finescale --version": ["-m", "finescale", "--version"],
        "finescale info FILE": ["-m", "finescale", "info", str(path)],
        "import xarray": ["-c", "import xarray"],
        "import torch": ["-c", "import torch"],
    }


def run(*words: str) -> Callable[[], object]:
    """A fresh interpreter with these words."""
    return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True)


def page_faults(call: str) -> int:
    """Pages touched for the first time by arrays that have been made and freed before."""
    code = FAULTS.format(call=call)
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def table(found: dict[str, dict[str, object]]) -> str:
    """The results in Markdown."""
    settings = found["settings"]
    lines = [
        "# Start of a command",
        "",
        f"Medians of {settings['repeats']} fresh processes each, in turn; {settings['device']}, {settings['threads']} "
        f"cores, Python {settings['python']}, torch {settings['torch']}, xarray {settings['xarray']}.",
        "",
        "| process | s |",
        "|---|---|",
        *(f"| {name} | {value:.2f} |" for name, value in found["seconds"].items()),
        "",
        "| 20 arrays of 64 MB, made and freed again | page faults |",
        "|---|---|",
        *(f"| {name} | {value:.0f} |" for name, value in found["page faults"].items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
