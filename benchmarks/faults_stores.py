"""Stores that something happens to: full disks, kills, servers that go away, and what others left half-written.

    python benchmarks/faults_stores.py [--parts disk,kill,server,half] [--count 10] [--seed 0] [--results FOLDER]

Every command is a process of its own; data are made, the model is tiny. Each of these is done ``--count`` times:

    disk full    coarsen, downscale (NetCDF and Zarr), verify and fit into a tmpfs of random size (root is needed to
                 mount it): exit code 2, one line that says that the disk is full, nothing under the output's name
    room again   the downscale to Zarr of the former: --resume on a larger tmpfs, same values as an unbroken run
    kill         downscale to an S3 server (moto's), SIGKILL at a random moment, --resume: same values
    server       the same, while the server is stopped at a random moment and started after the run has ended
    half-written a Zarr store and a NetCDF file of which random files or bytes are missing, read by coarsen: exit code 2
                 and one line, or, where only chunks are missing, which Zarr takes for cells never written, 0

Writes faults_stores.json and faults_stores.md as it goes; what is there of parts that are not asked for stays.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from finescale.config.build import build_model
from finescale.data.synthetic import synthetic_rain

PARTS = {"disk": ("disk full", "room again"), "kill": ("kill",), "server": ("server",), "half": ("half",)}
"""Parts, and what their counts begin with."""
UNET = {"kind": "unet", "width": 8, "multipliers": [1, 1], "blocks": 1}
TINY: dict[str, Any] = {
    "factor": "1x4",
    "variables": {"rain": {"units": "mm h-1"}},
    "transform": [{"kind": "log1p", "scale": 0.1, "threshold": 0.05}, "standardize"],
    "mean": {"kind": "network", "fold": 2, "backbone": UNET},
    "latent": {"kind": "wavelet", "levels": 1},
    "denoiser": {"backbone": UNET},
    "process": {"schedule": {"kind": "edm", "sigma_max": 10}, "sampler": "heun", "steps": 3},
    "constraint": "multiplicative",
    "precision": "float32",
}
Ended = tuple[int, str]


def finescale(*words: object) -> list[str]:
    return [sys.executable, "-m", "finescale", *map(str, words)]


def ended(command: list[str]) -> Ended:
    """Exit code, and what was said on stderr without progress bars."""
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return done.returncode, without_bars(done.stderr)


def without_bars(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.strip() and "\r" not in line and "|" not in line)


def told(result: Ended, words: str) -> bool:
    return result[0] == 2 and len(result[1].splitlines()) == 1 and words in result[1]


class Server:
    """An S3 server in this process, which can be stopped and started at the same address."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.app, self.port = DomainDispatcherApplication(create_backend_app), 0
        self.start()
        os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "AWS_DEFAULT_REGION": "us-east-1"}
        os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}

    def start(self) -> None:
        from werkzeug.serving import make_server

        self.server = make_server("127.0.0.1", self.port, self.app, threaded=True)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()


class Faults:
    """All of them, in a folder; ``counts`` of what came of them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.counts: dict[str, Counter[str]] = {}
        rain = synthetic_rain((6, 64, 64), seed=1)
        rain.to_dataset(name="rain").to_netcdf(folder / "fine.nc")
        torch.manual_seed(0)
        build_model(TINY).save(folder / "model")
        for command in (
            finescale("coarsen", folder / "fine.nc", "--factor", "1x4", "-o", folder / "coarse.nc"),
            finescale(*self.downscale(folder / "whole.zarr")),
        ):
            assert ended(command)[0] == 0
        self.whole = xr.open_zarr(folder / "whole.zarr")["rain"].values

    def downscale(self, out: object) -> list[object]:
        return ["downscale", self.folder / "model", self.folder / "coarse.nc", "-o", out, "--members", 4,
                "--window", "1x8"]  # fmt: skip

    def same(self, store: str) -> bool:
        return bool(np.array_equal(xr.open_zarr(store)["rain"].values, self.whole, equal_nan=True))

    def count(self, name: str, right: bool, otherwise: object) -> None:
        self.counts.setdefault(name, Counter())["right" if right else str(otherwise)[:400]] += 1

    def full(self) -> None:
        """A tmpfs with too little room for each command's output."""
        disk, f = self.folder / "disk", self.folder
        settings = ["--set", f"data.path={f / 'fine.nc'}", "--set", "factor=1x4", "--set", "train.steps=2", "--set",
                    "train.minutes=null", "--set", "train.warmup=1", "--set", "data.crop=16", "--set",
                    "data.min_wet=0"]  # fmt: skip
        commands: dict[str, tuple[list[object], tuple[int, int]]] = {
            "coarsen to NetCDF": (["coarsen", f / "fine.nc", "--factor", "1x1", "-o", disk / "o.nc"], (8, 32)),
            "coarsen to Zarr": (["coarsen", f / "fine.nc", "--factor", "1x1", "-o", disk / "o.zarr"], (8, 60)),
            "downscale to NetCDF": (self.downscale(disk / "o.nc"), (8, 64)),
            "downscale to Zarr": (self.downscale(disk / "o.zarr"), (120, 320)),
            "verify": (["verify", f / "whole.zarr", f / "fine.nc", "-o", disk / "report", "--baselines", "nearest"],
                       (8, 64)),
            "fit": (["fit", "wavelet", "-o", disk / "model", *settings], (8, 64)),
        }  # fmt: skip
        for name, (words, (least, most)) in commands.items():
            with Disk(disk, self.random.randint(least, most)):
                result = ended(finescale(*words))
                kept = [path.name for path in disk.iterdir() if not path.name.startswith(".")]
                right = told(result, "the disk is full") and (not kept or name in ("verify", "fit"))
                self.count(f"disk full: {name}", right, (result, kept))
                if name == "downscale to Zarr":
                    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
                    result = ended(finescale(*words, "--resume"))
                    self.count("room again: --resume", result[0] == 0 and self.same(str(disk / "o.zarr")), result)

    def killed(self, server: Server, number: int) -> None:
        """SIGKILL of a run that writes behind a URL."""
        out = f"s3://archive/killed{number}.zarr"
        with subprocess.Popen(finescale(*self.downscale(out)), stderr=subprocess.DEVNULL) as run:
            self.wait(run, out)
            run.send_signal(signal.SIGKILL)
        result = ended(finescale(*self.downscale(out), "--resume"))
        self.count("kill, S3: --resume", result[0] == 0 and self.same(out), result)

    def stopped(self, server: Server, number: int) -> None:
        """A server that goes away while a run writes to it."""
        out = f"s3://archive/stopped{number}.zarr"
        command = finescale(*self.downscale(out))
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as run:
            self.wait(run, out)
            server.stop()
            text = run.communicate()[1]
        server.start()
        lines = [line for line in text.splitlines() if "\r" not in line and "|" not in line]
        self.count(
            "server stopped", told((run.returncode, "\n".join(lines)), "does not answer"), (run.returncode, text)
        )
        result = ended(finescale(*self.downscale(out), "--resume"))
        self.count("server started: --resume", result[0] == 0 and self.same(out), result)

    def wait(self, run: subprocess.Popen[Any], out: str) -> None:
        """…until a run has begun to write, and a moment more."""
        import fsspec

        files = fsspec.filesystem("s3")
        while run.poll() is None and not files.exists(f"{out}/zarr.json"):
            files.invalidate_cache()
            time.sleep(0.05)
        time.sleep(self.random.uniform(0, 1))

    def halved(self, number: int) -> None:
        """Stores that somebody else did not finish."""
        zarr, nc = self.folder / "half.zarr", self.folder / "half.nc"
        shutil.rmtree(zarr, ignore_errors=True)
        shutil.copytree(self.folder / "whole.zarr", zarr)
        files = sorted(path for path in zarr.rglob("*") if path.is_file())
        for path in self.random.sample(files, self.random.randint(1, len(files) - 1)):
            cut = self.random.random() < 0.5
            path.write_bytes(path.read_bytes()[: self.random.randint(0, path.stat().st_size)]) if cut else path.unlink()
        whole = (self.folder / "fine.nc").read_bytes()
        nc.write_bytes(whole[: self.random.randint(0, len(whole) - 1)])
        for path in (zarr, nc):
            words = ["coarsen", path, "--factor", "1x4", "-o", self.folder / "o.nc", "--overwrite"]
            result = ended(finescale(*words))
            self.count(f"half-written {path.suffix}", told(result, str(path)) or result[0] == 0, result)


class Disk:
    """A small tmpfs."""

    def __init__(self, path: Path, kib: int) -> None:
        self.path, self.kib = path, kib

    def __enter__(self) -> None:
        self.path.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.kib}k", "tmpfs", str(self.path)], check=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", str(self.path)], check=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--parts", default=",".join(PARTS))
    options.add_argument("--count", type=int, default=10)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    given = options.parse_args()
    server = Server()
    import fsspec

    fsspec.filesystem("s3").mkdir("archive")
    with tempfile.TemporaryDirectory() as name:
        faults, parts = Faults(Path(name), given.seed), given.parts.split(",")
        faults.counts = earlier(given.results, parts)
        for number in range(given.count):
            todo: dict[str, Callable[[], None]] = {
                "disk": faults.full,
                "kill": lambda number=number: faults.killed(server, number),
                "server": lambda number=number: faults.stopped(server, number),
                "half": lambda number=number: faults.halved(number),
            }
            for part in parts:
                todo[part]()
            report(given.results, faults.counts)
    server.stop()


def earlier(folder: Path, parts: list[str]) -> dict[str, Counter[str]]:
    """What an earlier run counted of other parts."""
    file = folder / "faults_stores.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    others = tuple(start for part in PARTS if part not in parts for start in PARTS[part])
    return {name: Counter(counts) for name, counts in found.items() if others and name.startswith(others)}


def report(folder: Path, counts: dict[str, Counter[str]]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "faults_stores.json").write_text(json.dumps(counts, indent=1))
    lines = ["| what happens | times | right |", "|---|---|---|"]
    lines += [f"| {name} | {found.total()} | {found['right']} |" for name, found in counts.items()]
    (folder / "faults_stores.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)
    for name, found in counts.items():
        print(*(f"{name}: {what}" for what in found if what != "right"), sep="\n", flush=True)


if __name__ == "__main__":
    main()
