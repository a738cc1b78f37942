"""How long does `finescale verify` take, and how much memory?

Synthetic rain in single precision: a truth and an ensemble of M members on T times and N x N cells, written to a folder
that is deleted afterwards; then the command itself, with its reading, scores and report, in a process of its own, whose
largest memory is asked of the operating system. Once without baselines, once with all that are shown by default.

    python benchmarks/verify_speed.py --members 16 --times 36 --cells 1000 --baselines none default
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy import ndimage

RESULTS = Path(__file__).parent / "results"


def rain(rng: np.random.Generator, cells: int) -> np.ndarray:
    """One field with a third of its cells wet."""
    noise = sum(ndimage.zoom(rng.normal(size=(cells // k + 1,) * 2), k, order=1)[:cells, :cells] for k in (4, 20, 100))
    return np.maximum(np.exp(1.5 * noise - 1.5) - 1.0, 0.0).astype(np.float32)


def write(folder: Path, members: int, times: int, cells: int, form: str) -> None:
    """Ensemble and truth; members are mixtures of the truth and a field of their own."""
    rng = np.random.default_rng(0)
    truth = np.stack([rain(rng, cells) for _ in range(times)])
    pool = [rain(rng, cells) for _ in range(members)]
    space = 1000.0 * np.arange(cells)
    coords = {
        "time": np.datetime64("2024-06-01T00:00", "ns") + np.arange(times) * np.timedelta64(300, "s"),
        "y": ("y", space, {"units": "m"}),
        "x": ("x", space, {"units": "m"}),
    }
    paths = folder / f"ensemble.{form}", folder / f"truth.{form}"
    attrs = {"units": "mm/h"}
    ensemble = np.empty((members, times, cells, cells), dtype=np.float32)
    for m in range(members):
        for t in range(times):
            ensemble[m, t] = 0.7 * truth[t] + 0.3 * np.roll(pool[m], 7 * t, axis=1)
    fields = {
        paths[0]: (("realization", "time", "y", "x"), ensemble),
        paths[1]: (("time", "y", "x"), truth),
    }
    for path, (dims, values) in fields.items():
        ds = xr.Dataset({"rain_rate": (dims, values, attrs)}, coords, {"finescale_factor": "1x10"})
        if form == "nc":
            ds.to_netcdf(path, engine="netcdf4")
        else:
            ds.chunk({d: 1 for d in dims[:-2]}).to_zarr(path, consolidated=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--times", type=int, default=36)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument(
        "--baselines", nargs="+", default=["none", "default"], help="one run each; commas between names"
    )
    parser.add_argument("--form", choices=("nc", "zarr"), default="nc")
    parser.add_argument("--write", type=Path, help="only write the data into this folder")
    chosen = parser.parse_args()
    size = {name: getattr(chosen, name) for name in ("members", "times", "cells", "form")}
    if chosen.write:
        write(chosen.write, **size)
        return
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: a child's largest memory counts that of its parent when it was started.
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--write", folder], check=True)
        for baselines in chosen.baselines:
            found = size | {"baselines": baselines} | measure(Path(folder), chosen.form, baselines)
            values = chosen.members * chosen.times * chosen.cells**2
            found["million_values_a_second"] = round(values / found["seconds"] / 1e6, 1)
            report(found)
            print(json.dumps(found), flush=True)


def measure(folder: Path, form: str, baselines: str) -> dict[str, float]:
    """One run of the command: seconds, largest memory, cores."""
    paths = [str(folder / f"{name}.{form}") for name in ("ensemble", "truth")]
    options = ["-o", str(folder / "scores"), "--overwrite"]
    options += [] if baselines == "default" else ["--baselines", baselines]
    started = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "finescale", "verify", *paths, *options])
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit("finescale verify failed")
    peak = usage.ru_maxrss / 2**20  # kB on Linux
    return {"seconds": round(seconds, 1), "peak_gib": round(peak, 2), "cores": len(os.sched_getaffinity(0))}


def report(found: dict[str, Any]) -> None:
    """Add a run to the results, in place of one of the same size."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "verify_speed.json"
    runs = json.loads(path.read_text()) if path.exists() else []
    key = ("members", "times", "cells", "baselines", "form")
    runs = [run for run in runs if any(run[k] != found[k] for k in key)] + [found]
    path.write_text(json.dumps(runs, indent=1) + "\n")
    lines = [
        "# Speed of `finescale verify`",
        "",
        "Whole command: reading, all scores, report. By default baselines are ",
    ]
    lines[-1] += "nearest, bicubic, RainFARM and climatology; the random two have up to 8 members."
    lines += ["", "| members × times × cells | files | baselines | s | peak GiB | million values a second | cores |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for run in runs:
        shape = f"{run['members']} × {run['times']} × {run['cells']}²"
        numbers = f"{run['seconds']} | {run['peak_gib']} | {run['million_values_a_second']} | {run['cores']}"
        lines.append(f"| {shape} | {run['form']} | {run['baselines']} | {numbers} |")
    (RESULTS / "verify_speed.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
