"""Which wavelet diffusion? Pixel, WDM as published, and mean + wavelet: levels, families, variation; real radar rain.

    python benchmarks/wavelets.py DATA --minutes 1.5 --seed 0

DATA is a folder with mrms_west.nc. Systems, each with 4.5 to 5.3 M parameters and the same minutes:

    pixel          plain conditional EDM of the field's cells, no mean network
    WDM-1, WDM-2   preset wavelet-wdm (arXiv 2507.01354): no mean network, 1 or 2 Haar levels, VP-SDE, Euler–Maruyama
                   with --wdm-steps steps, 1e-5 TV
    ours 1, 2, 3   a mean network, then EDM of the residual in 1 to 3 Haar levels
    ours 2, FAMILY the same with db2, db4, sym4 or coif1
    ours 2, tv λ   the same with λ times the variation of the detail bands

All that have a mean network share one, and its minutes count in each. Minutes are of processor time divided by threads.
Crops are 160² everywhere: a multiple of every network's stride and of the factor. Every system is scored as sampled and
with the multiplicative constraint, both after the cut of drizzle below 0.05 mm/h. PSNR, SSIM and CSI are given of the
ensemble mean and of single members (their mean over members; the paper's are of single fields). Besides:

    speckle        share of wet cells (≥ 0.1 mm/h) without a wet neighbour among eight, beside the truth's
    checkerboard   power of log-rain at wavelength 2 cells in y or x (the Nyquist wavenumber), divided by the truth's;
                   at 4 cells likewise

Nothing is trained or scored twice: models lie under --cache, scores in --results/wavelets.json. Writes wavelets.json,
wavelets.md and wavelets.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from protocol import processor, rounded, timed_training
from radar import MEAN, SYSTEMS, TRANSFORM, baseline_members, scored, test_sets, training_crops
from rain_maps import rain_maps
from torch import Tensor

from finescale.cli.allocator import keep_memory
from finescale.config.build import build_model
from finescale.config.load import load
from finescale.config.read import read_config
from finescale.constraints import Multiplicative
from finescale.downscaler import Downscaler
from finescale.grids.factor import Factor
from finescale.model.batch import Inputs, Members
from finescale.scores.events import event_scores
from finescale.scores.image import image_scores
from finescale.training.crops import Crops

CROP = 160
MEAN_SHARE = 0.25
WARMUP = 25
"""Steps: some of these trainings have about a hundred."""
EVENTS = (0.1, 5.0)
WET = 0.1
FAMILIES = ("db2", "db4", "sym4", "coif1")
VARIATION = (1e-5, 1e-3)
SHOWN = ("pixel", "WDM-2", "ours 2")
Test = tuple[Tensor, Tensor, Tensor]


def ours(levels: int, family: str = "haar", tv: float | None = None) -> dict[str, Any]:
    """Mean network and EDM of the residual in a wavelet latent."""
    widths = {1: (48, [1, 2, 4]), 2: (64, [1, 2, 2]), 3: (64, [1, 2, 2])}
    width, multipliers = widths[levels]
    return {
        "latent": {"kind": "wavelet", "levels": levels, "family": family},
        "mean": MEAN,
        "denoiser": {"backbone": {"kind": "unet", "width": width, "multipliers": multipliers}},
        "process": {
            "schedule": {"kind": "edm", "sigma_max": 20, "sigma_min": 0.02},
            "noise": {"mean": -0.4, "std": 1.2},
            "steps": 12,
            "tv": tv,
        },
        "train": {"batch": 8},
    }


def systems(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Their configurations, without what all share."""
    found: dict[str, dict[str, Any]] = {"pixel": SYSTEMS["edm-pixel"]}
    for levels in (1, 2):
        preset = read_config(
            "wavelet-wdm",
            {
                "latent.levels": levels,
                # As many parameters as the others: the preset's network with a wider coarsest level.
                "denoiser.backbone.multipliers": [1, 2, 3],
                "process.steps": args.wdm_steps,
            },
        )
        parts = ("latent", "mean", "denoiser", "process")
        found[f"WDM-{levels}"] = {part: preset[part] for part in parts} | {"train": {"batch": 8}}
    found |= {f"ours {levels}": ours(levels) for levels in (2, 1, 3)}
    found |= {f"ours 2, {family}": ours(2, family) for family in FAMILIES}
    found |= {f"ours 2, tv {tv:g}": ours(2, tv=tv) for tv in VARIATION}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--factor", default="1x10", choices=["1x8", "1x10"])
    parser.add_argument("--systems", nargs="+", help="all unless given")
    parser.add_argument("--minutes", type=float, default=1.5, help="training of all networks of a system together")
    parser.add_argument("--wdm-steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crops", type=int, default=12)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/wavelets"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    known = systems(args)
    if unknown := set(args.systems or ()) - set(known):
        parser.error(f"there is no system {min(unknown)!r}; there are {', '.join(known)}")
    keep_memory()
    bench = Bench(args)
    for name in args.systems or known:
        bench.run(name, known[name])
    bench.picture()
    bench.write()
    print(report(bench.results))


class Bench:
    """All systems at one budget, factor and seed."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.factor = args, Factor.parse(args.factor)
        self.folder = args.cache / f"{args.factor}-seed{args.seed}-{args.minutes:g}min"
        wanted = rounded(self.settings())
        file = args.results / "wavelets.json"
        found = json.loads(file.read_text()) if file.is_file() else {}
        self.results: dict[str, Any] = (
            found if found.get("settings") == wanted else {"settings": wanted, "rows": {}, "training": {}}
        )
        _, self.test = next(iter(test_sets(args, self.factor, CROP)))
        self.patches: tuple[Crops, Crops] | None = None
        fine, coarse, _ = self.test
        self.results["truth"] = rounded({"crops": len(fine), "speckle": isolated(fine[:, 0, 0].numpy())})
        for name, members in baseline_members(coarse, self.factor, args):
            if name in ("nearest", "bicubic", "rainfarm") and name not in self.results["rows"]:
                self.results["rows"][name] = scores(members, self.test, self.factor)

    def settings(self) -> dict[str, Any]:
        args = self.args
        return {
            "factor": args.factor, "minutes": args.minutes, "mean_share": MEAN_SHARE, "seed": args.seed,
            "members": args.members, "test crops": f"{args.crops} of {CROP}²", "wdm_steps": args.wdm_steps,
            "threads": torch.get_num_threads(), "processor": processor(), "torch": torch.__version__,
            "split": "mrms: train lon < -94, validation -94 to -90, test lon >= -90",
        }  # fmt: skip

    def run(self, name: str, config: dict[str, Any]) -> None:
        """Train and score a system, unless both are done."""
        if f"{name}, constraint" in self.results["rows"]:
            return
        model, (_, coarse, area) = self.model(name, config), self.test
        origins = [(0, i * model.multiple[1] * 64, 0) for i in range(len(coarse))]  # other noise for every crop
        y = model.draw(Inputs(coarse, origin=origins), Members(range(self.args.members), seed=self.args.seed))
        nfe = {"nfe": model.process.sampler.nfe(model.process.steps)}
        for label, constraint in ((name, None), (f"{name}, constraint", Multiplicative(self.factor))):
            model.constraint = constraint
            self.results["rows"][label] = (
                scores(model.finish(y, Inputs(coarse, area=area)).fields, self.test, self.factor) | nfe
            )
        self.write()

    def model(self, name: str, config: dict[str, Any]) -> Downscaler:
        """The trained model of a system; trained and saved where it is not there yet."""
        args, folder = self.args, self.folder / name.replace(", ", "-").replace(" ", "-")
        shared: dict[str, Any] = {
            "factor": args.factor,
            "variables": {"precipitation_rate": {"units": "mm h-1"}},
            "data": {"crop": CROP},
            "transform": TRANSFORM,
            "constraint": "none",
        }
        config, has_mean = shared | config, config["mean"] != "none"
        if not (folder / "weights.safetensors").is_file():
            model = self.seeded(config)
            if has_mean:
                model.mean.load_state_dict(self.mean(config).mean.state_dict())
            share = 1 - MEAN_SHARE if has_mean else 1.0
            self.train(model, args.minutes * share, folder, mean_share=0.0)
        found = load(folder, device="cpu")
        parts = {"mean": self.folder / "mean", "denoiser": folder} if has_mean else {"denoiser": folder}
        self.results["training"][name] = {
            "parameters": found.parameters_by_part,
            "log": {part: json.loads((at / "log.jsonl").read_text().splitlines()[-1]) for part, at in parts.items()},
            "time": {part: json.loads((at / "time.json").read_text()) for part, at in parts.items()},
        }
        return found

    def mean(self, config: dict[str, Any]) -> Downscaler:
        """The mean network that systems share."""
        folder = self.folder / "mean"
        if not (folder / "weights.safetensors").is_file():
            process = {key: value for key, value in config["process"].items() if key != "tv"}
            model = self.seeded(config | {"denoiser": "none", "process": process})
            self.train(model, self.args.minutes * MEAN_SHARE, folder, mean_share=1.0)
        return load(folder, device="cpu")

    def seeded(self, config: dict[str, Any]) -> Downscaler:
        torch.manual_seed(self.args.seed)
        return build_model(config)

    def train(self, model: Downscaler, minutes: float, folder: Path, mean_share: float) -> None:
        self.patches = self.patches or training_crops(self.args, self.factor, CROP)
        batch = model.config["train"]["batch"]
        more: dict[str, Any] = {"mean_share": mean_share, "batch": batch, "warmup": WARMUP}
        timed_training(model, *self.patches, minutes, folder, self.args.seed, **more)

    def picture(self) -> None:
        """Truth and a member of three systems, on the wettest crop."""
        fine, coarse, area = self.test
        known = systems(self.args)
        pick = [int(fine.nan_to_num().mean((1, 2, 3, 4)).argmax())]
        panels = {"truth": fine[pick[0], 0, 0]}
        for name in SHOWN:
            if name in self.results["training"]:
                model = self.model(name, known[name])
                panels[f"{name}, one member"] = model.sample(
                    Inputs(coarse[pick], area=area[pick]), Members(range(1), seed=self.args.seed)
                ).fields[0, 0, 0, 0]
        rain_maps([panels], self.args.results / "wavelets.png", limit=200_000)

    def write(self) -> None:
        self.args.results.mkdir(parents=True, exist_ok=True)
        (self.args.results / "wavelets.json").write_text(json.dumps(rounded(self.results), indent=1))
        (self.args.results / "wavelets.md").write_text(report(self.results))


def scores(members: Tensor, test: Test, factor: Factor) -> dict[str, Any]:
    """Scores of members (B, M, 1, 1, H, W) of crops (fine, coarse, area); crops are cases."""
    truth = test[0][:, 0, 0].numpy()
    found = scored(members, *test, factor)
    single = members[:, :, 0, 0].transpose(0, 1).numpy()  # (M, B, H, W)
    pictures = [image_scores(member[None], truth) for member in single]
    mean = single.mean(0, keepdims=True)
    found |= {f"{key}_single": float(np.mean([p[key] for p in pictures])) for key in ("psnr", "ssim")}
    found["csi_mean"] = event_scores(mean, truth, EVENTS)["csi"].tolist()
    found["csi_single"] = event_scores(single, truth, EVENTS)["csi"].tolist()
    found["speckle"] = isolated(single)
    found |= {f"checkerboard {cells}": line_power(single, cells) / line_power(truth, cells) for cells in (2, 4)}
    print({key: round(v, 3) for key, v in found.items() if isinstance(v, float)}, flush=True)
    return dict(rounded(found))


def isolated(fields: NDArray[np.float32]) -> float:
    """Share of wet cells of fields (..., H, W), those at borders left out, that have no wet neighbour among eight."""
    wet = np.nan_to_num(fields) >= WET
    height, width = wet.shape[-2:]
    near = np.zeros((*wet.shape[:-2], height - 2, width - 2), dtype=np.int16)
    for dy in range(3):
        for dx in range(3):
            near += wet[..., dy : height - 2 + dy, dx : width - 2 + dx]
    inner = wet[..., 1:-1, 1:-1]
    return float((inner & (near == 1)).sum() / max(inner.sum(), 1))


def line_power(fields: NDArray[np.float32], cells: int) -> float:
    """Mean power of log10(1 + R/0.1) of fields (..., H, W) at waves of ``cells`` cells in y, or in x.

    The mean is over all waves along the other axis, under a Hann window, without which a front at the border of a field
    would leak into it.
    """
    log_rain = np.log10(1 + np.nan_to_num(fields).clip(0) / 0.1)
    height, width = log_rain.shape[-2:]
    taper = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]
    power = np.abs(np.fft.fft2(log_rain * taper)) ** 2
    return float((power[..., height // cells, :].mean() + power[..., :, width // cells].mean()) / 2)


# --- report

COLUMNS = {
    "nfe": "{nfe}",
    "CRPS": "{crps:.4f}",
    "spread–skill": "{spread_skill:.2f}",
    "log-spectral distance": "{log_spectral_distance:.3f}",
    "PSNR mean": "{psnr:.2f}",
    "single": "{psnr_single:.2f}",
    "SSIM mean": "{ssim:.3f}",
    "single ": "{ssim_single:.3f}",
    "CSI 0.1 mean": "{csi_mean[0]:.3f}",
    "single  ": "{csi_single[0]:.3f}",
    "CSI 5 mean": "{csi_mean[1]:.3f}",
    "single   ": "{csi_single[1]:.3f}",
    "speckle": "{speckle:.2%}",
    "checkerboard 2": "{checkerboard 2:.2f}",
    "4 cells": "{checkerboard 4:.2f}",
    "residual": "{conservation_residual:.0e}",
}


def report(results: dict[str, Any]) -> str:
    """The tables in Markdown."""
    lines = ["# Wavelets", "", *(f"- {key}: {value}" for key, value in results["settings"].items())]
    lines += ["", f"{results['truth']['crops']} test crops; speckle of the truth: {results['truth']['speckle']:.2%}."]
    rows = results["rows"]
    trained = [name for name in results["training"] if name in rows]
    tables = {
        "Baselines": [name for name in rows if name.removesuffix(", constraint") not in results["training"]],
        "As sampled": trained,
        "With the multiplicative constraint": [f"{name}, constraint" for name in trained],
    }
    for title, names in tables.items():
        lines += ["", f"## {title}", "", f"| system | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
        for name in names:
            row = {"nfe": ""} | {key: np.nan if value is None else value for key, value in rows[name].items()}
            shown = name.removesuffix(", constraint")
            lines.append(f"| {shown} | {' | '.join(form.format(**row) for form in COLUMNS.values())} |")
    lines += ["", "## Training", "", "| system | parameters | steps | validation loss | wall s | processor s |"]
    lines += ["|---" * 6 + "|"]
    for name, training in results["training"].items():
        sizes = " + ".join(f"{n / 1e6:.2f} M {part}" for part, n in training["parameters"].items() if n)
        steps = ", ".join(f"{row['step']} {part}" for part, row in training["log"].items())
        losses = ", ".join(f"{row['valid']:.3g}" for row in training["log"].values())
        spent = training["time"].values()
        wall, processed = (round(sum(t[f"{clock}_seconds"] for t in spent)) for clock in ("wall", "processor"))
        lines.append(f"| {name} | {sizes} | {steps} | {losses} | {wall} | {processed} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
