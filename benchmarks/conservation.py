"""Strict conservation on seven CNN schemes: photographs, radar and sea-surface temperature.

    python benchmarks/conservation.py DATA --minutes 1

DATA is a folder with images/bsd100, images/set14, mrms_west.nc and sst_tasman_1982_2013.nc. Photographs (luminance, ×4,
block-mean inputs): seven schemes × {none, strict}, three seeds, and with one the soft penalty, the layer of Geiss &
Hardin (`bounded`) and strict throughout; strict is `projection` on [0, 1], through which the last fifth of the training
goes (`train.through`), or all of it (`throughout`, and `bounded`). What was trained with none is scored behind that
layer besides (`afterwards`): the projection can only bring it nearer, so that what training through a layer adds is
told apart.
Radar ×8 and temperature ×4 (land masked): three schemes, one seed, every operator that fits. Every run has the same
minutes of processor time divided by threads; the same seed gives the same first weights and crops with and without the
constraint. The schemes are narrow, so that minutes are enough. `ensemble` puts the members of a trained generative
model of radar ×10 (--model, from radar.py) through each constraint, after sampling or at every step besides. Runs are
kept under --cache, results written as they come: conservation.json, conservation.md and conservation.png (validation
loss against steps).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pictures import luminance
from protocol import WET, processor, rounded, timed_training
from torch import Tensor

from finescale.cli.allocator import keep_memory
from finescale.config.build import build_model
from finescale.config.load import load
from finescale.constraints import Additive, Bounded, Constraint, Multiplicative, Projection, Tapered
from finescale.data.files import open_field
from finescale.data.region import region
from finescale.downscaler import Downscaler
from finescale.grids.coordinates import increasing
from finescale.grids.factor import Factor
from finescale.model.batch import Batch, Inputs, Members
from finescale.operators.coarsen import Coarsen
from finescale.plots.maps import png
from finescale.scores.image import ssim_cells
from finescale.training.crops import Crops
from finescale.training.cutting import Augmentation
from finescale.training.survey import Criteria
from finescale.verify import score_arrays

SCHEMES: dict[str, dict[str, Any]] = {
    "srcnn": {"width": 32},
    "lapsrn": {"width": 32, "convolutions": 4},
    "dense_unet": {"width": 16, "depth": 3},
    "dbpn": {"width": 16, "blocks": 3},
    "dense_sr": {"width": 48, "blocks": 4, "layers": 4},
    "edsr": {"width": 48, "blocks": 6},
    "rdn": {"width": 32, "blocks": 4, "layers": 4, "growth": 16},
}
FEW = ("srcnn", "edsr", "dense_unet")
UNIT = {"low": 0.0, "high": 1.0}
STRICT = {"kind": "projection"} | UNIT
THROUGHOUT = ("bounded", "throughout")
"""Trained through the constraint from the first step on, as in the papers; others in the last fifth."""
RAIN = [{"kind": "log1p", "scale": 0.1}, "standardize"]
OPERATORS: dict[str, dict[str, Any]] = {
    "radar": {
        "none": "none",
        "additive": "additive",
        "multiplicative": "multiplicative",
        "projection": "projection",
        "softmax": "softmax",
        "tapered": {"kind": "tapered", "power": 0.5, "tau": 0.01},
    },
    "sst": {
        "none": "none",
        "additive": "additive",
        "bounded": {"kind": "bounded", "low": -2.0, "high": 35.0},
        "multiplicative": "multiplicative",
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=1.0, help="of one run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", default=["photographs", "radar", "sst", "ensemble"])
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("benchmarks/cache/radar/1x10-seed0-12min/mean+wavelet-2"),
        help="for ensemble",
    )
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/conservation"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    keep_memory()
    file = args.results / "conservation.json"
    settings = {"minutes": args.minutes, "threads": torch.get_num_threads(), "processor": processor()}
    found = json.loads(file.read_text()) if file.is_file() else {}
    results = found if found.get("settings") == rounded(settings) else {"settings": settings, "runs": {}}
    for place in args.sets:
        if place == "ensemble":
            ensemble(results, args)
            write(results, file)
            continue
        crops = test = None
        for label, config, seed in runs(place, args.seeds):
            if label in results["runs"]:
                continue
            if crops is None or test is None:
                crops, test = SETS[place](args.data)
            results["runs"][label] = run(label, config, seed, crops, test, args)
            write(results, file)
            print(label, {k: v for k, v in results["runs"][label].items() if isinstance(v, float)}, flush=True)
    curves(results["runs"], args.results / "conservation.png")


def runs(place: str, seeds: int) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Label, configuration and seed of every run, the seeds outermost."""
    if place != "photographs":
        factor, transform = ("1x8", RAIN) if place == "radar" else ("1x4", ["standardize"])
        for scheme in FEW:
            for name, constraint in OPERATORS[place].items():
                yield f"{place} {scheme} {name} 0", configuration(scheme, factor, transform, constraint), 0
        return
    for seed in range(seeds):
        operators: dict[str, Any] = {"none": "none", "strict": STRICT}
        if seed == 0:
            operators |= {"soft": {"kind": "penalty", "weight": 16.0}, "bounded": {"kind": "bounded"} | UNIT}
            operators |= {"throughout": STRICT}
        for scheme in SCHEMES:
            for name, constraint in operators.items():
                yield f"{place} {scheme} {name} {seed}", configuration(scheme, "1x4", ["standardize"], constraint), seed


def configuration(scheme: str, factor: str, transform: list[Any], constraint: Any) -> dict[str, Any]:
    return {
        "factor": factor,
        "variables": {"field": {"units": ""}},
        "transform": transform,
        "mean": {"kind": "network", "backbone": {"kind": scheme} | SCHEMES[scheme]},
        "latent": "pixel",
        "denoiser": "none",
        "constraint": constraint,
    }


# --- data: crops to train and validate on, and test fields


def photographs(data: Path) -> tuple[tuple[Crops, Crops], list[Batch]]:
    fields = [luminance(path) for path in sorted((data / "images" / "bsd100").iterdir())]
    factor = Factor(1, 4)
    train, valid = (
        Crops([[one] for one in part], factor, (1, 96, 96), Criteria(0.0)) for part in (fields[:90], fields[90:])
    )
    tests = []
    for path in sorted((data / "images" / "set14").iterdir()):
        picture = luminance(path).values
        height, width = (n // 4 * 4 for n in picture.shape[-2:])
        fine = torch.from_numpy(picture[None, :, :height, :width])[None].transpose(1, 2).contiguous()
        tests.append(Batch(Coarsen(factor)(fine), torch.ones(1, height, width), fine=fine))
    return (train, valid), tests


def radar(data: Path) -> tuple[tuple[Crops, Crops], list[Batch]]:
    field, factor = increasing(open_field(data / "mrms_west.nc")), Factor(1, 8)
    train, valid, test = (
        Crops([[region(field, {"lon": side}).load()]], factor, (1, 128, 128), WET)
        for side in ([None, -94], [-94, -90], [-90, None])
    )
    return (train, valid), test.apart(48, seed=1).split(16)


def sst(data: Path) -> tuple[tuple[Crops, Crops], list[Batch]]:
    field, factor = increasing(open_field(data / "sst_tasman_1982_2013.nc")), Factor(1, 4)
    train, valid, test = (
        Crops([[region(field, {"time": side}).load()]], factor, (1, 32, 32), Criteria(0.3), augmentation=still)
        for side, still in (
            ([None, "2009-01-01"], Augmentation(turn=False)),
            (["2009-01-01", "2011-01-01"], None),
            (["2011-01-01", None], None),
        )
    )
    return (train, valid), test.apart(200, seed=1).split(16)


SETS: dict[str, Callable[[Path], tuple[tuple[Crops, Crops], list[Batch]]]] = {
    "photographs": photographs,
    "radar": radar,
    "sst": sst,
}


SPAN = {"photographs": 1.0, "radar": 3.0, "sst": 20.0}
"""Range of the values for PSNR and SSIM: luminance, log10(1 + R/0.1) up to 100 mm/h, degrees."""


# --- runs


def run(
    label: str,
    config: dict[str, Any],
    seed: int,
    crops: tuple[Crops, Crops],
    test: Sequence[Batch],
    args: argparse.Namespace,
) -> dict[str, Any]:
    folder = args.cache / f"{args.minutes:g}min" / label.replace(" ", "-")
    if not (folder / "weights.safetensors").is_file():
        torch.manual_seed(seed)
        through = 1.0 if label.split(" ")[2] in THROUGHOUT else 0.2
        timed_training(
            build_model(config), *crops, args.minutes, folder, seed, batch=8, lr=1e-3, ema=0.99, through=through
        )
    model = load(folder)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    place, _, name, _ = label.split(" ")
    found: dict[str, Any] = dict(scores(model, test, place))
    if place == "photographs":
        del found["rmse"]  # in PSNR already
    if place == "photographs" and name == "none":
        model.constraint = Projection(model.factor, **UNIT)
        found["afterwards"] = scores(model, test, place)
    return found | {
        "parameters": sum(model.parameters_by_part.values()),
        "steps": log[-1]["step"],
        "curve": [[row["step"], row["valid"]] for row in log],
        "time": json.loads((folder / "time.json").read_text()),
    }


def scores(model: Downscaler, test: Sequence[Batch], place: str) -> dict[str, float]:
    """PSNR and SSIM (of log-rain for radar), MAE, RMSE, and the largest violation over the largest coarse value."""
    rows, violation, largest = [], 0.0, 0.0
    for batch in test:
        mask = batch.fine.isfinite()
        operators = Coarsen(model.factor, batch.area[:, None, None].double(), mask)
        made = model.sample(Inputs(batch.coarse, area=batch.area), Members()).fields[:, 0]
        x = made if model.constraint is None else closed(model, batch, mask)
        gap = (operators(x.double()) - batch.coarse.double()).abs().nan_to_num()
        violation, largest = (
            max(violation, float(gap.max())),
            max(largest, float(batch.coarse.nan_to_num().abs().max())),
        )
        for a, b in zip(x[:, 0, 0].numpy(), batch.fine[:, 0, 0].numpy(), strict=True):
            rows.append(picture_scores(a, b, place))
    mean = np.mean(rows, axis=0)
    return dict(zip(("psnr", "ssim", "mae", "rmse"), map(float, mean), strict=True)) | {
        "violation": violation / largest
    }


def closed(model: Downscaler, batch: Batch, mask: Tensor) -> Tensor:
    """The prediction under the constraint that knows which fine cells are valid, as in training."""
    assert model.constraint is not None
    y = model.draw(Inputs(batch.coarse), Members())[:, 0]
    size = batch.fine.shape[-2:]
    operators = Coarsen(model.factor, batch.area[:, None, None], mask)
    return model.constraint(model.physical(y)[..., : size[0], : size[1]], batch.coarse, operators)


def picture_scores(x: np.ndarray, truth: np.ndarray, place: str) -> tuple[float, ...]:
    """PSNR, SSIM, MAE and RMSE of one field, the last two in units."""
    known = np.isfinite(truth) & np.isfinite(x)
    if place == "radar":
        a, b = (np.log10(1 + np.maximum(field, 0) / 0.1) for field in (x, truth))
    else:
        a, b = (np.clip(x, 0, 1), truth) if place == "photographs" else (x, truth)
    fill = float(b[known].mean())
    a, b = (np.where(known, field, fill).astype(np.float64) for field in (a, b))
    mse = float(np.square(a - b)[known].mean())
    similar = float(ssim_cells(a, b, SPAN[place])[known].mean())
    error = (x - truth)[known].astype(np.float64)
    psnr = 10 * np.log10(SPAN[place] ** 2 / max(mse, 1e-20))
    return psnr, similar, float(np.abs(error).mean()), float(np.sqrt(np.square(error).mean()))


# --- constraints on the members of a generative model


def ensemble(results: dict[str, Any], args: argparse.Namespace) -> None:
    """Scores of the same draws under each constraint, and of draws that were constrained at every step."""
    model = load(args.model)
    factor, rows = model.factor, results.setdefault("ensemble", {})
    field = region(increasing(open_field(args.data / "mrms_west.nc")), {"lon": [-90, None]})
    test = Crops([[field.isel(time=slice(None, None, 5)).load()]], factor, (1, 120, 120), WET)
    batch, eight = test.apart(24, seed=1), Members(range(8))
    origins = [(0, i * model.multiple[1] * 64, 0) for i in range(len(batch))]  # other noise for every crop
    given = Inputs(batch.coarse, batch.area, origin=origins)
    scored = (batch.fine, batch.coarse, batch.area, factor)
    kinds: dict[str, Constraint | None] = {
        "none": None,
        "additive": Additive(factor),
        "multiplicative": Multiplicative(factor),
        "bounded, 0 to 200": Bounded(factor, low=0.0, high=200.0),
        "tapered, power 0.8": Tapered(factor, power=0.8),
        "tapered, tau 0.02": Tapered(factor, tau=0.02),
    }
    drawn = model.draw(given, eight)
    for label, model.constraint in kinds.items():
        rows[label] = member_scores(model.finish(drawn, given).fields, *scored)
    model.process = dataclasses.replace(model.process, constrain="steps")
    for label in ("additive", "multiplicative"):
        model.constraint = kinds[label]
        rows[f"{label}, at every step"] = member_scores(model.sample(given, eight).fields, *scored)


def member_scores(members: Tensor, fine: Tensor, coarse: Tensor, area: Tensor, factor: Factor) -> dict[str, float]:
    found = score_arrays(members[:, :, 0, 0].transpose(0, 1).numpy(), fine[:, 0, 0].numpy(), sequence=1)
    means = Coarsen(factor, area.double()[:, None, None, None])(members.double())
    gap = (means - coarse[:, None].double()).abs().nan_to_num().max() / coarse.nan_to_num().max()
    kept = ("crps", "spread_skill", "log_spectral_distance", "p999_bias", "wet_fraction")
    return {key: found[key] for key in kept} | {"violation": float(gap), "least": float(members.nan_to_num().min())}


# --- what is written


def write(results: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rounded(results), indent=1))
    file.with_suffix(".md").write_text(report(results))


def report(results: dict[str, Any]) -> str:
    lines = ["# Strict conservation on seven schemes", "", *(f"- {k}: {v}" for k, v in results["settings"].items())]
    table: dict[str, dict[str, dict[str, list[dict[str, Any]]]]] = {}
    for label, row in results["runs"].items():
        place, scheme, name, _ = label.split(" ")
        names = table.setdefault(place, {}).setdefault(scheme, {})
        names.setdefault(name, []).append(row)
        if "afterwards" in row:
            names.setdefault("none, strict afterwards", []).append(row | row["afterwards"])
    for place, schemes in table.items():
        head = (
            "scheme | constraint | seeds | parameters | steps | PSNR (dB) | minus none | SSIM | MAE | RMSE | violation"
        )
        lines += ["", f"## {place}", "", f"| {head} |", "|---" * 11 + "|"]
        for scheme, names in schemes.items():
            for name, rows in names.items():
                mean = {key: np.mean([row[key] for row in rows]) for key in ("psnr", "ssim", "mae", "steps")}
                free = names.get("none", [])[: len(rows)]
                gains = [row["psnr"] - other["psnr"] for row, other in zip(rows, free, strict=False)]
                gain = " ".join(f"{g:+.3f}" for g in gains) if name != "none" else ""
                worst = max(row["violation"] for row in rows)
                cells = [scheme, name, len(rows), f"{rows[0]['parameters']:,}", f"{mean['steps']:.0f}"]
                cells += [f"{mean['psnr']:.3f}", gain, f"{mean['ssim']:.4f}", f"{mean['mae']:.4g}"]
                cells += [f"{np.mean([row['rmse'] for row in rows]):.4g}" if "rmse" in rows[0] else "", f"{worst:.0e}"]
                lines.append(f"| {' | '.join(map(str, cells))} |")
    if rows := results.get("ensemble"):
        head = (
            "constraint | CRPS | spread–skill | log-spectral distance | 99.9 % bias | wet fraction | least | violation"
        )
        lines += [
            "",
            "## ensemble: radar ×10, wavelet diffusion, 8 members",
            "",
            f"| {head} |",
            "|---" * 8 + "|",
        ]
        form = "{crps:.4f} | {spread_skill:.2f} | {log_spectral_distance:.3f} | {p999_bias:+.2f} | {wet_fraction:.3f}"
        form += " | {least:.2g} | {violation:.0e}"
        lines += [f"| {label} | {form.format(**row)} |" for label, row in rows.items()]
    return "\n".join([*lines, ""])


def curves(rows: dict[str, Any], path: Path) -> None:
    """Validation loss against steps, photographs, a line a seed, over what it ends at without a layer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3), layout="constrained")
    axes = figure.subplots(1, len(SCHEMES))
    for ax, scheme in zip(axes, SCHEMES, strict=True):
        for name, style in (("none", "--"), ("soft", ":"), ("throughout", "-."), ("strict", "-")):
            found = {label: row["curve"] for label, row in rows.items() if f"photographs {scheme} {name} " in label}
            for n, (label, curve) in enumerate(found.items()):
                step, loss = zip(*curve[1:], strict=True)
                free = rows[label.replace(f" {name} ", " none ")]["curve"][-1][1]
                ax.plot(
                    step,
                    [value / free for value in loss],
                    style,
                    color={"none": "C1", "soft": "C2", "throughout": "C3", "strict": "C0"}[name],
                    label=name if n == 0 else None,
                )
        ax.set(title=scheme, xscale="log", xlabel="step")
        ax.xaxis.set_minor_formatter("")
        ax.locator_params(axis="y", nbins=4)
    axes[0].set_ylabel("validation loss / none's at the end")
    axes[0].legend(fontsize=7)
    path.write_bytes(png(figure, limit=200_000))


if __name__ == "__main__":
    main()
