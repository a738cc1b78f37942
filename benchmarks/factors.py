"""Space–time factors on real radar: one model a factor, one model for all, with and without context in time.

    python benchmarks/factors.py DATA --minutes 2.5 --seed 0

DATA is a folder with mrms_west.nc (2 min) and fmi_20160928.nc, mch_20170131.nc, mch_20150515.nc (5 min). Systems:

    factor         trained for the pair alone, on windows of 12 fine frames
    many           ONE model for 1-6 in time x 1-25 in space, all pairs in training
    many, without  the same, the tested pairs left out of its training
    frames apart   as factor, but no transform along time in the latent, 3x10
    single frame   as factor, but each coarse frame on its own, 3x10
    folds          as factor, residuals from mean networks that have not seen their fold, 3x10
    joint          as factor, mean and denoiser trained together, 3x10
    persistent     as frames apart, with noise that persists along time as the latent does, and networks that convolve
                   along time, 3x10
    long           as persistent, but --long times as much training, 3x10
    single, long   as long, but each coarse frame on its own, 3x10

Budgets are equal but for `many`, which gets --many times as much, and the long ones. Minutes are of processor time
divided by threads.
Nothing is trained or scored twice: models lie under --cache, scores in --results/factors.json. Writes factors.json and
factors.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from protocol import VARIED, WET, processor, rounded, timed_training
from torch import Tensor

from finescale.cli.allocator import keep_memory
from finescale.config.build import build_model
from finescale.config.load import load
from finescale.config.recipe import recipe
from finescale.constraints import Additive, Multiplicative, Tapered
from finescale.data.files import open_field
from finescale.data.region import region
from finescale.data.units import convert_units
from finescale.downscaler import Downscaler
from finescale.grids.coordinates import increasing
from finescale.grids.factor import Factor, Factors
from finescale.model.batch import Inputs, Members
from finescale.model.sizes import coarse_frames
from finescale.operators.coarsen import Coarsen
from finescale.plots.maps import STYLE, png
from finescale.training.crops import Crops
from finescale.verify import baselines, score_arrays

PAIRS = ("3x10", "6x25", "1x10", "2x5", "1x4", "3x1")
HORIZON = 12
SETS = {
    "mrms": {
        "train": [("mrms_west.nc", {"lon": [None, -94]})],
        "valid": [("mrms_west.nc", {"lon": [-94, -90]})],
        "test": [("mrms_west.nc", {"lon": [-90, None]})],
    },
    "5 min": {
        "train": [("fmi_20160928.nc", None), ("mch_20170131.nc", None)],
        "valid": [("mch_20170131.nc", None)],
        "test": [("mch_20150515.nc", None)],
    },
}
TEMPORAL = ("autocorrelation", "border_ratio")
KEEP = (
    *TEMPORAL,
    "crps",
    "mae",
    "spread_skill",
    "log_spectral_distance",
    "p999_bias",
    "rank_departure",
    "wet_fraction",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=2.5, help="training of all networks of one model together")
    parser.add_argument(
        "--many", type=float, default=1.3, help="budget of a many-factor model, in that of a single one"
    )
    parser.add_argument("--long", type=float, default=4.0, help="budget of the long runs, likewise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crops", type=int, default=24)
    parser.add_argument("--members", type=int, default=6)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/factors"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    keep_memory()
    Bench(args).run()


class Bench:
    """All runs of one budget and seed."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.folder = args.cache / f"seed{args.seed}-{args.minutes:g}min"
        self.file = args.results / "factors.json"
        found = json.loads(self.file.read_text()) if self.file.is_file() else {}
        settings = rounded(self.settings())
        self.results = (
            found if found.get("settings") == settings else {"settings": settings, "scores": {}, "training": {}}
        )
        self.fields: dict[str, Any] = {}
        self.tests: dict[str, tuple[Tensor, Tensor]] = {}

    def settings(self) -> dict[str, Any]:
        args = self.args
        return {
            "minutes": args.minutes, "many": args.many, "seed": args.seed, "members": args.members, "steps": args.steps,
            "crops": args.crops, "threads": torch.get_num_threads(), "processor": processor(),
            "horizon": f"{HORIZON} fine frames",
            "split": "mrms (2 min): train lon < -94, validation -94 to -90, test lon >= -90; "
            "5 min: train fmi_20160928 and mch_20170131, test mch_20150515",
            "test": "sequences of 24 fine frames, 100² cells, at least 95 % known, at least 5 % above 0.1 mm/h",
        }  # fmt: skip

    def run(self) -> None:
        for pair in PAIRS:
            self.baselines("mrms", pair)
            self.judge("mrms", pair, "factor", self.model("factor", pair))
        self.tapers("6x25")
        for system in ("frames apart", "single frame"):
            self.judge("mrms", "3x10", system, self.model(system, "3x10"))
        for system in ("many", "many, without"):
            model = self.model(system)
            for pair in PAIRS:
                self.judge("mrms", pair, system, model.at(Factor.parse(pair)))
        self.judge("mrms", "3x10", "folds", self.model("folds", "3x10"))
        for system in ("persistent", "long", "single, long"):
            self.judge("mrms", "3x10", system, self.model(system, "3x10"))
        self.baselines("5 min", "3x10")
        self.judge("5 min", "3x10", "factor", self.model("factor", "3x10", place="5 min"))
        self.judge("mrms", "3x10", "joint", self.model("joint", "3x10"))
        for pair in ("3x10", "6x25"):
            self.amplitudes(pair)
        curves(self.results["noise"], self.args.results / "factors_noise.png")

    # --- training

    def model(self, system: str, pair: str | None = None, place: str = "mrms") -> Downscaler:
        """The trained model of a system; trained and saved where it is not there yet."""
        args, name = self.args, "-".join(filter(None, (system.replace(", ", "-"), pair, place))).replace(" ", "-")
        folder = self.folder / name
        if not (folder / "weights.safetensors").is_file():
            config = configuration(system, pair)
            torch.manual_seed(args.seed)
            model = build_model(config)
            minutes = args.minutes * (args.many if pair is None else args.long if "long" in system else 1)
            more: dict[str, Any] = {"folds": 2} if system == "folds" else {"joint": True} if system == "joint" else {}
            more |= {"mean_share": 0.25, "batch": config["train"]["batch"]}
            timed_training(model, *self.crops(config, place), minutes, folder, args.seed, **more)
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        model = load(folder)
        self.results["training"][name] = {
            "parameters": model.parameters_by_part,
            "stages": {row["stage"]: row for row in rows},
            "time": json.loads((folder / "time.json").read_text()),
        }
        return model

    def crops(self, config: dict[str, Any], place: str) -> tuple[Crops, Crops]:
        factors, data = Factors.parse(config["factor"]), config["data"]

        def frames(factor: Factor) -> int:
            return coarse_frames(factor, data.get("frames"), data.get("horizon"))

        times = range(factors.time[0], factors.time[1] + 1)
        crop = (max(frames(Factor(t)) * t for t in times), data["crop"], data["crop"])
        train = Crops(self.open(place, "train"), factors, crop, WET, augmentation=VARIED, frames=frames)
        valid = Crops(self.open(place, "valid"), factors, crop, WET, frames=frames)
        return train, valid

    def open(self, place: str, part: str) -> list[Any]:
        key = f"{place} {part}"
        if key not in self.fields:
            self.fields[key] = [
                [region(increasing(convert_units(open_field(self.args.data / file), "mm h-1")), ranges).load()]
                for file, ranges in SETS[place][part]
            ]
        return self.fields[key]

    # --- scores

    def test(self, place: str) -> tuple[Tensor, Tensor]:
        """Fine sequences (B, 1, 24, 200, 200) and their cell areas."""
        if place not in self.tests:
            self.tests[place] = self.sequences(place, "test", 100, self.args.crops)
        return self.tests[place]

    def sequences(self, place: str, part: str, size: int, count: int) -> tuple[Tensor, Tensor]:
        """Fine sequences (B, 1, 24, size, size) of a part of the data, and their cell areas."""
        batch = Crops(self.open(place, part), Factor(), (24, size, size), WET).apart(count, seed=1)
        assert batch.area is not None
        return batch.fine, batch.area

    def coarse(self, place: str, pair: str) -> Tensor:
        fine, area = self.test(place)
        return Coarsen(Factor.parse(pair), area[:, None, None], fine.isfinite())(fine)

    def baselines(self, place: str, pair: str) -> None:
        rows = self.results["scores"].setdefault(f"{place} {pair}", {})
        if "truth" in rows:
            return
        coarse, factor = self.coarse(place, pair), Factor.parse(pair)
        members = self.args.members
        systems = {
            "bicubic, linear in time": lambda c, n: baselines.bicubic(c, factor),
            "RainFARM in space": lambda c, n: baselines.rainfarm(c, factor, members=members, seed=self.args.seed + n),
        }
        for system, function in systems.items():
            if system == "RainFARM in space" and factor.y == 1:
                continue
            out = [function(c[0].numpy(), n) for n, c in enumerate(coarse)]
            self.score(place, pair, system, torch.as_tensor(np.stack(out), dtype=torch.float32)[:, :, None])
        self.write()

    def judge(self, place: str, pair: str, system: str, model: Downscaler) -> None:
        if system in self.results["scores"].setdefault(f"{place} {pair}", {}):
            return
        started = time.perf_counter()
        out = self.members(model, place, pair)
        seconds = time.perf_counter() - started
        self.score(place, pair, system, out)
        megapixels = out.numel() / 1e6
        self.results["scores"][f"{place} {pair}"][system] |= {
            "seconds": seconds,
            "megapixels_a_second": megapixels / seconds,
        }
        self.write()

    def members(self, model: Downscaler, place: str, pair: str) -> Tensor:
        """(B, M, 1, T, H, W), one crop after the other: memory stays that of one."""
        coarse, (_, area) = self.coarse(place, pair), self.test(place)
        out = []
        for n, (c, a) in enumerate(zip(coarse, area, strict=True)):
            origin = (0, n * 32 * model.multiple[1], 0)  # other noise for every crop
            out.append(model.sample(Inputs(c[None], a, origin=origin), self.drawn).fields)
        return torch.cat(out)

    @property
    def drawn(self) -> Members:
        """Which members are scored."""
        return Members(range(self.args.members), self.args.seed, self.args.steps)

    def tapers(self, pair: str) -> None:
        """The same samples under several constraints, and constraints at every step of sampling."""
        factor, place, knobs = Factor.parse(pair), "mrms", recipe(pair, "2min")
        if "additive, at every step" in self.results["scores"][f"{place} {pair}"]:
            return
        runs = {
            "without": None,
            f"tapered, tau {knobs.tau:g}": Tapered(factor, power=knobs.power, tau=knobs.tau),
            "tapered, power 0.5, tau 0.01": Tapered(factor, power=0.5, tau=0.01),
            f"tapered by frame, tau {knobs.tau:g}": Tapered(factor, power=knobs.power, tau=knobs.tau, scope="frame"),
        }
        model, (_, area), coarse = self.model("factor", pair), self.test(place), self.coarse(place, pair)
        given = [
            Inputs(c[None], a, origin=(0, n * 32 * model.multiple[1], 0))
            for n, (c, a) in enumerate(zip(coarse, area, strict=True))
        ]
        drawn = [model.draw(one, self.drawn) for one in given]
        for label, constraint in runs.items():
            model.constraint = constraint
            finished = [model.finish(y, one).fields for y, one in zip(drawn, given, strict=True)]
            self.score(place, pair, label, torch.cat(finished))
            self.write()
        model.process = dataclasses.replace(model.process, constrain="steps")
        for label, each in (("multiplicative", Multiplicative(factor)), ("additive", Additive(factor))):
            model.constraint = each
            self.score(place, pair, f"{label}, at every step", self.members(model, place, pair))
            self.write()

    def amplitudes(self, pair: str) -> None:
        """CRPS and spread–skill against the noise at which sampling starts, on validation data."""
        curve = self.results.setdefault("noise", {}).setdefault(pair, {})
        model, (fine, area) = self.model("factor", pair), self.sequences("mrms", "valid", 100, 6)
        coarse = Coarsen(Factor.parse(pair), area[:, None, None], fine.isfinite())(fine)
        for sigma_max in (2, 5, 10, 20, 40, 80):
            if str(sigma_max) in curve:
                continue
            model.process.schedule.sigma_max = sigma_max
            members = torch.cat(
                [
                    model.sample(
                        Inputs(c[None], area=a),
                        Members(range(self.args.members), seed=self.args.seed, steps=self.args.steps),
                    ).fields
                    for c, a in zip(coarse, area, strict=True)
                ]
            )
            cases, truth = members[:, :, 0].transpose(0, 1).flatten(1, 2).numpy(), fine[:, 0].flatten(0, 1).numpy()
            found = score_arrays(cases, truth, sequence=fine.shape[2])
            curve[str(sigma_max)] = {key: found[key] for key in ("crps", "spread_skill", "log_spectral_distance")}
            self.write()

    def score(self, place: str, pair: str, system: str, members: Tensor) -> None:
        """Scores of members (B, M, 1, T, H, W); every frame of every crop is a case."""
        fine, area = self.test(place)
        factor = Factor.parse(pair)
        cases = members[:, :, 0].transpose(0, 1).flatten(1, 2).numpy()
        truth, frames = fine[:, 0].flatten(0, 1).numpy(), fine.shape[2]
        found = score_arrays(cases, truth, factor=factor, sequence=frames)
        row = {key: found[key] for key in KEEP if key in found}
        rows = self.results["scores"].setdefault(f"{place} {pair}", {})
        rows["truth"] = {key: found.get(f"{key}_truth") for key in TEMPORAL}
        means = Coarsen(factor, area.double()[:, None, None, None], fine.isfinite()[:, None])(members.double())
        coarse = self.coarse(place, pair)[:, None]
        row["conservation_residual"] = float((means - coarse).abs().nan_to_num().max() / coarse.nan_to_num().max())
        row["crps_by_crop"] = [
            float(np.mean(part)) for part in np.split(np.asarray(found["crps_by_time"]), len(fine))
        ]  # fmt: skip
        row["spread"] = float(members[:, :, 0].std(1).nanmean()) if members.shape[1] > 1 else 0.0
        self.results["scores"].setdefault(f"{place} {pair}", {})[system] = row
        print(place, pair, system, {k: round(v, 4) for k, v in row.items() if isinstance(v, float)}, flush=True)

    def write(self) -> None:
        self.args.results.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(rounded(self.results), indent=1))
        self.file.with_suffix(".md").write_text(report(self.results))


def configuration(system: str, pair: str | None) -> dict[str, Any]:
    """Widths, batch and windows are the same everywhere; noise and context come from the recipe."""
    data: dict[str, Any] = {"crop": 128, "horizon": HORIZON}
    if system in ("single frame", "single, long"):
        data = {"crop": 120, "frames": 1}
    elif pair is not None:
        factor = Factor.parse(pair)
        data = {"crop": 128 // factor.y * factor.y, "horizon": HORIZON}
    factor_spec: Any = pair
    if pair is None:
        factor_spec = {"time": [1, 6], "space": [1, 25]}
        if system == "many, without":
            factor_spec["without"] = list(PAIRS)
    largest = Factor.parse(pair or "6x25")
    together = 1 if pair is None or system in ("frames apart", "persistent", "long", "single, long") else largest.time
    noise = 2 * recipe(largest, "2min", stride=(together, 4, 4)).sigma_max
    # A latent of several frames has as many times the channels, and fewer positions.
    width = {1: 32, 2: 40, 3: 48, 6: 56}[together]
    network: dict[str, Any] = {"kind": "unet", "multipliers": [1, 2, 2]}
    network |= {"convolution": True} if system in ("persistent", "long", "single, long") else {}
    return {
        "factor": factor_spec,
        "variables": {"precipitation_rate": {"units": "mm h-1"}},
        "data": data,
        "transform": [{"kind": "log1p", "scale": 0.1, "threshold": 0.05}, "standardize"],
        "mean": {"kind": "network", "fold": 4, "backbone": network | {"width": 32}},
        "latent": {"kind": "wavelet", "levels": 2, "frames": together},
        "denoiser": {"backbone": network | {"width": width}},
        "process": {
            "schedule": {"kind": "edm", "sigma_max": noise, "sigma_min": 0.02},
            "noise": {"mean": -0.4, "std": 1.2},
            "steps": 8,
        }
        | ({"persistent": True} if system in ("persistent", "long", "single, long") else {}),
        "constraint": "multiplicative",
        "train": {"batch": 12 if data.get("frames") == 1 else 3},
    }  # fmt: skip


@rc_context(STYLE)
def curves(noise: dict[str, Any], path: Path) -> None:
    """CRPS, relative to its least, and spread–skill against sigma_max."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for pair, curve in noise.items():
        sigma = [float(n) for n in curve]
        crps = np.array([row["crps"] for row in curve.values()])
        left.plot(sigma, crps / crps.min(), marker="o", label=pair)
        right.plot(sigma, [row["spread_skill"] for row in curve.values()], marker="o", label=pair)
    left.set(xscale="log", xlabel="sigma_max", ylabel="CRPS / least CRPS", ylim=(0.99, 1.3))
    right.set(xscale="log", xlabel="sigma_max", ylabel="spread–skill ratio")
    right.axhline(1, color="0.6", linewidth=1)
    for ax in (left, right):
        ax.set_xticks(sigma, [f"{n:g}" for n in sigma])
        ax.minorticks_off()
    left.legend(title="factor")
    path.write_bytes(png(figure, limit=100_000))


COLUMNS = {
    "CRPS": "{crps:.4f}",
    "/ bicubic": "{over_bicubic:.3f}",
    "spread–skill": "{spread_skill:.2f}",
    "spread": "{spread:.3f}",
    "log-spectral distance": "{log_spectral_distance:.3f}",
    "99.9 % bias": "{p999_bias:+.2f}",
    "lag-1 autocorrelation": "{autocorrelation:.3f}",
    "border ratio": "{border_ratio:.3f}",
    "residual": "{conservation_residual:.0e}",
}


def report(results: dict[str, Any]) -> str:
    lines = ["# Factors in time and space", "", *(f"- {key}: {value}" for key, value in results["settings"].items())]
    for name, rows in results["scores"].items():
        lines += ["", f"## {name}", "", f"| system | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
        bicubic = rows.get("bicubic, linear in time", {}).get("crps", float("nan"))
        for system, row in rows.items():
            if system == "truth":
                own = {"lag-1 autocorrelation": row["autocorrelation"], "border ratio": row["border_ratio"]}
                shown = [f"{own[key]:.3f}" if own.get(key) is not None else "" for key in COLUMNS]
                lines.append(f"| truth | {' | '.join(shown)} |")
                continue
            values = {"border_ratio": float("nan")} | row | {"over_bicubic": row["crps"] / bicubic}
            lines.append(f"| {system} | {' | '.join(form.format(**values) for form in COLUMNS.values())} |")
    lines += [
        "",
        "## Training",
        "",
        "| model | parameters | steps | validation loss | wall s | processor s |",
        "|---" * 6 + "|",
    ]
    for name, training in results["training"].items():
        sizes = " + ".join(f"{n / 1e6:.2f} M {part}" for part, n in training["parameters"].items())
        steps = ", ".join(f"{row['step']} {stage}" for stage, row in training["stages"].items())
        losses = ", ".join(f"{row['valid']:.3g}" for row in training["stages"].values())
        wall, processed = (round(training["time"][f"{clock}_seconds"]) for clock in ("wall", "processor"))
        lines.append(f"| {name} | {sizes} | {steps} | {losses} | {wall} | {processed} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
