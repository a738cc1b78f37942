"""Small generative models with uncertainty: patch-wise POD against pixels, one global basis and a random one.

    python benchmarks/sst.py DATA --minutes 6 --members 64

DATA is a folder with sst_tasman_1982_2013.nc, mrms_west.nc, images/bsd100 and images/set14. Sea-surface temperature ×4
and ×8 has every system; radar ×8, photographs ×4 and, where nilearn is installed, horizontal slices of its MNI152
template ×4 (a magnetic resonance image of the head) have patch-POD-ViT, pixel EDM and bicubic. Every system gets the
same crops and minutes (of processor time divided by threads, for all of a system's networks). Each is trained by
`finescale.fit` from a preset and settings, and sst.md names the command that does the same. Parameters are NOT equal:
small networks are the claim, and each row gives its own. Generative systems are judged with and without the set's
constraint, which knows the land, and patch-wise ones also by the modes alone, without noise for what they leave out.
Rows from a closed-form standard deviation (the variance head, and the covariance of sampled latents) are judged as
Gaussians.

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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from conservation import luminance
from numpy.typing import NDArray
from protocol import fit_command, fitted, interleaved, processor, rounded
from scipy.special import ndtr
from speed import resident
from sst_report import picture, report, strip
from torch import Tensor

from finescale.cli.allocator import keep_memory
from finescale.config.build import load
from finescale.config.read import read_config
from finescale.downscaler import Downscaler
from finescale.grids.factor import Factor
from finescale.latents import PatchPOD
from finescale.model.batch import Batch, Inputs, Members
from finescale.operators.coarsen import Coarsen
from finescale.scores.ranks import LEVELS, PIT_BINS
from finescale.training.crops import Crops
from finescale.training.data import open_data
from finescale.verify import baselines, score_arrays

COMPARED = 256
"""Members whose standard deviation is compared with the closed form."""
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
    # No sampling: mean network and a head that says the variance of each coefficient of what it leaves.
    HEAD: (
        "patch-pod",
        {"denoiser": "none", "variance": {"loss": "crps", "backbone": VIT}, "train.variance_share": 0.25},
    ),
}
"""Preset and settings of each system; those of a place come besides."""
FEW = ("pixel EDM", "patch-POD-ViT")
RAIN = [{"kind": "log1p", "scale": 0.1, "threshold": 0.05}, "standardize"]
SCORES = ("rmse", "mae", "crps", "spread_skill", "mace", "coverage", "pit_histogram")


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
        mean_share: share of the minutes that a mean network gets beside a denoiser.
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
PLACES = {
    "sst4": Place(
        "1x4", "sst_tasman_1982_2013.nc", 32, 200, "°C", YEARS, tuple(SYSTEMS), SEA, mean_share=0.1, at_once=256
    ),
    "sst8": Place(
        "1x8", "sst_tasman_1982_2013.nc", 32, 200, "°C", YEARS, tuple(SYSTEMS), SEA, mean_share=0.1, at_once=256
    ),
    "radar": Place(
        "1x8", "mrms_west.nc", 128, 8, "mm/h", ("lon", [None, -94], [-94, -90], [-90, None]), FEW, STORMS,
        "multiplicative", 4, 0.05,
    ),
    "photographs": Place(
        "1x4", "photographs.nc", 128, 12, "luminance", ("time", [None, 90], [90, 100], [100, None]), FEW, PICTURES,
        fold=4,
    ),
    # Training, validation and test are parts of one head, from the neck upwards.
    "medical": Place(
        "1x4", "medical.nc", 128, 8, "intensity", ("time", [20, 95], [98, 106], [109, 140]), FEW, HEADS, fold=4
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=there(), choices=list(PLACES))
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--minutes", type=float, default=6.0, help="training of all networks of a system together")
    parser.add_argument("--members", type=int, default=64)
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
        "minutes": args.minutes, "members": args.members, "crops": args.crops,
        "seed": args.seed, "threads": torch.get_num_threads(), "processor": processor(), "torch": torch.__version__,
    }  # fmt: skip
    file = args.results / "sst.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    return found if found.get("settings") == rounded(settings) else {"settings": settings, "sets": {}}


def run(name: str, args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Train and judge what is missing of a set."""
    place, folder = PLACES[name], args.cache / f"{name}-seed{args.seed}-{args.minutes:g}min"
    out = results["sets"].setdefault(name, {"rows": {}, "systems": {}, "agreement": {}})
    path = prepared(name, args.data, args.cache)
    train, test = crops(place, path, args)
    batch = test.apart(args.crops or place.tests, seed=1)
    out["about"] = {key: getattr(place, key) for key in ("factor", "crop", "units", "mean_share", "at_once")}
    out["about"] |= {"training": len(train), "tests": len(batch.fine)}
    if "bicubic" not in out["rows"]:
        fine = baselines.bicubic(batch.coarse[:, 0, 0].numpy(), Factor.parse(place.factor))
        out["rows"]["bicubic"] = scored(torch.from_numpy(fine).float().transpose(0, 1)[:, :, None, None], batch, place)
    for system in place.systems:
        if system not in args.systems or system in out["systems"]:
            continue
        if not (folder / system / "weights.safetensors").is_file():
            fitted(*configured(system, place, path, args), folder / system)
        model = loaded(folder / system)
        out["rows"] |= judged(system, model, batch, place, args)
        out["systems"][system] = costs(folder / system, model, args)
        out["systems"][system]["command"] = fit_command(*configured(system, place, path, args))
        write(results, args)
        print(name, system, {k: v for k, v in out["rows"][system].items() if isinstance(v, float)}, flush=True)
    there = {system: loaded(folder / system) for system in place.systems if system in out["systems"]}
    if any("seconds_a_member" not in out["systems"][system] for system in there):
        for system, seconds in timed(there, batch, place.at_once // 16).items():
            out["systems"][system]["seconds_a_member"] = seconds
    if "patch-POD-ViT" in there and not out["agreement"]:
        out["agreement"] = agreement(there["patch-POD-ViT"], batch, place.at_once // 16)
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
        "train.minutes": args.minutes,
        "train.clock": "cpu",
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
    file = PLACES[name].file
    if name not in ("photographs", "medical"):
        return data / file
    if not (cache / file).is_file():
        if name == "medical":
            from nilearn.datasets import load_mni152_template

            # Horizontal slices, 1 mm apart and of 1 mm cells, in [0, 1]; y counts rows.
            volume = np.asarray(load_mni152_template(resolution=1).get_fdata(), dtype=np.float32)
            pictures = list(np.moveaxis(volume, -1, 0))
        else:
            paths = [path for part in ("bsd100", "set14") for path in sorted((data / "images" / part).iterdir())]
            pictures = [luminance(path).values[0] for path in paths]
        cache.mkdir(parents=True, exist_ok=True)
        stacked(pictures).to_netcdf(cache / file)
    return cache / file


def stacked(pictures: Sequence[NDArray[np.float32]]) -> xr.Dataset:
    """Pictures (H, W) in one variable (time, y, x), their numbers as times; NaN beside the smaller ones."""
    height, width = (max(part.shape[axis] for part in pictures) for axis in (0, 1))
    values = np.full((len(pictures), height, width), np.nan, np.float32)
    for whole, part in zip(values, pictures, strict=True):
        whole[: part.shape[0], : part.shape[1]] = part
    coords = {"time": np.arange(len(pictures)), "y": np.arange(height), "x": np.arange(width)}
    return xr.Dataset({"field": (("time", "y", "x"), values, {"units": "1"})}, coords)


def loaded(folder: Path) -> Downscaler:
    model = load(folder, device="cpu")
    model.batch = 128
    return model


# --- scores


def judged(system: str, model: Downscaler, batch: Batch, place: Place, args: argparse.Namespace) -> dict[str, Any]:
    """Rows of a system: members after the set's constraint and as they are; Gaussians from a closed form."""
    origins = [(0, i * model.multiple[1] * 64, 0) for i in range(len(batch.fine))]  # other noise for every crop
    rows: dict[str, Any] = {}
    if model.variance is None:
        count = args.members if model.denoiser is not None else 1
        x = in_units(
            model, model.draw(Inputs(batch.coarse, origin=origins), Members(range(count), seed=args.seed)), batch
        )
        rows[system] = scored(conserving(model, x, batch), batch, place)
        if model.denoiser is not None:
            rows[f"{system}, no constraint"] = scored(x, batch, place)
        if getattr(model.latent, "remainder", False):
            with modes_alone(model):
                x = in_units(
                    model,
                    model.draw(Inputs(batch.coarse, origin=origins), Members(range(count), seed=args.seed)),
                    batch,
                )
            rows[f"{system}, modes alone"] = scored(conserving(model, x, batch), batch, place)
    closed = isinstance(model.latent, PatchPOD) and model.transform.linear and model.denoiser is not None
    for label, source in ((system, "head"), (f"{system}, closed form", "members")):
        if (source == "head" and model.variance is None) or (source == "members" and not closed):
            continue
        found = model.marginals(
            Inputs(batch.coarse, area=batch.area, origin=origins),
            Members(range(max(2, args.members)), seed=args.seed),
            source,
        )
        # The closed form does not know the land; the mean is moved to what the sea's is.
        rows[label] = gaussian_scores(conserving(model, found.mean[:, None], batch)[:, 0], found.std, batch.fine)
    return rows


@contextmanager
def modes_alone(model: Downscaler) -> Iterator[None]:
    """Members without noise for what the modes leave out."""
    latent: Any = model.latent
    latent.remainder = False
    yield
    latent.remainder = True


def in_units(model: Downscaler, y: Tensor, batch: Batch) -> Tensor:
    """What `draw` gives, (B, M, C, T, H, W), in units and cut to the crop."""
    height, width = batch.fine.shape[-2:]
    return model.physical(y)[..., :height, :width]


def conserving(model: Downscaler, x: Tensor, batch: Batch) -> Tensor:
    """Fields (B, M, C, T, H, W) with the block means over the cells that are known, as in training."""
    assert model.constraint is not None
    operators = Coarsen(model.factor, batch.area[:, None, None, None], batch.fine.isfinite()[:, None])
    return model.constraint(x, batch.coarse[:, None].expand(-1, x.shape[1], *(-1,) * 4), operators)


def scored(members: Tensor, batch: Batch, place: Place) -> dict[str, Any]:
    """Scores of members (B, M, 1, 1, H, W); crops are cases, and for one member MAE is the CRPS."""
    x, truth = members[:, :, 0, 0].transpose(0, 1).numpy(), batch.fine[:, 0, 0].numpy()
    found = score_arrays(x, truth, dry=place.dry, sequence=1)
    return {key: np.asarray(found[key]).tolist() for key in SCORES if key in found} | {"members": len(x)}


def gaussian_scores(mean: Tensor, std: Tensor, truth: Tensor) -> dict[str, Any]:
    """The same scores of N(mean, std²) in every cell, in closed form (CRPS: Gneiting et al. 2005)."""
    known = truth.isfinite() & mean.isfinite()
    m, s, y = (field[known].double().numpy() for field in (mean, std, truth))
    error, s = y - m, np.maximum(s, 1e-9)
    w = error / s
    pit = ndtr(w)
    crps = s * (w * (2 * pit - 1) + 2 * np.exp(-w * w / 2) / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi))
    histogram = np.histogram(pit, PIT_BINS, (0, 1))[0] / pit.size
    rmse = float(np.sqrt(np.square(error).mean()))
    return {
        "rmse": rmse,
        "mae": float(np.abs(error).mean()),
        "crps": float(crps.mean()),
        "spread_skill": float(np.sqrt(np.square(s).mean())) / rmse,
        "mace": float(np.abs(np.cumsum(histogram)[:-1] - np.arange(1, PIT_BINS) / PIT_BINS).mean()),
        "coverage": [float((np.abs(2 * pit - 1) <= level).mean()) for level in LEVELS],
        "pit_histogram": histogram.tolist(),
        "members": "Gaussian",
    }


def agreement(model: Downscaler, batch: Batch, count: int) -> dict[str, Any]:
    """Standard deviations from `decode_variance` against those of COMPARED decoded members of the first crops.

    The covariance of the same members' latents, with all its terms, by blocks (a matrix for every patch) and its
    diagonal alone, and that of other members; in units and after the constraint, `spread` against `sample`.
    """
    some = batch[:count]
    with modes_alone(model):
        y = model.draw(Inputs(some.coarse), Members(range(2 * COMPARED)))
    z = torch.stack([model.encode(part, model.factor) for part in y])
    y, z, other = y[:, :COMPARED], z[:, :COMPARED], z[:, COMPARED:]
    apart, other = ((part - part.mean(1, keepdim=True)) / (COMPARED - 1) ** 0.5 for part in (z, other))
    latent: Any = model.latent
    found = {
        "all covariances": latent.decode_variance(factor=apart),
        "a block for every patch": latent.decode_variance(block=torch.einsum("bmkthw,bmlthw->bklthw", apart, apart)),
        "diagonal": latent.decode_variance(variance=apart.square().sum(1)),
        "all covariances, of other members": latent.decode_variance(factor=other),
    }
    height, width = some.fine.shape[-2:]
    known = some.fine.isfinite()
    empirical = y.var(1)[..., :height, :width].sqrt()
    rows = {label: alike(v[..., :height, :width].sqrt(), empirical, known) for label, v in found.items()}
    floor = latent.truncated((1, *y.shape[-2:]))[..., :height, :width].expand_as(empirical)
    rows["what is left out, share of the variance"] = {
        "ratio": float(floor[known].mean() / (empirical**2 + floor)[known].mean())
    }
    if model.transform.linear:
        members = model.sample(Inputs(some.coarse, area=some.area), Members(range(COMPARED))).fields
        spread = model.marginals(Inputs(some.coarse, area=some.area), Members(range(COMPARED)), "members")
        rows["in units, after the constraint, with what is left out"] = alike(spread.std, members.std(1), known)
    return rows


def alike(a: Tensor, b: Tensor, known: Tensor) -> dict[str, float]:
    """Correlation of two standard deviations over known cells, and the ratio of their root mean squares."""
    x, y = (part[known & a.isfinite() & b.isfinite()].double() for part in (a, b))
    ratio = float((x.square().mean() / y.square().mean()).sqrt())
    return {"correlation": float(torch.corrcoef(torch.stack([x, y]))[0, 1]), "ratio": ratio}


# --- costs


def costs(folder: Path, model: Downscaler, args: argparse.Namespace) -> dict[str, Any]:
    """Parameters, training steps and seconds, and the memory of sampling."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    steps = {row["stage"]: row["step"] for row in rows}
    seconds = json.loads((folder / "time.json").read_text())["processor_seconds"]
    command = [sys.executable, __file__, str(args.data), "--memory", str(folder)]
    measured = subprocess.run(command, capture_output=True, text=True, check=True)
    return {
        "parameters": model.parameters_by_part,
        "steps": steps,
        "training_processor_seconds": seconds,
        "nfe": 0 if model.denoiser is None else model.process.sampler.nfe(model.process.steps),
        "sampling_mebibytes": float(measured.stdout.split("MiB")[1]),
    }


def peak(folder: Path) -> float:
    """MiB that `at_once` members of one crop take at their peak, over what the process has when the model is ready."""
    model = loaded(folder)
    place = next(place for name, place in PLACES.items() if folder.parent.name.startswith(f"{name}-"))
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
