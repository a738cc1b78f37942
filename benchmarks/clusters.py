"""Prediction by many: who makes it leaves no trace, nothing is lost in faults, and what it takes.

    python benchmarks/clusters.py [--parts equality,faults,...] [--repeat 10] [--units 1000000] [--results DIR]

Data are made, the model is tiny and untrained: what is asked does not depend on what it has learned.

    equality    the same prediction by this process, threads and 2 workers of Dask, with other windows and batches, of
                an untrained model and of ``--trained`` ones on ``--coarse``
    faults      a worker killed; the whole run killed (SIGKILL) at a random moment, or asked to end (SIGTERM), then
                ``--resume``: each ``--repeat`` times, and whether the output is the unbroken one's, bit by bit
    raising     a task that raises, of one thread or of two, then ``--resume``: as ``faults``; struck is exit code 1 and
                one line
    scaling     seconds on 1 and 2 workers, one thread of a network each
    memory      largest size of a process for domains of 1, 4 and 16 million fine cells and 10, 100, 1000 times, of
                which one in eight is wet everywhere, in a store with a chunk a time: chunks are read whole
    scheduling  ``--units`` units that do nothing, by the code that hands out real ones: seconds and memory
    paper       10 years of hourly 1536 x 1536 cells x 16 members: tasks, chunks, output, and hours at the measured rate

Writes clusters.json and clusters.md as it goes; parts that are there are not done again (``--again`` does them).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from commands import measured

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
PARTS = ("equality", "faults", "raising", "scaling", "memory", "scheduling", "paper")
UNET = {"backbone": {"kind": "unet", "width": 8, "multipliers": [1, 1], "blocks": 1}}
MODEL: dict[str, Any] = {
    "factor": "1x4",
    "variables": {"rain": {"units": "mm h-1"}},
    "transform": [{"kind": "log1p", "scale": 0.1, "threshold": 0.05}, "standardize"],
    "mean": {"kind": "network", "fold": 2} | UNET,
    "latent": {"kind": "wavelet", "levels": 1},
    "denoiser": UNET,
    "process": {"schedule": {"kind": "edm", "sigma_max": 10}, "sampler": "heun", "steps": 3},
    "constraint": "multiplicative",
    "precision": "float32",
}


def make_model(folder: Path) -> None:
    import torch

    from finescale.config.build import build_model

    torch.manual_seed(0)
    model = build_model(MODEL).eval()
    for parameter in model.parameters():
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save(folder)


def make_coarse(path: Path, t: int, h: int, w: int, wet: int = 1) -> None:
    """Rain everywhere in one frame of ``wet``, and none in the others; a chunk a frame."""
    values = np.random.default_rng(0).gamma(0.3, 2, (min(t, 16), h, w)).astype(np.float32)
    values[np.arange(len(values)) % wet != 0] = 0
    values = values[np.arange(t) % len(values)]
    coords = {
        "time": pd.date_range("2020-01-01", periods=t, freq="h"),
        "y": ("y", 1000.0 * np.arange(h), {"units": "m"}),
        "x": ("x", 1000.0 * np.arange(w), {"units": "m"}),
    }
    ds = xr.Dataset({"rain": (("time", "y", "x"), values, {"units": "mm h-1"})}, coords)
    ds.to_zarr(path, consolidated=False, encoding={"rain": {"chunks": (1, h, w)}})


def downscale(folder: Path, out: str, *more: str, coarse: str = "coarse.zarr") -> list[str]:
    words = ["downscale", folder / "model", folder / coarse, "-o", folder / out, "--members", "4", *more]
    return [sys.executable, "-m", "finescale", *map(str, words)]


def values(path: Path) -> np.ndarray:
    with xr.open_dataset(path, engine="zarr" if path.suffix == ".zarr" else None) as ds:
        return ds["rain"].transpose("realization", ...).values


def equality(folder: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    measured(downscale(folder, "whole.zarr", "--window", "1x16"), ENVIRONMENT)
    whole = values(folder / "whole.zarr")
    ways = {
        "this process, NetCDF": ("a.nc", "--window", "1x16"),
        "2 threads": ("b.zarr", "--window", "1x16", "--threads", "2"),
        "2 workers": ("c.zarr", "--window", "1x16", "--workers", "2"),
        "2 workers, NetCDF": ("d.nc", "--window", "1x16", "--workers", "2"),
        "windows of 32 cells": ("e.zarr", "--window", "1x32"),
        "2 workers, windows of 24 cells": ("f.zarr", "--window", "1x24", "--workers", "2"),
    }
    rows = []
    for name, (out, *more) in ways.items():
        measured(downscale(folder, out, *more), ENVIRONMENT)
        rows.append({"way": name} | apart(values(folder / out), whole))
    rows += reached(folder / "model", folder / "coarse.zarr", "untrained")
    return rows + [row for model in args.trained for row in reached(model, args.coarse, model.name)]


def apart(found: np.ndarray, whole: np.ndarray) -> dict[str, Any]:
    """Differences of members, over their mean spread."""
    difference = np.abs(found - whole) / np.nanmean(whole.std(0))
    return {
        "equal bits": bool(np.array_equal(found, whole, equal_nan=True)),
        "largest, of the spread": float(np.nanmax(difference)),
        "root mean square": float(np.sqrt(np.nanmean(difference**2))),
    }


def reached(model: Path, coarse: Path, label: str) -> list[dict[str, Any]]:
    """Windows with the model's own halo, and with one as wide as the domain: what is left then is arithmetic."""
    import finescale

    with xr.open_dataset(coarse, engine="zarr" if coarse.suffix == ".zarr" else None) as ds:
        side = max(ds.sizes.values())
    everything = (0, side, side)
    ways: dict[str, tuple[int, int, Any]] = {
        "whole": (1, 4, everything),
        "windows of a half, halo of all": (2, 4, everything),
        "windows of a third, one member at a time, halo of all": (3, 1, everything),
        "windows of a third, the model's halo": (3, 4, None),
    }
    found = {}
    for way, (parts, batch, halo) in ways.items():
        cut: dict[str, Any] = {"window": (1, side // parts, side // parts), "halo": halo, "batch": batch}
        members = finescale.downscale(model, coarse, members=4, **cut)
        assert members is not None
        found[way] = next(iter(members.data_vars.values())).values
    whole = found.pop("whole")
    return [{"way": f"{way}, {label}"} | apart(one, whole) for way, one in found.items()]


def faults(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    if not (folder / "whole.zarr").exists():
        measured(downscale(folder, "whole.zarr", "--window", "1x16"), ENVIRONMENT)
    whole, rng = values(folder / "whole.zarr"), random.Random(0)
    ways = {"a worker killed": "worker", "the run killed": signal.SIGKILL, "the run asked to end": signal.SIGTERM}
    found: dict[str, Any] = {name: {"times": 0, "struck": 0, "same bits": 0, "left behind": 0} for name in ways}
    for _ in range(args.repeat):
        for name, way in ways.items():
            count, journal = found[name], folder / ".f.partial.zarr" / "finescale-run.jsonl"
            shutil.rmtree(folder / "f.zarr", ignore_errors=True)
            command = downscale(folder, "f.zarr", "--window", "1x16", "--workers", "2")
            process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while process.poll() is None and not (journal.is_file() and journal.read_text().count("\n") > 1):
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 1.0))
            children = workers_of(process.pid)
            count["times"] += 1
            count["struck"] += process.poll() is None
            if way == "worker":
                if children:
                    os.kill(rng.choice(children), signal.SIGKILL)
            else:
                process.send_signal(way)
            process.wait()
            if way != "worker" and process.returncode != 0:
                measured(downscale(folder, "f.zarr", "--window", "1x16", "--workers", "2", "--resume"), ENVIRONMENT)
            time.sleep(1)
            count["left behind"] += sum(Path(f"/proc/{child}").exists() for child in children)
            count["same bits"] += bool(np.array_equal(values(folder / "f.zarr"), whole))
            args.write({"faults": found})
    return found


RAISING = """
import sys
from finescale.cli import main
from finescale.downscaler import Downscaler

sample, calls = Downscaler.sample, 0

def failing(self, *given):
    global calls
    calls += 1
    if calls == {number}:
        raise RuntimeError("no such kernel")
    return sample(self, *given)

Downscaler.sample = failing
sys.exit(main(sys.argv[1:]))
"""


def raising(folder: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    if not (folder / "whole.zarr").exists():
        measured(downscale(folder, "whole.zarr", "--window", "1x16"), ENVIRONMENT)
    whole, rng = values(folder / "whole.zarr"), random.Random(0)
    count = {"times": 0, "struck": 0, "same bits": 0, "left behind": 0}
    for number in range(args.repeat):
        shutil.rmtree(folder / "f.zarr", ignore_errors=True)
        words = downscale(folder, "f.zarr", "--window", "1x16", "--threads", str(1 + number % 2))
        script = RAISING.format(number=rng.randint(2, 60))
        done = subprocess.run(
            [sys.executable, "-c", script, *words[3:]], env=ENVIRONMENT, capture_output=True, text=True
        )
        said = [line for line in done.stderr.splitlines() if "no such kernel" in line]
        count["times"] += 1
        count["struck"] += done.returncode == 1 and len(said) == 1 and "Traceback" not in done.stderr
        measured([*words, "--resume"], ENVIRONMENT)
        count["same bits"] += bool(np.array_equal(values(folder / "f.zarr"), whole))
        count["left behind"] += any(folder.glob(".f.*"))
    return [{"": "a task that raises"} | count]


def workers_of(parent: int) -> list[int]:
    """Processes that Python's multiprocessing has started for a process."""
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    children: list[int] = []
    for task in listed.parent.parent.glob("*/children") if listed.exists() else []:
        children += map(int, task.read_text().split())
    spawned = []
    for child in children:
        try:
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                spawned.append(child)
        except OSError:
            continue
    return spawned


def scaling(folder: Path, _: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds from the first finished task to the end, so that the start of processes does not count."""
    make_coarse(folder / "large.zarr", 48, 64, 64)
    rows = []
    for workers in (1, 2):
        command = downscale(folder, "s.zarr", "--workers", str(workers), "--overwrite", coarse="large.zarr")
        journal = folder / ".s.partial.zarr" / "finescale-run.jsonl"
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (journal.is_file() and journal.read_text().count("\n") > workers):
            time.sleep(0.02)
        began = time.monotonic()
        assert process.wait() == 0
        rows.append({"workers": workers, "seconds": time.monotonic() - began, "load": os.getloadavg()[0]})
    return rows


def memory(folder: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    rows = [] if args.again else args.found.get("memory", [])
    cases = [(10, 1000), (10, 2000), (10, 4000), (100, 1000), (1000, 1000)]
    for t, side in cases[len(rows) :]:
        name = f"m{t}-{side}"
        make_coarse(folder / f"{name}.zarr", t, side // 4, side // 4, wet=8)
        command = downscale(folder, f"{name}-out.zarr", "--steps", "1", coarse=f"{name}.zarr")
        command[command.index("--members") + 1] = "1"
        found = measured(command, ENVIRONMENT)
        cost = {"MB": round(found["largest MB"]), "seconds": round(found["seconds"])}
        rows.append({"times": t, "fine cells": side * side} | cost)
        args.write({"memory": rows})
    return rows


class Idle:
    """Stands for the tasks of a prediction, and does nothing."""

    def read(self, piece: Any) -> None:
        return None

    def made(self, unit: Any, read: None) -> list[Any]:
        return [(unit.first, [], [0.0, 1.0, 0.0, 1.0])]


def idle() -> Idle:
    return Idle()


def scheduling(_: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    from finescale.inference.cluster import Job, on_dask
    from finescale.inference.engines import Workers
    from finescale.inference.request import Request
    from finescale.inference.tasks import Unit

    class Nothing(Job):
        def prepared(self) -> Any:
            return idle()

    job = Nothing(idle, "nothing", Request(), {}, None, 1)  # type: ignore[arg-type]
    units = (Unit(n, n + 1, 0, 0) for n in range(args.units))
    rows, began, worst = [], time.monotonic(), 0
    with on_dask(job, Workers(2), print, units) as results:
        for count, _ in enumerate(results, 1):
            if count % max(1, args.units // 10) == 0:
                size = int(re.findall(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024
                worst = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                seconds = time.monotonic() - began
                rows.append(
                    {"units": count, "seconds": round(seconds, 1), "MB": round(size), "largest MB": round(worst)}
                )
    return rows


def paper(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Cut for real, from coordinates alone; the rate is what ``scaling`` measured on one worker."""
    from finescale.config.load import load
    from finescale.inference.cost import Cost, size
    from finescale.inference.prepare import tasks_of
    from finescale.inference.request import Request

    hours, side = 87_648, 1536 // 4
    coords = {
        "time": pd.date_range("2010-01-01", periods=hours, freq="h"),
        "y": ("y", 1000.0 * np.arange(side), {"units": "m"}),
        "x": ("x", 1000.0 * np.arange(side), {"units": "m"}),
    }
    nothing = np.broadcast_to(np.float32(0), (hours, side, side))
    field = xr.Dataset({"rain": (("time", "y", "x"), nothing, {"units": "mm h-1"})}, coords)
    began = time.monotonic()
    tasks = tasks_of(load(folder / "model"), field, Request(16), values=False)
    cost, cut = Cost.of(tasks), time.monotonic() - began
    began = time.monotonic()
    for count, _ in enumerate(tasks.units(())):
        if count == 100_000:
            break
    found: dict[str, Any] = {"tasks": len(tasks), "output": size(cost.bytes), "layout": cost.text.splitlines()[1]}
    found |= {"seconds to cut": round(cut, 1), "seconds for 100,000 units": round(time.monotonic() - began, 1)}
    found["largest MB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    measured = args.found.get("scaling")
    if measured:
        rate = 4 * 48 * 256 * 256 / measured[0]["seconds"]
        found["fine cells a second and core"] = round(rate)
        found["core-hours"] = round(16 * hours * 1536**2 / rate / 3600)
    return found


def report(out: dict[str, Any]) -> str:
    lines = [f"`{out['command']}`", ""]
    for part in PARTS:
        found = out.get(part)
        if found is None:
            lines += [f"## {part}", "", "Not run yet.", ""]
            continue
        rows = [{"": key} | value for key, value in found.items()] if part == "faults" else found
        rows = [{"what": key, "value": value} for key, value in found.items()] if part == "paper" else rows
        lines += [f"## {part}", "", "| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
        lines += ["| " + " | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()) + " |"
                  for row in rows]  # fmt: skip
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--trained", type=Path, nargs="*", default=[], help="models of which equality is asked, too")
    parser.add_argument("--coarse", type=Path, help="a file for them")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    file = args.results / "clusters.json"
    out: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    out["command"] = " ".join(["python", "benchmarks/clusters.py", *(Path(word).name for word in sys.argv[1:])])

    def write(found: dict[str, Any]) -> None:
        out.update(found)
        file.write_text(json.dumps(out, indent=2) + "\n")
        (args.results / "clusters.md").write_text(report(out))

    args.write, args.found = write, out
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "model")
        make_coarse(folder / "coarse.zarr", 8, 48, 48)
        for part in args.parts.split(","):
            if part not in out or args.again:
                write({part: globals()[part](folder, args)})


if __name__ == "__main__":
    main()
