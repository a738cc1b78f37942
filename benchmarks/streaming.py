"""Does training on a store that does not fit in memory keep its pace, and its memory flat? And `info`, and `coarsen`?

A made-up Zarr store of rain (packed into 16 bits, a chunk a frame and 512 x 512 cells) is written to a temporary folder
and deleted afterwards. Then, each in a process of its own:

    limited     `finescale.fit` on all of it, where the system refuses the process more than a tenth of the store's
                size, or --limit (RLIMIT_DATA): it goes through the store once, then trains; resident memory is watched
    again       the same, with the survey of the first kept
    pace        steps of one model on streamed crops and on crops in memory (of the first frames), in turns of ten that
                change places, so that what else the machine does slows both; the median ratio of neighbouring turns
    info, coarsen    of a file (DATA/mrms_west.nc: 36 x 3500 x 4800 cells), largest memory by the operating system

    python benchmarks/streaming.py DATA --gigabytes 40
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
SIDE, CHUNK = 2048, 512
TURN = 10
"""Steps of a turn."""


def write(path: Path, gigabytes: float) -> int:
    """The store; its frames. Values are those of a dozen fields, moved and scaled, so that no two frames are equal."""
    import zarr

    from finescale.data.synthetic import gaussian_field

    frames = round(gigabytes * 1e9 / 4 / SIDE**2)
    fields = np.exp(1.5 * gaussian_field((12, SIDE, SIDE), seed=1, outer_km=200.0)) - 2.0
    group = zarr.open_group(str(path), mode="w")
    sizes = {"time": frames, "y": SIDE, "x": SIDE}
    for name, n in sizes.items():
        group.create_array(name, data=np.arange(n, dtype=np.float64), dimension_names=[name])
    group["time"].attrs["units"] = "hours since 2001-01-01"
    rain = group.create_array(
        "rain",
        shape=tuple(sizes.values()),
        chunks=(1, CHUNK, CHUNK),
        dtype="int16",
        fill_value=-1,
        dimension_names=list(sizes),
    )
    rain.attrs.update({"units": "mm h-1", "scale_factor": 0.1, "_FillValue": -1})
    rng = np.random.default_rng(0)
    for t in range(frames):
        frame = np.roll(fields[t % 12], rng.integers(SIDE, size=2), axis=(0, 1)) * rng.uniform(0.5, 2.0)
        rain[t] = np.clip(10 * frame, 0, 3000).astype(np.int16)
    return frames


def settings(store: Path, memory: str) -> dict[str, Any]:
    return {
        "factor": "1x8",
        "data.path": str(store),
        "data.crop": 128,
        "data.min_wet": 0.05,
        "data.favour": 0.5,
        "data.memory": memory,
        "train.minutes": None,
    }


def resident() -> int:
    """MiB of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20


def limited(store: Path, limit: int, steps: int, out: Path) -> dict[str, Any]:
    """A training in a process that may have so many bytes."""
    import finescale

    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    seen: list[tuple[float, int]] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.5):
            seen.append((time.time(), resident()))

    watch = threading.Thread(target=look)
    watch.start()
    started = time.time()
    try:
        finescale.fit("wavelet", out, settings(store, "100MB") | {"train.steps": steps, "train.checkpoint": 10_000})
    finally:
        ended.set()
        watch.join()
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    trained = sum(max(row["seconds"] for row in log if row["stage"] == name) for name in {row["stage"] for row in log})
    ended_at = seen[-1][0]
    training = [mib for at, mib in seen if at > ended_at - trained]
    half = len(training) // 2
    return {
        "seconds_before": round(ended_at - started - trained, 1),
        "seconds_training": round(trained, 1),
        "peak_mib_before": max([mib for at, mib in seen if at <= ended_at - trained], default=0),
        "peak_mib_first_half": max(training[:half]),
        "peak_mib_second_half": max(training[half:]),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def pace(store: Path, turns: int, held_frames: int) -> dict[str, Any]:
    """Steps a second on streamed crops and on crops in memory."""
    import torch

    from finescale.config.build import build_model
    from finescale.config.read import read_config
    from finescale.training import statistics
    from finescale.training.ahead import Ahead
    from finescale.training.data import open_data

    crops = {}
    for name, memory in (("streamed", "100MB"), ("in memory", "100GB")):
        chosen = settings(store, memory) | {"train.steps": 1}
        if name == "in memory":
            first = np.datetime64("2001-01-01") + np.timedelta64(held_frames, "h")
            chosen["data.train"] = {"time": [None, str(first)]}
        config = read_config("wavelet", chosen)
        data = open_data(config)
        crops[name], _ = data.crops()
    torch.manual_seed(0)
    model = build_model(config | data.told)
    samples = statistics.sample(crops["in memory"], 32, 0)
    statistics.fit_statistics(model, samples, torch.device("cpu"))
    statistics.whiten(model, samples, None, torch.device("cpu"))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    times: dict[str, list[float]] = {name: [] for name in crops}

    def turn(batches: Any) -> float:
        started = time.perf_counter()
        for _ in range(TURN):
            batch = batches.next()
            loss = model.loss("joint", batch, torch.Generator().manual_seed(0))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        wait(list(batches.items))  # what was begun for later turns is this turn's
        return time.perf_counter() - started

    makers = {name: Ahead(lambda step, own=own: own.draw(16, 0, step), 0) for name, own in crops.items()}
    with makers["streamed"] as streamed, makers["in memory"] as held:
        pairs = {"streamed": streamed, "in memory": held}
        for batches in pairs.values():
            turn(batches)
        for number in range(turns):
            for name in list(pairs)[:: 1 if number % 2 else -1]:
                times[name].append(turn(pairs[name]))
    ratios = np.array(times["in memory"]) / np.array(times["streamed"])
    return {
        "steps_a_second_streamed": round(TURN / float(np.median(times["streamed"])), 3),
        "steps_a_second_in_memory": round(TURN / float(np.median(times["in memory"])), 3),
        "ratio": round(float(np.median(ratios)), 3),
        "ratio_of_sums": round(sum(times["in memory"]) / sum(times["streamed"]), 3),
        "turns": turns,
        "load": [round(one, 1) for one in os.getloadavg()],
    }


def child(task: str, **arguments: Any) -> dict[str, Any]:
    """A function of this file in a process of its own."""
    command = [sys.executable, __file__, "-", "--task", task, "--arguments", json.dumps(arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(task, found, flush=True)
    return found


def command(arguments: list[str]) -> dict[str, float]:
    """Seconds and largest memory of a finescale command."""
    started = time.perf_counter()
    running = subprocess.Popen([sys.executable, "-m", "finescale", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(running.pid, 0)
    if status:
        raise SystemExit(f"finescale {arguments[0]} failed")
    cpu = usage.ru_utime + usage.ru_stime
    seconds = time.perf_counter() - started
    return {"peak_mib": usage.ru_maxrss // 1024, "cpu_seconds": round(cpu, 1), "seconds": round(seconds, 1)}


def report(found: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "streaming.json").write_text(json.dumps(found, indent=1) + "\n")
    first, again, rate = found["limited"], found["again"], found["pace"]
    limit = found["limit_gb"]
    lines = [
        "# Training on a store that does not fit in memory",
        "",
        f"A made-up Zarr of {found['gigabytes']:g} GB in single precision ({found['frames']} frames of {SIDE}², chunks "
        f"of {CHUNK}²; {found['disk_gb']:.1f} GB on disk), preset `wavelet`, crops of 128² cells, 16 a step, "
        f"{found['cores']} cores. The process may not have more than {limit:g} GB (RLIMIT_DATA).",
        "",
        "| | seconds before training | seconds of training | MiB before | MiB, first half | MiB, second half |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in (("first time", first), ("survey kept", again)):
        numbers = [f"peak_mib_{part}" for part in ("before", "first_half", "second_half")]
        seconds = f"{run['seconds_before']} | {run['seconds_training']}"
        lines.append(f"| {name} | {seconds} | {' | '.join(str(run[key]) for key in numbers)} |")
    lines += [
        "",
        f"Steps a second in turns of {TURN} ({rate['turns']} turns each, load of the machine {rate['load'][0]}): "
        f"{rate['steps_a_second_streamed']} streamed, {rate['steps_a_second_in_memory']} in memory; median ratio of "
        f"neighbouring turns **{rate['ratio']:.3f}**, ratio of the sums {rate['ratio_of_sums']:.3f}.",
        "",
        "| mrms_west.nc (36 × 3500 × 4800) | peak MiB | seconds of processor time |",
        "|---|---|---|",
    ]
    for name in ("info", "coarsen"):
        lines.append(f"| `finescale {name}` | {found[name]['peak_mib']} | {found[name]['cpu_seconds']} |")
    (RESULTS / "streaming.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the folder that holds mrms_west.nc")
    parser.add_argument("--gigabytes", type=float, default=40.0, help="of the store, in single precision")
    parser.add_argument("--limit", type=float, help="gigabytes that the trainings may have; a tenth of the store's")
    parser.add_argument("--steps", type=int, default=60, help="of each limited training")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--task", help="a part of it, in this process")
    parser.add_argument("--arguments", default="{}")
    chosen = parser.parse_args()
    if chosen.task:
        given = json.loads(chosen.arguments)
        given = {key: Path(value) if key in ("store", "out", "path") else value for key, value in given.items()}
        print(json.dumps({"write": write, "limited": limited, "pace": pace}[chosen.task](**given)))
        return
    found: dict[str, Any] = {"gigabytes": chosen.gigabytes, "cores": len(os.sched_getaffinity(0))}
    found["limit_gb"] = chosen.limit or chosen.gigabytes / 10
    file = str(Path(chosen.data) / "mrms_west.nc")
    with tempfile.TemporaryDirectory() as folder:
        found["info"] = command(["info", file])
        found["coarsen"] = command(["coarsen", file, "--factor", "1x10", "-o", f"{folder}/coarse.nc"])
        store = f"{folder}/rain.zarr"
        found["frames"] = child("write", path=store, gigabytes=chosen.gigabytes)
        found["disk_gb"] = sum(one.stat().st_size for one in Path(store).rglob("*") if one.is_file()) / 1e9
        limit = int(found["limit_gb"] * 1e9)
        for name in ("limited", "again"):
            found[name] = child("limited", store=store, limit=limit, steps=chosen.steps, out=f"{folder}/{name}")
        found["pace"] = child("pace", store=store, turns=chosen.turns, held_frames=60)
    report(found)


if __name__ == "__main__":
    main()
