"""Geiss & Hardin as they are: the signed scaled-additive layer in training from the first step, behind a tanh.

    python benchmarks/geiss_hardin.py DATA --schemes srcnn edsr --seeds 3

DATA is a folder with images/bsd100 and images/set14: photographs ×4 (luminance in [0, 1], block-mean inputs), trained
on BSD100 and tested on the whole pictures of Set14. What is theirs (AIES 2(1), 2023) and not our default: data in
[−1, 1] (transform `bounds`), a network whose tanh is the field, without an interpolation added (`mean.skip: false`),
the layer `bounded` in every step (`train.through: 1`). Beside it the same network without the layer, with the same
first weights, crops and steps. The schemes are those of conservation.py, narrow.

Each run is one command, which stands in geiss_hardin.md. Its budget is optimizer steps: as many as the run without the
layer does in 15 minutes of one thread on a quiet machine, measured once (`STEPS`), so that nothing that runs at the
same time changes a result. A run that is stopped goes on where it was; results are written as runs end:
geiss_hardin.json, geiss_hardin.md and geiss_hardin.png (validation loss against steps).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import torch
from commands import trained, training_told
from conservation import SCHEMES, photographs, scores
from matplotlib import rc_context
from protocol import processor, rounded

from finescale.cli.allocator import keep_memory
from finescale.config.load import load
from finescale.constraints import Bounded
from finescale.plots.maps import STYLE, png

STEPS = {"srcnn": 25_000, "edsr": 16_000}
LAYERS: dict[str, dict[str, Any]] = {
    "none": {"constraint": "none"},
    "layer": {"constraint": {"kind": "bounded", "low": 0, "high": 1}, "train.through": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--schemes", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the steps, to try the script")
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/geiss_hardin"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    keep_memory()
    file = args.results / "geiss_hardin.json"
    wanted = rounded({"share of the steps": args.share, "processor": processor(), "torch": torch.__version__})
    found = json.loads(file.read_text()) if file.is_file() else {}
    results = found if found.get("settings") == wanted else {"settings": wanted, "runs": {}}
    path, (_, test) = pictures.photographs(args.data, args.cache), photographs(args.data)
    for seed in range(args.seeds):
        for scheme in args.schemes:
            for layer in LAYERS:
                label = f"{scheme} {layer} {seed}"
                if label in results["runs"]:
                    continue
                folder = args.cache / f"{args.share:g}" / label.replace(" ", "-")
                model = load(trained("conservative-cnn", settings(scheme, layer, seed, path, args), folder))
                row: dict[str, Any] = dict(scores(model, test, "photographs"))
                if layer == "none":
                    model.constraint = Bounded(model.factor, low=0.0, high=1.0)
                    row["afterwards"] = scores(model, test, "photographs")
                log = [json.loads(line) for line in (folder / "model" / "log.jsonl").read_text().splitlines()]
                row |= {"parameters": sum(model.parameters_by_part.values())} | training_told(folder)
                results["runs"][label] = row | {"curve": [[line["step"], line["valid"]] for line in log]}
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(rounded(results), indent=1))
                file.with_suffix(".md").write_text(report(results))
                curves(results["runs"], file.with_suffix(".png"))
                print(label, {k: v for k, v in row.items() if isinstance(v, float)}, flush=True)


def settings(scheme: str, layer: str, seed: int, path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All that is not the preset's."""
    return {
        "data.path": str(path),
        "data.crop": 96,
        "data.min_valid": 1.0,
        "data.train": {"time": [None, 90]},
        "data.valid": {"time": [90, 100]},
        "transform": [{"kind": "bounds", "low": 0, "high": 1}],
        "mean.skip": False,
        "mean.backbone": {"kind": scheme, "activation": "tanh"} | SCHEMES[scheme],
        **LAYERS[layer],
        "train.steps": max(2, round(args.share * STEPS[scheme])),
        "train.batch": 8,
        "train.lr": 0.001,
        "train.ema": 0.99,
        "train.seed": seed,
    }


def report(results: dict[str, Any]) -> str:
    lines = ["# Geiss & Hardin as they are", "", *(f"- {key}: {value}" for key, value in results["settings"].items())]
    lines += [
        "",
        "Photographs ×4, Set14; a row a seed. *Afterwards*: the layer put behind the network trained without it.",
    ]
    head = "scheme | seed | steps | parameters | PSNR without (dB) | with the layer | gain | gain afterwards"
    head += " | SSIM without → with | MAE without → with | violation without, with | training s (processor), threads"
    lines += ["", f"| {head} |", "|---" * 12 + "|"]
    runs = results["runs"]
    for label, with_layer in runs.items():
        scheme, layer, seed = label.split(" ")
        free = runs.get(f"{scheme} none {seed}")
        if layer == "none" or free is None:
            continue
        cells = [scheme, seed, with_layer["steps"]["mean"], f"{free['parameters']:,}", f"{free['psnr']:.3f}"]
        cells += [f"{with_layer['psnr']:.3f}", f"{with_layer['psnr'] - free['psnr']:+.3f}"]
        cells += [f"{free['afterwards']['psnr'] - free['psnr']:+.3f}"]
        cells += [f"{free['ssim']:.4f} → {with_layer['ssim']:.4f}", f"{free['mae']:.5f} → {with_layer['mae']:.5f}"]
        cells += [f"{free['violation']:.0e}, {with_layer['violation']:.0e}"]
        spent = [f"{run['training_processor_seconds']:.0f}" for run in (free, with_layer)]
        cells += [f"{' and '.join(spent)}, {free['threads']}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    alone = [label for label in runs if f"{label.split(' ')[0]} layer {label.split(' ')[2]}" not in runs]
    lines += ["", *(f"{label}: PSNR {runs[label]['psnr']:.3f}; its pair is not there yet." for label in alone)]
    lines += ["", "Trained by (the file's name stands for its path):", ""]
    lines += [f"- {label}: `{run['command']}`" for label, run in runs.items()]
    return "\n".join([*lines, ""])


LAYERS = {"none": "without", "layer": "with the layer"}
"""What a picture calls them."""


@rc_context(STYLE)
def curves(runs: dict[str, Any], path: Path) -> None:
    """Validation loss against steps, a line a seed, over what it ends at without the layer."""
    from matplotlib.figure import Figure

    schemes = list(dict.fromkeys(label.split(" ")[0] for label in runs))
    figure = Figure(figsize=(4.5 * len(schemes), 3.2), layout="constrained")
    for ax, scheme in zip(figure.subplots(1, len(schemes), squeeze=False)[0], schemes, strict=True):
        for label, run in runs.items():
            of, layer, seed = label.split(" ")
            free = runs.get(f"{scheme} none {seed}")
            if of != scheme or free is None:
                continue
            step, loss = np.transpose(run["curve"][1:])
            colour = {"none": "C1", "layer": "C0"}[layer]
            ax.plot(step, loss / free["curve"][-1][1], color=colour, label=LAYERS[layer] if seed == "0" else None)
        ax.set(title=scheme.upper(), xlabel="step", xscale="log")
        ax.xaxis.set_minor_formatter("")
        ax.legend()
    figure.axes[0].set_ylabel("validation loss / the last without")
    path.write_bytes(png(figure, limit=150_000))


if __name__ == "__main__":
    main()
