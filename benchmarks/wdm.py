"""Wavelet diffusion as published (preset `wavelet-wdm`): sampling steps, packet or pyramid, the variation penalty.

    python benchmarks/wdm.py DATA

DATA is a folder with mrms_west.nc; radar ×10, crops of 160², as in wavelets.py. Systems, each trained by the command
that wdm.md names, for the same number of optimizer steps, few:

    packet             the preset: WDM-2, both levels split all four bands (16 channels at a quarter of the cells)
    pyramid            the second level splits the low band alone
    packet, tv λ       the preset with λ times the variation of the detail bands; 1e-5 is the preset's

Each is sampled with 1000 and with 50 Euler–Maruyama steps (--sampled), without a constraint. Besides the scores
of wavelets.py, of the fields in the transform's space (standardized log-rain) and over their truth's:

    variance, low      of the means of 4 × 4 cells, which are the low band of two Haar levels
    variance, details  of what is left within 4 × 4 cells

and the variance of members about their mean over that with the most steps. Beside them, without a network: Gaussian
data of variance v and their exact denoiser, z v/(v + σ²), for which the variance after a number of steps is a
recursion. Nothing is trained or sampled twice. Writes wdm.json, wdm.md and wdm.png.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from commands import trained, training_told
from protocol import processor, rounded
from radar import test_sets
from rain_maps import rain_maps
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate
from wavelets import CROP, isolated, scores

from finescale.cli.allocator import keep_memory
from finescale.config.load import load
from finescale.diffusion.schedule import VPSDE
from finescale.downscaler import Downscaler
from finescale.grids.factor import Factor
from finescale.model.batch import Inputs, Members
from finescale.samplers import EulerMaruyama

SYSTEMS: dict[str, dict[str, Any]] = {
    "packet": {},
    "pyramid": {"latent.packet": False},
    "packet, tv 0": {"process.tv": 0},
    "packet, tv 0.001": {"process.tv": 0.001},
}
"""What they set in the preset."""
BLOCK = 4
"""Cells a side of two Haar levels."""
VARIANCES = (1.0, 0.3, 0.1, 0.03, 0.01)
"""Of what is not known of a whitened latent, given the coarse field."""
EXACT = (25, 50, 100, 250, 1000)
"""Sampler steps with an exact denoiser."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=400, help="of each training")
    parser.add_argument("--sampled", type=int, nargs="+", default=[1000, 50], help="sampler steps, the most first")
    parser.add_argument("--crops", type=int, default=3)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", action="store_true", help="train alone; judge in another run")
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/wdm"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    keep_memory()
    folder, file = args.cache / f"seed{args.seed}-{args.steps}", args.results / "wdm.json"
    for name, own in SYSTEMS.items() if args.train else ():
        trained("wavelet-wdm", settings(own, args), folder / name.replace(", ", "-").replace(" ", "-"))
    if args.train:
        return
    wanted = rounded({
        "factor": "1x10", "training steps": args.steps, "seed": args.seed, "members": args.members,
        "sampler steps": args.sampled, "test crops": f"{args.crops} of {CROP}²",
        "processor": processor(), "torch": torch.__version__,
        "split": "mrms: train lon < -94, validation -94 to -90, test lon >= -90",
    })  # fmt: skip
    found = json.loads(file.read_text()) if file.is_file() else {}
    results = found if found.get("settings") == wanted else {"settings": wanted, "training": {}, "rows": {}}
    factor = Factor.parse("1x10")
    _, test = next(iter(test_sets(args, factor, CROP)))
    results["truth"] = rounded({"crops": len(test[0]), "speckle": isolated(test[0][:, 0, 0].numpy())})
    results["exact"] = {f"{v:g}": {str(n): inflation(n, v) for n in EXACT} for v in VARIANCES}
    for name, own in SYSTEMS.items():
        at = folder / name.replace(", ", "-").replace(" ", "-")
        model = load(trained("wavelet-wdm", settings(own, args), at), device="cpu")
        results["training"][name] = training_told(at) | {"parameters": model.parameters_by_part}
        judge(name, model, test, results, args, at)
        write(results, file)
    picture(test, folder, args)
    print(report(results))


def settings(own: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """All that is not the preset's."""
    return {
        "data.path": str(args.data / "mrms_west.nc"),
        "data.train": {"lon": [None, -94]},
        "data.valid": {"lon": [-94, -90]},
        "train.steps": args.steps,
        "train.warmup": 25,
        "train.seed": args.seed,
    } | own


def judge(
    name: str,
    model: Downscaler,
    test: tuple[Tensor, Tensor, Tensor],
    results: dict[str, Any],
    args: argparse.Namespace,
    folder: Path,
) -> None:
    """Rows of a system, one for each number of steps; its members stay beside the model for the picture."""
    fine, coarse, area = test
    origins = [(0, i * model.multiple[1] * 64, 0) for i in range(len(coarse))]  # other noise for every crop
    given = Inputs(coarse, area=area, origin=origins)
    truth = parts(model.transform(fine)[:, None])
    for steps in args.sampled:
        label = f"{name}, {steps} steps"
        if label in results["rows"]:
            continue
        y = model.draw(given, Members(range(args.members), args.seed, steps))[..., :CROP, :CROP]
        spread = y.var(1)[fine.isfinite()].mean()
        members = model.finish(y, given).fields
        made = parts(torch.where(fine.isfinite()[:, None], y, torch.nan))
        results["rows"][label] = scores(members, test, model.factor) | rounded(
            {f"variance, {part}": float(made[part] / truth[part]) for part in made} | {"spread": float(spread)}
        )
        torch.save(members[:, :1], folder / f"members-{steps}.pt")
        write(results, args.results / "wdm.json")


def parts(y: Tensor) -> dict[str, Tensor]:
    """Variance of the block means of fields (B, M, C, T, H, W), and within blocks; known blocks alone."""
    fields = y.flatten(0, -3)[:, None]
    low = avg_pool2d(fields, BLOCK)
    rest = fields - interpolate(low, scale_factor=BLOCK, mode="nearest")
    return {"low": low[low.isfinite()].var(), "details": rest[rest.isfinite()].square().mean()}


def inflation(steps: int, variance: float) -> float:
    """Variance after Euler–Maruyama steps with the exact denoiser of Gaussian data, over that of the data."""
    step, sigmas = EulerMaruyama().step, VPSDE().sigmas(steps)
    one, none = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    found = sigmas[0].square()
    for sigma, after in pairwise(sigmas[:-1]):
        # The step is linear: what it makes of z = 1 without noise, and of noise alone.
        kept = step(one, variance / (variance + sigma.square()), sigma, after, none)
        found = kept.square() * found + step(none, none, sigma, after, one).square()
    return float((variance / (variance + sigmas[-2].square())).square() * found / variance)


# --- what is written


def write(results: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rounded(results), indent=1))
    file.with_suffix(".md").write_text(report(results))


COLUMNS = {
    "variance, low / truth": "{variance, low:.3f}",
    "details / truth": "{variance, details:.3f}",
    "CRPS": "{crops_crps:.4f}",
    "spread–skill": "{spread_skill:.2f}",
    "log-spectral distance": "{log_spectral_distance:.3f}",
    "CSI 5 single": "{csi_five:.3f}",
    "speckle": "{speckle:.2%}",
    "checkerboard 2": "{checkerboard 2:.2f}",
    "4 cells": "{checkerboard 4:.2f}",
}


def report(results: dict[str, Any]) -> str:
    """The tables in Markdown."""
    lines = [
        "# Wavelet diffusion as published",
        "",
        *(f"- {key}: {value}" for key, value in results["settings"].items()),
    ]
    lines += ["", f"Speckle of the truth: {results['truth']['speckle']:.2%}. No constraint.", ""]
    most = results["settings"]["sampler steps"][0]
    lines += [f"| system, sampler steps | spread / that of {most} | {' | '.join(COLUMNS)} |"]
    lines += ["|---" * (len(COLUMNS) + 2) + "|"]
    rows = results["rows"]
    for label, row in rows.items():
        first = rows.get(f"{label.rpartition(', ')[0]}, {most} steps", {"spread": np.nan})["spread"]  # not there yet
        shown = row | {"crops_crps": row["crps"], "csi_five": row["csi_single"][1]}
        cells = [form.format(**shown) for form in COLUMNS.values()]
        lines.append(f"| {label} | {row['spread'] / first:.3f} | {' | '.join(cells)} |")
    lines += ["", "Variance with the exact denoiser of Gaussian data, over that of the data:", ""]
    lines += [f"| variance of the data | {' | '.join(f'{n} steps' for n in EXACT)} |", "|---" * (len(EXACT) + 1) + "|"]
    for variance, row in results["exact"].items():
        lines.append(f"| {variance} | {' | '.join(f'{row[str(n)]:.3f}' for n in EXACT)} |")
    head = "system | parameters | steps | validation loss | training s (processor) | threads"
    lines += ["", f"| {head} |", "|---" * 6 + "|"]
    for name, told in results["training"].items():
        size, loss = told["parameters"]["denoiser"] / 1e6, told["valid"]["denoiser"]
        spent = f"{told['training_processor_seconds']:.0f} | {told['threads']}"
        lines.append(f"| {name} | {size:.2f} M | {told['steps']['denoiser']} | {loss:.3g} | {spent} |")
    lines += ["", "Trained by (the file's name stands for its path):", ""]
    lines += [f"- {name}: `{told['command']}`" for name, told in results["training"].items()]
    return "\n".join([*lines, ""])


def picture(test: tuple[Tensor, Tensor, Tensor], folder: Path, args: argparse.Namespace) -> None:
    """Truth and a member of the preset and of the pyramid with 50 and 1000 steps, on the wettest crop."""
    pick = int(test[0].nan_to_num().mean((1, 2, 3, 4)).argmax())
    panels = {"truth": test[0][pick, 0, 0]}
    for name in ("packet", "pyramid"):
        for steps in reversed(args.sampled):
            panels[f"{name}, {steps} steps"] = torch.load(folder / name / f"members-{steps}.pt")[pick, 0, 0, 0]
    rain_maps([panels], args.results / "wdm.png", limit=200_000)


if __name__ == "__main__":
    main()
