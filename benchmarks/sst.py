"""Small generative models with uncertainty: patch-wise POD against pixels, one global basis and a random one.

    python benchmarks/sst.py DATA --members 64

DATA is a folder with sst_tasman_1982_2013.nc, mrms_west.nc, images/bsd100 and images/set14. Sea-surface temperature ×4
and ×8 has every system; radar ×8, photographs ×4 and, where nilearn is installed, horizontal slices of its MNI152
template ×4 (a magnetic resonance image of the head) have patch-POD-ViT, pixel EDM and bicubic. Every system gets the
same crops. Each is trained by a command, which runs in a shell and stands in sst.md. Budgets are optimizer steps
(`STEPS`, `Place.steps`): about as many as the system did in 240 s of processor time, measured once on two cores, so
that nothing that runs at the same time changes a result. Parameters are NOT equal: small networks are the claim, and
each row gives its own. Generative systems are judged with and without the set's constraint, which knows the land (*land
unknown*: it does not, as in a prediction), and patch-wise ones also by the modes alone, without noise for what they
leave out. Rows from a closed-form standard deviation (the variance head, and the covariance of sampled latents) are
judged as Gaussians. Rows *by the commands* are of `finescale coarsen`, `downscale` and `verify` on all that was kept
aside (--chain).

Besides, the standard deviation that `decode_variance` gives is compared with that of decoded members, and memory and
seconds of sampling are measured: memory in fresh processes, seconds system by system in turn. Nothing is trained or
judged twice: models are kept under --cache, results written as they come: sst.json, sst.md and pictures.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pictures
import torch
from commands import trained, training_told
from protocol import interleaved, processor, rounded
from speed import resident
from sst_judge import (
    agreement,
    by_commands,
    commanded,
    conserving,
    in_units,
    judged,
    modes_alone,
    scored,
)
from sst_report import picture, report, strip

from finescale.cli.allocator import keep_memory
from finescale.config.load import load
from finescale.config.read import read_config
from finescale.downscaler import Downscaler
from finescale.grids.factor import Factor
from finescale.model.batch import Batch, Inputs, Members
from finescale.training.crops import Crops
from finescale.training.data import open_data
from finescale.verify import baselines

VIT = {"kind": "vit", "width": 64, "depth": 4, "window": 4}
HEAD = "patch-POD, variance head"
DRY = {"data.min_wet": 0.0, "data.favour": 0.0, "data.rescale": 0.0}
"""What the presets for rain do besides."""
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "U-Net": ("patch-pod", {"latent": "pixel", "denoiser": "none"}),
    "pixel EDM": ("edm", {"process.noise": {"mean": -0.4, "std": 1.2}, "process.steps": 18, "train.batch": 16}),
    "PODiff as published": ("podiff", {"mean": "none", "latent.condition": "anomaly"}),
    "global PODiff": ("podiff", {}),
    "random basis": ("patch-pod", {"latent.random": True}),
    "patch-POD-ViT": ("patch-pod", {}),
    "one-step": ("one-step", {"latent.side": 4, "data.smoothing": 0.0}),
    # No sampling: mean network and a head that says the variance of each coefficient of what it leaves.
    HEAD: (
        "patch-pod",
        {"denoiser": "none", "variance": {"loss": "crps", "backbone": VIT}, "train.variance_share": 0.25},
    ),
}
"""Preset and settings of each system; those of a place come besides."""
STEPS = {
    "U-Net": 4300,
    "pixel EDM": 1370,
    "PODiff as published": 26000,
    "global PODiff": 26000,
    "random basis": 5400,
    "patch-POD-ViT": 5400,
    "one-step": 2700,
    HEAD: 5000,
}
"""On crops of 32²."""
FEW = ("pixel EDM", "patch-POD-ViT")
RAIN = [{"kind": "log1p", "scale": 0.1, "threshold": 0.05}, "standardize"]


@dataclass(frozen=True)
class Place:
    """A data set at a factor.

    Attributes:
        factor: the factor.
        file: under DATA; photographs and slices of heads are first made one file.
        crop: cells a side.
        tests: test crops at most.
        units: of the field.
        parts: the dimension that divides the data, and its ranges to train on, to validate on and to test on.
        systems: those of SYSTEMS that are compared.
        settings: of all systems.
        constraint: of all systems.
        fold: cells a side that the mean network sees as one.
        dry: threshold of rain; None for other fields.
        steps: of each system's training, where they are not those of `STEPS`.
        mean_share: share of the steps that a mean network gets beside a denoiser.
        at_once: members that are sampled together where memory is measured.
    """

    factor: str
    file: str
    crop: int
    tests: int
    units: str
    parts: tuple[str, list[Any], list[Any], list[Any]]
    systems: tuple[str, ...] = FEW
    settings: Mapping[str, Any] = field(default_factory=dict)
    constraint: str = "additive"
    fold: int = 2
    dry: float | None = None
    steps: Mapping[str, int] = field(default_factory=lambda: STEPS)
    mean_share: float = 0.25
    at_once: int = 16


YEARS = ("time", [None, "2009-01-01"], ["2009-01-01", "2011-01-01"], ["2011-01-01", None])
SEA = {"transform": ["standardize"], **DRY, "data.min_valid": 0.3, "data.turn": False}
STORMS = {
    "transform": RAIN, "data.min_valid": 0.95, "data.min_wet": 0.05, "data.favour": 0.5, "data.rescale": 0.4,
    "data.turn": True,
}  # fmt: skip
# Pictures of several sizes in one file have unknown cells beside them.
PICTURES = {"transform": ["standardize"], **DRY, "data.min_valid": 1.0, "data.turn": True}
HEADS = PICTURES | {"data.min_valid": 0.0, "data.min_wet": 0.3, "data.wet": 0.05}
LARGE = {"pixel EDM": 105, "patch-POD-ViT": 1200}
"""Steps on crops of 128²."""
PLACES = {
    "sst4": Place(
        "1x4", "sst_tasman_1982_2013.nc", 32, 200, "°C", YEARS, tuple(SYSTEMS), SEA, mean_share=0.1, at_once=256
    ),
    "sst8": Place(
        "1x8", "sst_tasman_1982_2013.nc", 32, 200, "°C", YEARS, tuple(SYSTEMS), SEA, mean_share=0.1, at_once=256
    ),
    "radar": Place(
        "1x8", "mrms_west.nc", 128, 8, "mm/h", ("lon", [None, -94], [-94, -90], [-90, None]), FEW, STORMS,
        "multiplicative", 4, 0.05, LARGE,
    ),
    "photographs": Place(
        "1x4", "photographs.nc", 128, 12, "luminance", ("time", [None, 90], [90, 100], [100, None]), FEW, PICTURES,
        fold=4, steps=LARGE,
    ),
    # Training, validation and test are parts of one head, from the neck upwards.
    "medical": Place(
        "1x4", "medical.nc", 128, 8, "intensity", ("time", [20, 95], [98, 106], [109, 140]), FEW, HEADS, fold=4,
        steps=LARGE,
    ),
}  # fmt: skip
CHAINED = ("sst4", "sst8")
"""Sets that are small enough to be judged by the commands as a whole."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=there(), choices=list(PLACES))
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--share", type=float, default=1.0, help="of the steps, to try the script")
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--train", action="store_true", help="train alone; judge in another run")
    parser.add_argument("--chain", nargs="*", default=["patch-POD-ViT"], help="systems judged by the commands as well")
    parser.add_argument("--crops", type=int, help="test crops at most; by default as many as each set has")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/sst"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--memory", type=Path, help=argparse.SUPPRESS)  # a fresh process that measures one model
    args = parser.parse_args()
    if args.memory:
        print("MiB", peak(args.memory))
        return
    keep_memory()
    results = earlier(args)
    for name in args.sets:
        run(name, args, results)


def there() -> list[str]:
    """The sets whose data can be had."""
    return [name for name in PLACES if name != "medical" or importlib.util.find_spec("nilearn")]


def earlier(args: argparse.Namespace) -> dict[str, Any]:
    """Results of an earlier run with the same settings, or none."""
    settings = {
        "share of the steps": args.share, "members": args.members, "crops": args.crops,
        "seed": args.seed, "processor": processor(), "torch": torch.__version__,
    }  # fmt: skip
    file = args.results / "sst.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    return found if found.get("settings") == rounded(settings) else {"settings": settings, "sets": {}}


def run(name: str, args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Train and judge what is missing of a set."""
    place, folder = PLACES[name], args.cache / f"{name}-seed{args.seed}-{args.share:g}"
    out = results["sets"].setdefault(name, {"rows": {}, "systems": {}, "agreement": {}})
    path = prepared(name, args.data, args.cache)
    if args.train:
        for system in [system for system in place.systems if system in args.systems]:
            trained(*configured(system, place, path, args), folder / system)
        return
    train, test = crops(place, path, args)
    batch = test.apart(args.crops or place.tests, seed=1)
    out["about"] = {key: getattr(place, key) for key in ("factor", "crop", "units", "mean_share", "at_once")}
    out["about"] |= {"training": len(train), "tests": len(batch.fine)}
    if "bicubic" not in out["rows"]:
        fine = baselines.bicubic(batch.coarse[:, 0, 0].numpy(), Factor.parse(place.factor))
        alone = torch.from_numpy(fine).float().transpose(0, 1)[:, :, None, None]
        out["rows"]["bicubic"] = scored(alone, batch, place.dry)
    for system in place.systems:
        if system not in args.systems or system in out["systems"]:
            continue
        at = trained(*configured(system, place, path, args), folder / system)
        model = loaded(at)
        out["rows"] |= judged(system, model, batch, place.dry, Members(range(args.members), seed=args.seed))
        out["systems"][system] = costs(folder / system, model, args)
        write(results, args)
        print(name, system, {k: v for k, v in out["rows"][system].items() if isinstance(v, float)}, flush=True)
    for system in args.chain if name in CHAINED else ():
        if system in out["systems"] and f"{system}, by the commands" not in out["rows"]:
            told = commanded(place.factor, path.name, {place.parts[0]: place.parts[-1]}, args.members)
            out["rows"] |= by_commands(system, folder / system, told)
            out["chain"] = told
            write(results, args)
    there = {
        system: loaded(folder / system / "model")
        for system in place.systems
        if system in args.systems and "command" in out["systems"].get(system, {})
    }
    if any("seconds_a_member" not in out["systems"][system] for system in there):
        for system, seconds in timed(there, batch, place.at_once // 16).items():
            out["systems"][system]["seconds_a_member"] = seconds
    if "patch-POD-ViT" in there and not out["agreement"]:
        out["agreement"] = agreement(there["patch-POD-ViT"], batch, place.at_once // 16)
    out["rows"], out["systems"] = (ordered(out[part], place.systems) for part in ("rows", "systems"))
    write(results, args)
    if name == "sst4" and "patch-POD-ViT" in there:
        model, days = there["patch-POD-ViT"], batch[:3]
        members = conserving(
            model, in_units(model, model.draw(Inputs(days.coarse), Members(range(args.members))), days), days
        )
        picture(days, members, model.factor, out["rows"], args.results / "sst.png")
    if name in ("photographs", "medical") and "patch-POD-ViT" in there:
        model, one = there["patch-POD-ViT"], batch[3:4]
        noisy = conserving(model, in_units(model, model.draw(Inputs(one.coarse), Members()), one), one)
        with modes_alone(model):
            members = conserving(model, in_units(model, model.draw(Inputs(one.coarse), Members(range(2))), one), one)
        strip(one, members, noisy, args.results / f"sst_{name}.png")


def ordered(rows: dict[str, Any], systems: tuple[str, ...]) -> dict[str, Any]:
    """The rows of bicubic interpolation, then those of each system in turn, whenever they were measured."""
    names = ("bicubic", *systems)
    place = {row: next(n for n, name in enumerate(names) if row == name or row.startswith(f"{name}, ")) for row in rows}
    return {row: rows[row] for row in sorted(rows, key=place.__getitem__)}


# --- data and training


def configured(system: str, place: Place, path: Path, args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The preset of a system, and the settings that are not the preset's."""
    preset, own = SYSTEMS[system]
    dimension, train, valid, _ = place.parts
    wanted = {
        "data.path": str(path),
        "factor": place.factor,
        **place.settings,
        "constraint": place.constraint,
        "data.crop": place.crop,
        "data.train": {dimension: train},
        "data.valid": {dimension: valid},
        "train.steps": max(2, round(args.share * place.steps[system])),
        "train.seed": args.seed,
    }
    base = read_config(preset)
    if isinstance(base["mean"], dict):
        wanted |= {"mean.fold": place.fold, "train.mean_share": place.mean_share}
    return preset, {key: value for key, value in (wanted | own).items() if said(base, key) != value}


def said(config: Any, key: str) -> Any:
    """What a preset says of a key; where it says nothing, what `finescale.fit` takes."""
    defaults = {"data.min_wet": 0.0, "data.favour": 0.0, "data.rescale": 0.0, "data.turn": True, "train.seed": 0}
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return defaults.get(key) if config is None else config


def crops(place: Place, path: Path, args: argparse.Namespace) -> tuple[Crops, Crops]:
    """The crops that a model is trained on, and those to test on: as `finescale.fit` reads them."""
    preset, settings = configured(FEW[-1], place, path, args)
    wanted = read_config(preset, settings | {"data.valid": {place.parts[0]: place.parts[-1]}})
    train, test = open_data(wanted).crops()
    return train, test


def prepared(name: str, data: Path, cache: Path) -> Path:
    """The file of a set; pictures become one, made once."""
    if name == "photographs":
        return pictures.photographs(data, cache)
    return pictures.medical(cache) if name == "medical" else data / PLACES[name].file


def loaded(folder: Path) -> Downscaler:
    model = load(folder, device="cpu")
    model.batch = 128
    return model


# --- costs


def costs(folder: Path, model: Downscaler, args: argparse.Namespace) -> dict[str, Any]:
    """Parameters, training steps and seconds, and the memory of sampling."""
    command = [sys.executable, __file__, str(args.data), "--memory", str(folder / "model")]
    measured = subprocess.run(command, capture_output=True, text=True, check=True)
    return training_told(folder) | {
        "parameters": model.parameters_by_part,
        "nfe": model.evaluations(),
        "sampling_mebibytes": float(measured.stdout.split("MiB")[1]),
    }


def peak(folder: Path) -> float:
    """MiB that `at_once` members of one crop take at their peak, over what the process has when the model is ready."""
    model = loaded(folder)
    place = next(place for name, place in PLACES.items() if folder.parent.parent.name.startswith(f"{name}-"))
    coarse = torch.rand(1, 1, 1, place.crop // model.factor.y, place.crop // model.factor.x)
    model.batch = place.at_once

    def draw(count: int) -> None:
        if model.variance is not None:
            model.marginals(Inputs(coarse.expand(count, -1, -1, -1, -1)), Members(range(64)), "head")
        elif model.denoiser is None:
            model.draw(Inputs(coarse.expand(count, -1, -1, -1, -1)), Members())
        else:
            model.draw(Inputs(coarse), Members(range(count), steps=3))

    draw(2)  # libraries are loaded
    before = resident()
    draw(place.at_once)
    return resident() - before


def timed(models: dict[str, Downscaler], batch: Batch, crops: int) -> dict[str, float]:
    """Seconds a member of each system, 8 members of each crop, in turn; without sampling seconds a crop."""
    coarse = batch.coarse[:crops]

    def once(model: Downscaler) -> None:
        if model.variance is not None:
            model.marginals(Inputs(coarse), Members(range(64)), "head")
        else:
            model.draw(Inputs(coarse), Members(range(8)))

    seconds = interleaved({name: partial(once, model) for name, model in models.items()}, repeats=5)
    drawn = {name: len(coarse) * (1 if model.denoiser is None else 8) for name, model in models.items()}
    return {name: spent / drawn[name] for name, spent in seconds.items()}


# --- what is written


def write(results: dict[str, Any], args: argparse.Namespace) -> None:
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "sst.json").write_text(json.dumps(rounded(results), indent=1))
    (args.results / "sst.md").write_text("\n".join([*report(rounded(results)), ""]))


if __name__ == "__main__":
    main()
