"""What every peer's script does besides: it reads the arrays, watches the clock, and writes members and their cost.

Needs numpy alone, since each peer has an environment of its own. Time is the processor time of the process, so that
other work on the machine changes how long a benchmark takes and not how much is trained.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FACTOR = 8
PLACES = ("mrms", "fmi", "mch")
Array = NDArray[np.float32]


@dataclass
class Clock:
    """A budget of processor time, from now on."""

    seconds: float

    def __post_init__(self) -> None:
        self.started = time.process_time()

    @property
    def spent(self) -> float:
        """The share that is spent."""
        return (time.process_time() - self.started) / self.seconds


@dataclass(frozen=True)
class Training:
    """What a peer may learn from.

    Attributes:
        fine: rain in mm/h (n, H, W) without missing cells.
        coarse: its block means (n, h, w).
        seconds: of processor time for all that is trained.
        seed: of all that is random.
        steps: of each training, which it adds.
    """

    fine: Array
    coarse: Array
    seconds: float
    seed: int
    steps: list[int] = field(default_factory=list)


def main(
    train: Callable[[Training], Any],
    refine: Callable[[Any, Array, int], Array],
    parameters: Callable[[Any], dict[str, int]] = lambda model: {},
) -> None:
    """Train, make members (M, N, H, W) of the coarse fields (N, h, w) of each place, and write what it took.

    Args:
        train: makes the model.
        refine: model, coarse fields and number of members -> members.
        parameters: of each network of the model.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="folder of fine.npy, coarse.npy and PLACE.npy")
    parser.add_argument("--minutes", type=float, default=12.0, help="of processor time, for training")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    arrays = (np.load(args.data / f"{name}.npy", mmap_mode="r") for name in ("fine", "coarse"))
    started = time.process_time()
    given = Training(*arrays, seconds=60 * args.minutes, seed=args.seed)
    model = train(given)
    told: dict[str, Any] = {"training_seconds": time.process_time() - started, "steps": given.steps}
    told["parameters"] = parameters(model)
    seconds = []
    for place in PLACES:
        coarse = np.load(args.data / f"{place}.npy")
        started = time.process_time()
        members = refine(model, coarse, args.members)
        seconds.append((time.process_time() - started) / (len(members) * len(coarse)))
        np.save(args.out / f"{place}.npy", members.astype(np.float32))
    told["seconds_a_member"] = statistics.median(seconds)
    # Last: where it is there, all is.
    (args.out / "told.json").write_text(json.dumps(told, indent=1) + "\n")
