"""What the benchmarks share: which crops count, timed training, and what is written down."""

from __future__ import annotations

import json
import platform
import shlex
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import finescale
from finescale.diffusion import Distillation
from finescale.downscaler import Downscaler
from finescale.training.crops import Crops
from finescale.training.cutting import Augmentation
from finescale.training.fit import train
from finescale.training.sections import Training
from finescale.training.survey import Criteria

WET = Criteria(min_valid=0.95, min_wet=0.05, wet=0.1)
VARIED = Augmentation(favour=0.5, rescale=0.4)


def timed_training(
    model: Downscaler,
    crops: Crops,
    valid: Crops,
    minutes: float,
    folder: Path,
    seed: int,
    teacher: Distillation | None = None,
    **settings: Any,
) -> None:
    """Train for minutes of processor time divided by threads, save the model, and write time.json beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    started, processor_time = time.time(), time.process_time()
    train(model, crops, valid, Training(minutes=minutes, seed=seed, clock="cpu", **settings), folder, teacher)
    spent = {
        "wall_seconds": time.time() - started,
        "processor_seconds": time.process_time() - processor_time,
        "candidate_crops": len(crops),
    }
    (folder / "time.json").write_text(json.dumps(spent))
    model.save(folder)


def fitted(preset: str, settings: Mapping[str, Any], folder: Path) -> None:
    """Train by configuration alone, as `fit_command` says, and write time.json beside the model."""
    started, processor_time = time.time(), time.process_time()
    finescale.fit(preset, folder, settings)
    spent = {"wall_seconds": time.time() - started, "processor_seconds": time.process_time() - processor_time}
    (folder / "time.json").write_text(json.dumps(spent))


def west(data: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Settings of a training on MRMS west of -94 degrees, validated up to -90, for minutes of processor time."""
    return {
        "data.path": str(data / "mrms_west.nc"),
        "data.train": {"lon": [None, -94]},
        "data.valid": {"lon": [-94, -90]},
        "train.minutes": minutes,
        "train.clock": "cpu",
        "train.seed": seed,
    }


def fit_command(preset: str, settings: Mapping[str, Any]) -> str:
    """The command that trains the same model into the folder ``model``; files are named without their folders."""
    words = ["finescale", "fit", preset, "-o", "model"]
    for key, value in settings.items():
        if key in ("data.path", "data.coarse", "data.static") and value is not None:
            value = [Path(one).name for one in value] if isinstance(value, list) else Path(value).name
        words += ["--set", f"{key}={_flow(value)}"]
    return shlex.join(words)


def _flow(value: Any) -> str:
    """YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("...\n").strip().replace("'", '"')


def interleaved(
    functions: Mapping[str, Callable[[], Any]], repeats: int, wait: Callable[[], Any] | None = None
) -> dict[str, float]:
    """Median seconds of each function, called in turn ``repeats`` times after a round that does not count.

    Args:
        functions: what to time, by name.
        repeats: rounds that count.
        wait: waits for the device, where calls return before their work is done.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats + 1):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if wait is not None:
                wait()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(spent[1:]) for name, spent in times.items()}


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def rounded(value: Any) -> Any:
    """Results with five significant digits."""
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float | np.floating) else value
