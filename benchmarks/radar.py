"""Real radar rain: latents and the constraint against nearest, bicubic, RainFARM and plain EDM, at equal budgets.

    python benchmarks/radar.py DATA --minutes 12 --seed 0

DATA is a folder with mrms_west.nc, fmi_20160928.nc and mch_20150515.nc. Every trained system gets the same crops of the
training region, parameter budget and minutes (mean and denoiser together; the mean network is the same one in all
systems that have one, and its minutes count in each). Minutes are of processor time divided by threads, so that other
work on the machine changes how long the benchmark takes and not how much is trained. Nothing is trained or scored
twice: finished models under --cache are read back, interrupted ones resumed, and systems that radar.json has with the
same settings are left as they are. Writes radar.json, radar.md and pictures under --results.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from protocol import VARIED, WET, processor, rounded, timed_training
from rain_maps import rain_maps
from torch import Tensor

from finescale.config.build import build_model
from finescale.config.load import load
from finescale.data.files import open_field
from finescale.data.region import region
from finescale.downscaler import Downscaler
from finescale.grids.coordinates import increasing
from finescale.grids.factor import Factor
from finescale.model.batch import Inputs, Members
from finescale.operators.coarsen import Coarsen
from finescale.training.crops import Crops
from finescale.verify import baselines, paired_bootstrap, score_arrays

CROP = {"1x8": 128, "1x10": 120}
MEAN_SHARE = 0.15
TRANSFORM = [{"kind": "log1p", "scale": 0.1, "threshold": 0.05}, "standardize"]
MEAN = {"kind": "network", "fold": 4, "backbone": {"kind": "unet", "width": 48, "multipliers": [1, 2, 2]}}


def unet(*multipliers: float, width: int) -> dict[str, Any]:
    return {"backbone": {"kind": "unet", "width": width, "multipliers": list(multipliers)}}


def edm(noise: float, sigma_max: float = 20, steps: int = 12) -> dict[str, Any]:
    """EDM whose training noise has this spread of log σ."""
    schedule = {"kind": "edm", "sigma_max": sigma_max, "sigma_min": 0.02}
    return {"schedule": schedule, "noise": {"mean": -0.4, "std": noise}, "steps": steps}


def wavelet(levels: int) -> dict[str, Any]:
    return {"kind": "wavelet", "levels": levels}


SYSTEMS: dict[str, dict[str, Any]] = {
    "mean+wavelet-2": {
        "latent": wavelet(2), "denoiser": unet(1, 2, 2, width=64), "process": edm(1.2), "train": {"batch": 16}
    },
    "mean+wavelet-3": {
        "latent": wavelet(3), "denoiser": unet(1, 2, 2, width=64), "process": edm(1.2), "train": {"batch": 16}
    },
    "edm-pixel": {
        "mean": "none", "latent": "pixel", "denoiser": unet(1, 2, 4, 7.5, width=32),
        "process": edm(1.4, sigma_max=80, steps=18), "train": {"batch": 8},
    },
    "mean+wavelet-1": {
        "latent": wavelet(1), "denoiser": unet(1, 2, 4, width=48), "process": edm(1.2), "train": {"batch": 8}
    },
    "mean+pixel": {
        "latent": "pixel", "denoiser": unet(1, 2, 4, 4.5, width=32), "process": edm(1.4), "train": {"batch": 8}
    },
}  # fmt: skip
KEEP = (
    "crps",
    "mae",
    "spread_skill",
    "rank_departure",
    "log_spectral_distance",
    "csi",
    "fss",
    "psnr",
    "ssim",
    "p999_bias",
    "wet_fraction",
    "energy_score",
    "rank_histogram",
    "crps_by_time",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--factors", nargs="+", default=list(CROP))
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--minutes", type=float, default=12.0, help="training of all networks of a system together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crops", type=int, default=48)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument(
        "--transfer", nargs="*", default=["mean+wavelet-2", "mean+wavelet-1"], help="also on fmi and mch"
    )
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/radar"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    results: dict[str, Any] = {"settings": settings(args), "factors": earlier(args)}
    for name in args.factors:
        run(name, args, results)
    write(results, args)


def earlier(args: argparse.Namespace) -> dict[str, Any]:
    """Results of an earlier run with the same settings."""
    file = args.results / "radar.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    same = found.get("settings") == rounded(settings(args))
    return {name: found["factors"][name] for name in CROP if same and name in found["factors"]}


def run(name: str, args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Train and score the systems that are missing at one factor."""
    factor, folder = Factor.parse(name), args.cache / f"{name}-seed{args.seed}-{args.minutes:g}min"
    out: dict[str, Any] = results["factors"].setdefault(name, {"training": {}, "tests": {}})
    if not set(args.systems) - set(out["training"]):
        return
    tests = dict(test_sets(args, factor, CROP[name]))
    for place, (fine, coarse, area) in tests.items():
        if place in out["tests"]:
            continue
        out["tests"][place] = {"crops": len(fine), "cells": CROP[name], "baselines": {}}
        for system, members in baseline_members(coarse, factor, args):
            out["tests"][place]["baselines"][system] = scored(members, fine, coarse, area, factor)
    write(results, args)
    patches: tuple[Crops, Crops] | None = None
    for system in args.systems:
        if system in out["training"]:
            continue
        if not (folder / system / "weights.safetensors").is_file():
            patches = patches or training_crops(args, factor, CROP[name])
            trained(system, name, folder, patches, args)
        model = load(folder / system)
        for place, (fine, coarse, area) in tests.items():
            if place != "mrms" and system not in args.transfer:
                continue
            out["tests"][place].setdefault("systems", {}).update(judged(system, model, fine, coarse, area, args))
        out["training"][system] = {"parameters": model.parameters_by_part, "log": last_rows(folder, system)}
        write(results, args)
        if system == next(iter(SYSTEMS)) and name == next(iter(CROP)):
            picture(model, tests["mrms"], factor, args, system, name)


def training_crops(args: argparse.Namespace, factor: Factor, crop: int) -> tuple[Crops, Crops]:
    field = increasing(open_field(args.data / "mrms_west.nc"))
    sides = ({"lon": [None, -94]}, {"lon": [-94, -90]})
    first, second = (
        Crops([[region(field, side).load()]], factor, (1, crop, crop), WET, augmentation=VARIED) for side in sides
    )
    return first, second


def test_sets(
    args: argparse.Namespace, factor: Factor, crop: int
) -> Iterator[tuple[str, tuple[Tensor, Tensor, Tensor]]]:
    """Non-overlapping crops of the test region, and of two radar networks never trained on."""
    for place, file, ranges in (
        ("mrms", "mrms_west.nc", {"lon": [-90, None]}),
        ("fmi", "fmi_20160928.nc", None),
        ("mch", "mch_20150515.nc", None),
    ):
        field = region(increasing(open_field(args.data / file)), ranges).isel(time=slice(None, None, 5)).load()
        batch = Crops([[field]], factor, (1, crop, crop), WET).apart(args.crops, seed=1)
        yield place, (batch.fine, batch.coarse, batch.area)


def baseline_members(coarse: Tensor, factor: Factor, args: argparse.Namespace) -> Iterator[tuple[str, Tensor]]:
    frames = coarse[:, 0, 0].numpy()
    runs = {
        "nearest": baselines.nearest(frames, factor),
        "bicubic": baselines.bicubic(frames, factor),
        "rainfarm": baselines.rainfarm(frames, factor, members=args.members, seed=args.seed),
        "rainfarm, threshold 0.1": baselines.rainfarm(
            frames, factor, members=args.members, seed=args.seed, threshold=0.1
        ),
    }
    for system, members in runs.items():
        yield system, torch.as_tensor(np.asarray(members), dtype=torch.float32).transpose(0, 1)[:, :, None, None]


def trained(system: str, name: str, folder: Path, patches: tuple[Crops, Crops], args: argparse.Namespace) -> None:
    """Train one system (and the mean network, where it is not there yet) and save it."""
    crops, valid = patches
    config = {
        "factor": name,
        "variables": {"precipitation_rate": {"units": "mm h-1"}},
        "transform": TRANSFORM,
        "mean": MEAN,
    }
    config |= SYSTEMS[system] | {"constraint": "multiplicative"}
    shared = folder / "mean"
    has_mean = config["mean"] != "none"
    if has_mean and not (shared / "weights.safetensors").is_file():
        mean_only = build_model(seeded(config | {"denoiser": "none"}, args.seed))
        timed_training(mean_only, crops, valid, args.minutes * MEAN_SHARE, shared, args.seed, mean_share=1.0)
    model = build_model(seeded(config, args.seed))
    if has_mean:
        model.mean.load_state_dict(load(shared).mean.state_dict())
    timed_training(
        model,
        crops,
        valid,
        args.minutes * (1 - MEAN_SHARE if has_mean else 1),
        folder / system,
        args.seed,
        mean_share=0.0,
        batch=config["train"]["batch"],
    )


def seeded(config: dict[str, Any], seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    return config


def last_rows(folder: Path, system: str) -> dict[str, Any]:
    """Steps, seconds and last losses of each stage, with the wall and processor time of the runs."""
    found: dict[str, Any] = {}
    for part in ("mean", system):
        if (folder / part / "log.jsonl").is_file() and (part == system or SYSTEMS[system].get("mean") != "none"):
            for line in (folder / part / "log.jsonl").read_text().splitlines():
                row = json.loads(line)
                found[row["stage"]] = row
            found[f"time of {part}"] = json.loads((folder / part / "time.json").read_text())
    return found


def judged(
    system: str, model: Downscaler, fine: Tensor, coarse: Tensor, area: Tensor, args: argparse.Namespace
) -> dict[str, Any]:
    """Scores of one set of samples, with and without the constraint and the cut of drizzle below 0.05 mm/h."""
    multiple = model.multiple
    origins = [(0, i * multiple[1] * 64, 0) for i in range(len(fine))]  # other noise for every crop
    started = time.perf_counter()
    y = model.draw(Inputs(coarse, origin=origins), Members(range(args.members), seed=args.seed))
    seconds = (time.perf_counter() - started) / (len(fine) * args.members)
    out, constraint, cut = {}, model.constraint, model.transform.parts[0]
    for threshold in (0.0, 0.05):
        for kept in (None, constraint):
            model.constraint, cut.threshold = kept, threshold
            label = ", ".join([system, *(["cut"] if threshold else []), *(["constraint"] if kept else [])])
            out[label] = scored(model.finish(y, Inputs(coarse, area=area)).fields, fine, coarse, area, model.factor)
            out[label] |= {"seconds_a_member": seconds, "nfe": model.process.sampler.nfe(model.process.steps)}
    model.constraint, cut.threshold = constraint, 0.05
    return out


def scored(members: Tensor, fine: Tensor, coarse: Tensor, area: Tensor, factor: Factor) -> dict[str, Any]:
    """Scores of members (B, M, 1, 1, H, W); crops are cases."""
    found = score_arrays(members[:, :, 0, 0].transpose(0, 1).numpy(), fine[:, 0, 0].numpy(), sequence=1)
    kept = {key: found[key] for key in KEEP if key in found}
    means = Coarsen(factor, area.double()[:, None, None, None])(members.double())
    kept["conservation_residual"] = float(
        (means - coarse[:, None].double()).abs().nan_to_num().max() / coarse.nan_to_num().max()
    )
    return kept


def settings(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "minutes": args.minutes, "mean_share": MEAN_SHARE, "seed": args.seed, "members": args.members,
        "threads": torch.get_num_threads(), "processor": processor(), "torch": torch.__version__,
        "split": "train lon < -94, validation -94 to -90, test lon >= -90; fmi and mch: test only",
        "training crops": f"drawn ∝ (mean rain)^{VARIED.favour}, multiplied by exp({VARIED.rescale} N(0, 1)), turned",
        "crops": "at least 95 % known, at least 5 % of cells above 0.1 mm/h, not overlapping within a frame",
    }  # fmt: skip


def picture(
    model: Downscaler,
    test: tuple[Tensor, Tensor, Tensor],
    factor: Factor,
    args: argparse.Namespace,
    system: str,
    name: str,
) -> None:
    """Coarse, bicubic, RainFARM, ensemble mean, members and truth of two of the wettest crops."""
    fine, coarse, area = test
    wettest = torch.argsort(fine.nan_to_num().mean((1, 2, 3, 4)), descending=True)[[0, 4]]
    fine, coarse, area = fine[wettest], coarse[wettest], area[wettest]
    members = model.sample(Inputs(coarse, area=area), Members(range(args.members), seed=args.seed)).fields[:, :, 0, 0]
    farm = baselines.rainfarm(coarse[:, 0, 0].numpy(), factor, members=1, seed=0)[0]
    bicubic = baselines.bicubic(coarse[:, 0, 0].numpy(), factor)[0]
    columns = {
        "coarse": coarse[:, 0, 0],
        "bicubic": bicubic,
        "RainFARM": farm,
        f"mean of {args.members}": members.mean(1),
        **{f"member {n + 1}": members[:, n] for n in range(3)},
        "truth": fine[:, 0, 0],
    }
    rows = [{title: fields[row] for title, fields in columns.items()} for row in range(len(wettest))]
    rain_maps(rows, args.results / "radar.png", columns=4, title=f"{system}, {name}, test region")


def write(results: dict[str, Any], args: argparse.Namespace) -> None:
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "radar.json").write_text(json.dumps(rounded(results), indent=1))
    (args.results / "radar.md").write_text(report(results))


COLUMNS = {
    "CRPS": "{crps:.4f}",
    "/ RainFARM": "{farm:.3f}",
    "/ bicubic": "{bicubic:.3f}",
    "MAE": "{mae:.4f}",
    "spread–skill": "{spread_skill:.2f}",
    "rank departure": "{rank_departure:.3f}",
    "log-spectral distance (dex)": "{log_spectral_distance:.3f}",
    "99.9 % bias": "{p999_bias:+.2f}",
    "CSI at 1 mm/h": "{csi[1]:.3f}",
    "residual": "{conservation_residual:.1e}",
    "minus RainFARM, 95 %": "{low:+.4f} … {high:+.4f}",
}


def report(results: dict[str, Any]) -> str:
    """The tables in Markdown."""
    lines = ["# Radar rain", "", *(f"- {key}: {value}" for key, value in results["settings"].items()), ""]
    for name, found in results["factors"].items():
        for place, test in found.get("tests", {}).items():
            rows = test["baselines"] | test.get("systems", {})
            farm, bicubic = (test["baselines"][system] for system in ("rainfarm", "bicubic"))
            lines += ["", f"## {name}, {place}: {test['crops']} crops of {test['cells']}²", ""]
            lines += [f"| system | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
            for system, row in rows.items():
                _, low, high = paired_bootstrap(row["crps_by_time"], farm["crps_by_time"])
                more = {
                    "farm": row["crps"] / farm["crps"],
                    "bicubic": row["crps"] / bicubic["crps"],
                    "low": low,
                    "high": high,
                }
                lines.append(f"| {system} | {' | '.join(form.format(**row, **more) for form in COLUMNS.values())} |")
        lines += ["", f"### Training at {name}", "", *training_table(found.get("training", {}))]
    return "\n".join([*lines, ""])


def training_table(trainings: dict[str, Any]) -> list[str]:
    lines = [
        "| system | parameters | steps | last validation loss | wall s | processor s |",
        "|---|---|---|---|---|---|",
    ]
    for system, training in trainings.items():
        log = training["log"]
        spent = [row for key, row in log.items() if key.startswith("time of")]
        stages = [key for key in ("mean", "denoiser") if key in log]
        sizes = ", ".join(f"{n / 1e6:.2f} M {part}" for part, n in training["parameters"].items())
        steps, losses = (", ".join(f"{log[stage][key]:g} {stage}" for stage in stages) for key in ("step", "valid"))
        wall, processed = (sum(t[key] for t in spent) for key in ("wall_seconds", "processor_seconds"))
        lines.append(f"| {system} | {sizes} | {steps} | {losses} | {wall:.0f} | {processed:.0f} |")
    return lines


if __name__ == "__main__":
    main()
