"""Networks left out of training, one after the other: what more networks are worth to one that no training saw.

    python benchmarks/left_out.py DATA [--minutes 12] [--smoothing 1 0]

Systems are the preset `one-step` at 1x8, trained on MRMS west of -94 degrees alone, and on that and all openly licensed
networks but the one that is scored (Switzerland and Brisbane are in none), for the same minutes of processor time; with
`data.smoothing`, which tells networks how smooth fine fields are, and without. Each is scored as it is, and calibrated
on five fields, on the crops of texture.py.

Finished models under --cache are read back, interrupted ones resumed; what left_out.json holds is not done again.
Writes left_out.json and left_out.md as it goes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from commands import trained, training_told
from shipped import MRMS, OF, cut
from texture import report, score

from finescale.cli.allocator import keep_memory
from finescale.config.load import load

FILES = OF["rain"].files
PLACES = {"FMI": "fmi_", "DWD": "dwd_", "OPERA": "opera_", "MCH": "mch_", "Brisbane": "bom_"}
"""Networks that are scored, and how the names of their files begin."""
SYSTEMS = ("other networks", "MRMS alone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--places", nargs="+", default=list(PLACES), choices=list(PLACES))
    parser.add_argument("--smoothing", nargs="+", type=int, default=[1, 0], choices=[1, 0], help="1: the preset's")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--minutes", type=float, default=12.0, help="of processor time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crops", type=int, default=48)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/left_out"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    keep_memory()
    args.cache.mkdir(parents=True, exist_ok=True)
    file = args.results / "left_out.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"systems": {}, "places": {}}
    for smoothing in args.smoothing:
        for place in args.places:
            others = [name for name in FILES if not name.startswith(PLACES[place])]
            there = found["places"].get(place, {}).get("systems", {})
            for label, files in zip(SYSTEMS, (others, [MRMS]), strict=True):
                name = f"{label}{'' if smoothing else ', smoothing 0'}, seed {args.seed}"
                if label not in args.systems or f"{name}, calibrated" in there:
                    continue
                folder = made(files, smoothing, args)
                model = load(folder / "model").eval()
                told = training_told(folder) | {"parameters": model.parameters_by_part}
                found["systems"][f"{name}, for {place}"] = told
                score(model, place, name, args, found)
                report(found, "left_out", "Networks left out of training", args)


def made(files: list[str], smoothing: int, args: argparse.Namespace) -> Path:
    """The folder of a system, trained by its command."""
    left = [prefix for prefix in PLACES.values() if not any(name.startswith(prefix) for name in files)]
    name = "alone" if files == [MRMS] else "without-" + "".join(sorted(left))
    settings: dict[str, Any] = {
        "data.path": [str(cut(args) if file == MRMS else args.data / file) for file in files],
        "data.variable": "precipitation_rate",
        "data.balance": 0.7,
        "train.minutes": args.minutes,
        "train.clock": "cpu",
        "train.seed": args.seed,
    }
    settings |= {} if smoothing else {"data.smoothing": 0.0}
    folder = args.cache / f"{name}{'' if smoothing else '-smoothing-0'}-seed{args.seed}-{args.minutes:g}min"
    trained("one-step", settings, folder)
    return Path(folder)


if __name__ == "__main__":
    main()
