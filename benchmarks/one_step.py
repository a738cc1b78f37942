"""One evaluation a member: what it costs, part by part, and what it scores, beside diffusion and RainFARM.

    python benchmarks/one_step.py DATA [--minutes 12] [--seeds 1] [--parts scores,terms,parts,members,command]

DATA is a folder with mrms_west.nc, fmi_20160928.nc and mch_20150515.nc. Every system is a preset, trained by the
command that its row names, on MRMS west of -94 degrees, for the same minutes of processor time; distilled models get a
third of that besides.

    scores    at 1x8 and 1x10, on crops of MRMS east of -90 degrees and of two networks that no system has seen, and at
              3x10 on sequences of the first: CRPS, energy and variogram score, spread-skill ratio, spectra, and the
              scores of texture, with the truth's
    terms     the same at 1x8 of `one-step` with one thing changed at a time, all trained for a sixth of the minutes
    parts     milliseconds of processor time a member, part by part, for fields of 128, 256 and 512 cells a side and 1,
              8 and 64 members, with the threads that torch is given, and the rate of multiplications in the networks
              over that of a large matrix product
    members   milliseconds a member of each system and of both RainFARMs, in turn, in the same sizes
    command   `finescale downscale` of 64 members of 1024 cells a side, from file to file

Finished models under --cache are read back, interrupted ones resumed; what one_step.json holds is not done again.
Writes one_step.json, one_step.md and pictures as it goes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from commands import measured
from matplotlib import rc_context
from one_step_systems import ABLATION, CROP, FACTOR, SYSTEMS, Run, Test, ensemble, scored, tests
from protocol import interleaved, processor, rounded
from rain_maps import rain_maps
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from finescale.cli.allocator import keep_memory
from finescale.downscaler import Downscaler
from finescale.grids.factor import Factor
from finescale.model import sampling
from finescale.model.batch import Inputs, Members
from finescale.plots.maps import STYLE, png
from finescale.verify import baselines

SCORES = {
    "CRPS": "{crps:.4f}",
    "… of amounts ≥ 5": "{threshold_weighted_crps:.4f}",
    "energy score": "{energy_score:.3f}",
    "variogram score": "{variogram_score:.3f}",
    "spread–skill": "{spread_skill:.2f}",
    "spectral distance": "{log_spectral_distance:.3f}",
    "… of log-rain": "{log_spectral_distance_log_rain:.3f}",
    "texture": "{texture_distance:.3f}",
    "imprint": "{imprint:.2f}",
    "… half cells": "{imprint_middle:.2f}",
    "isolated wet": "{isolated_wet:.4f}",
    "… dry": "{isolated_dry:.4f}",
    "direction": "{directionality:.2f}",
    "drizzle": "{drizzle:.4f}",
    "flat squares": "{uniform_blocks:.4f}",
    "99.9 % bias": "{p999_bias:+.2f}",
    "lag-1 autocorrelation": "{autocorrelation:.2f}",
    "border ratio": "{border_ratio:.2f}",
}
SYSTEMS_AT = {
    "1x8": ("one-step", "wavelet", "distilled", "wavelet, blocks of 8", "distilled, blocks of 8"),
    "1x10": ("one-step", "wavelet", "distilled"),
    "3x10": ("one-step", "space-time"),
}
"""Systems of each factor; the first two of 1x8 with all seeds."""
SEEDED = ("one-step", "wavelet")
SIZES, COUNTS = (128, 256, 512), (1, 8, 64)
PRICED = "256², 8 members"
"""What the plot of scores against price is of."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--parts", default="scores,terms,parts,members,command")
    parser.add_argument("--factors", nargs="+", default=list(SYSTEMS_AT), choices=list(SYSTEMS_AT))
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--minutes", type=float, default=12.0, help="of processor time, for all networks of a system")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--crops", type=int, default=48)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/one_step"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    keep_memory()
    file = args.results / "one_step.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    steps = {"scores": scores, "terms": terms, "parts": parts, "members": members, "command": command}
    for part in args.parts.split(","):
        steps[part](args, found)


def run_of(name: str, args: argparse.Namespace, factor: str = "1x8", seed: int = 0) -> Run:
    return Run(name, factor, seed, args.minutes, args.data, args.cache)


# --- scores


def scores(args: argparse.Namespace, found: dict[str, Any]) -> None:
    for factor in args.factors:
        there = dict(tests(args.data, Factor.parse(factor), args.crops))
        rows = found.setdefault("scores", {}).setdefault(factor, {})
        for seed in range(args.seeds):
            for name in SYSTEMS_AT[factor]:
                if name in args.systems and (not seed or (factor == "1x8" and name in SEEDED)):
                    row(run_of(name, args, factor, seed), there, rows, args, found)
        write(found, args)


def terms(args: argparse.Namespace, found: dict[str, Any]) -> None:
    """One thing changed at a time, at home."""
    there = {place: test for place, test in tests(args.data, FACTOR, args.crops) if place == "mrms"}
    for name in ABLATION:
        row(run_of(name, args), there, found.setdefault("terms", {}), args, found)


def row(
    run: Run, there: dict[str, Test], rows: dict[str, Any], args: argparse.Namespace, found: dict[str, Any]
) -> None:
    """Scores of a system on all tests, unless they are there; those of RainFARM and the truth the first time."""
    factor = Factor.parse(run.factor)
    for place, test in there.items():
        here = rows.setdefault(place, {"crops": len(test[0]), "side": test[0].shape[-1], "systems": {}})["systems"]
        if "RainFARM" not in here:
            here["RainFARM"] = kept(scored(farm(test[1], factor, args.members), test, factor))
        if run.label not in here:
            fields = ensemble(run.model, Inputs(test[1], test[2]), args.members)
            here[run.label] = kept(scored(fields, test, factor))
            found.setdefault("training", {})[f"{run.label}, {run.factor}"] = run.told()
            write(found, args)
    picture = args.results / f"one_step_{run.name}.png"
    if run.factor == "1x8" and not run.seed and run.name in SEEDED and not picture.exists():
        draw(run.model, there, picture)


def farm(coarse: Tensor, factor: Factor, members: int) -> np.ndarray[Any, Any]:
    """Our RainFARM (M, N, T, H, W), which refines space alone: in time it repeats."""
    drawn = [baselines.rainfarm(one[0].numpy(), factor, members=members, seed=n) for n, one in enumerate(coarse)]
    return np.stack(drawn, 1).astype(np.float32)


def kept(found: dict[str, Any]) -> dict[str, Any]:
    """What the tables show, and the truth's."""
    found["threshold_weighted_crps"] = found["threshold_weighted_crps"][list(found["thresholds"]).index(5.0)]
    wanted = {form.split("{")[1].split(":")[0] for form in SCORES.values()} | {"conservation_residual"}
    return {key: value for key, value in found.items() if key.removesuffix("_truth") in wanted}


def draw(model: Downscaler, there: dict[str, Test], path: Path) -> None:
    """Coarse, two members and the truth of the wettest crops of each network."""
    rows = []
    for place, (fine, coarse, area) in there.items():
        wettest = int(fine.nan_to_num().mean((1, 2, 3, 4)).argsort(descending=True)[1])
        one = slice(wettest, wettest + 1)
        drawn = ensemble(model, Inputs(coarse[one], area[one]), 2)[:, 0, 0]
        rows.append(
            {
                f"{place.upper()}: coarse": coarse[wettest, 0, 0],
                "member 1": drawn[0],
                "member 2": drawn[1],
                "truth": fine[wettest, 0, 0],
            }
        )
    rain_maps(rows, path)


# --- cost


def rain(size: int, args: argparse.Namespace) -> Tensor:
    """(1, 1, 1, h, w) of real rain: test crops side by side."""
    coarse = next(iter(tests(args.data, FACTOR, 16)))[1][1]
    n = size // CROP
    rows = [torch.cat(list(coarse[n * row : n * row + n]), -1) for row in range(n)]
    return torch.cat(rows, -2)[None]


def processor_time(function: Callable[[], Any], repeats: int) -> float:
    """The least of some runs, in milliseconds: other work on the machine only adds."""
    spent = []
    for _ in range(repeats + 1):
        started = time.process_time()
        function()
        spent.append(time.process_time() - started)
    return 1e3 * min(spent[1:])


def parts(args: argparse.Namespace, found: dict[str, Any]) -> None:
    model = run_of("one-step", args).model
    rows = found.setdefault("parts", {})
    for size in SIZES:
        coarse = rain(size, args)
        for count in COUNTS:
            key = f"{size}², {count} members, {torch.get_num_threads()} threads"
            if key not in rows and size**2 * count <= 512**2 * 8:
                rows[key] = of_a_member(model, coarse, count, args.repeats)
                write(found, args)


@torch.no_grad()
def of_a_member(model: Downscaler, coarse: Tensor, count: int, repeats: int) -> dict[str, float]:
    """Milliseconds of processor time a member."""
    assert model.generator is not None
    found: dict[str, float] = {}

    def timed(name: str, function: Callable[[], Any]) -> Any:
        found[name] = processor_time(function, repeats) / count
        return function()

    members, generator = Members(range(count), seed=0), model.generator
    given = sampling.known(Inputs(coarse, origin=[(0, 0, 0)]), model.device)
    cond = timed("conditions", lambda: sampling.conditions(model, given))
    mu = sampling.mean(model, given, cond)
    told = timed("folding", lambda: sampling.folded(model, cond, mu))
    places = [(member, (0, 0, 0)) for member in members.numbers]
    white = timed("noise", lambda: model.noise.fields(sampling.size_of(told), places, 0, model.device)(0))
    with model.autocast(model.device):
        shared = timed("trunk", lambda: generator.trunk(told, None))
        z = timed("head", lambda: generator.head(shared, white[None], model.scale(model.factor)))
    y = timed("decoding", lambda: sampling.fields(model, given, mu, z, members))
    x = timed("inverse and cut", lambda: sampling.physical(model, y, given))
    timed("constraint", lambda: sampling.constrained(model, x, given))
    timed("residual", lambda: sampling.gap(model, x, given))
    found["sum"] = sum(found.values())
    timed("all at once", lambda: model.sample(given, members))
    with model.autocast(model.device):
        best = product_rate(repeats)
        for name, function in {
            "trunk": lambda: generator.trunk(told, None),
            "head": lambda: generator.head(shared, white[None], model.scale(model.factor)),
        }.items():
            found[f"rate of the {name}"] = operations(function) / (found[name] * count) / best
    return found


def operations(function: Callable[[], Any]) -> int:
    """Multiplications and additions of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def product_rate(repeats: int, side: int = 1536) -> float:
    """Operations a millisecond of processor time of a large matrix product, in the precision of networks."""
    a = torch.randn(side, side)
    return 2 * side**3 / processor_time(lambda: a @ a, repeats)


def members(args: argparse.Namespace, found: dict[str, Any]) -> None:
    """Wall time a member of all systems, in turn."""
    rows = found.setdefault("members", {})
    models = {name: run_of(name, args).model for name in SYSTEMS_AT["1x8"] if name in args.systems}
    for size in SIZES:
        coarse = rain(size, args)
        for count in COUNTS:
            key = f"{size}², {count} members, {torch.get_num_threads()} threads"
            if key not in rows and size**2 * count <= 256**2 * 64:
                seconds = interleaved(systems(models, coarse, count), args.repeats)
                rows[key] = {name: 1e3 * spent / count for name, spent in seconds.items()}
                write(found, args)


def command(args: argparse.Namespace, found: dict[str, Any]) -> None:
    """The whole command with as many threads as torch is given; the wettest square of the first frame, one frame."""
    side, count = 1024, 64
    run = run_of("one-step", args)
    assert run.model is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with xr.open_dataset(args.data / "mrms_west.nc") as ds:
            frame = ds["precipitation_rate"][0, :, -side:].load()
        rows = frame.fillna(0).mean("lon").rolling(lat=side).mean().dropna("lat")
        last = int(np.flatnonzero(frame["lat"] == rows["lat"][int(np.argmax(rows.values))])[0])
        square = frame[last - side + 1 : last + 1].expand_dims("time").to_dataset().drop_encoding()
        for variable in square.variables.values():
            variable.encoding = {}
        square.to_netcdf(folder / "fine.nc")
        words = [sys.executable, "-m", "finescale"]
        measured([*words, "coarsen", "fine.nc", "--factor", "1x8", "-o", "coarse.nc"], os.environ, folder)
        model = str(run.folder.resolve())
        words += ["downscale", model, "coarse.nc", "--members", str(count), "--overwrite", "-o"]
        ways = {"Zarr": ["fine.zarr"], "NetCDF": ["out.nc"], "Zarr, 2 threads": ["fine.zarr", "--threads", "2"]}
        runs = {way: [measured([*words, *more], os.environ, folder) for _ in range(3)] for way, more in ways.items()}
    best = {way: min(some, key=lambda run: run["seconds"]) for way, some in runs.items()}
    found["command"] = {
        f"{count} members of {side}², {way}": run
        | {"Mpixel × members a second": side**2 * count / 1e6 / run["seconds"]}
        for way, run in best.items()
    }
    write(found, args)


def systems(models: dict[str, Downscaler], coarse: Tensor, count: int) -> dict[str, Callable[[], Any]]:
    """What makes so many members of a coarse field; diffusion of a few alone, since it takes long."""
    given, frames = Inputs(coarse, origin=[(0, 0, 0)]), coarse[0, 0].numpy()
    tasks: dict[str, Callable[[], Any]] = {
        name: partial(model.sample, given, Members(range(count), seed=0))
        for name, model in models.items()
        if model.generator is not None or frames.size * count <= 32**2 * 8
    }
    tasks["RainFARM, ours"] = lambda: baselines.rainfarm(frames, FACTOR, members=count, seed=0)
    tasks["RainFARM, pysteps"] = lambda: published(frames[0], count)
    return tasks


def published(frame: np.ndarray[Any, Any], count: int) -> None:
    """pysteps' RainFARM, called as its documentation does, member by member."""
    from pysteps.downscaling import rainfarm

    for _ in range(count):
        rainfarm.downscale(frame.astype(np.float64), ds_factor=FACTOR.x, threshold=None)


# --- results


def write(found: dict[str, Any], args: argparse.Namespace) -> None:
    found["settings"] = {"processor": processor(), "torch": torch.__version__, "members": args.members}
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "one_step.json").write_text(json.dumps(rounded(found), indent=1) + "\n")
    (args.results / "one_step.md").write_text(report(found))
    if found.get("scores") and PRICED in {key.rsplit(", ", 1)[0] for key in found.get("members", {})}:
        price(found, args.results / "one_step.png")


@rc_context(STYLE)
def price(found: dict[str, Any], path: Path) -> None:
    """CRPS over RainFARM's against milliseconds a member, a panel for each network; seeds as points."""
    from matplotlib.figure import Figure

    cost = next(row for key, row in found["members"].items() if key.startswith(PRICED))
    cost = cost | {"RainFARM": cost["RainFARM, ours"]}
    rows = found["scores"]["1x8"]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for ax, (place, row) in zip(
        figure.subplots(1, len(rows), sharey=True, squeeze=False)[0], rows.items(), strict=True
    ):
        farm = row["systems"]["RainFARM"]["crps"]
        for number, system in enumerate(("RainFARM", "RainFARM, pysteps", *SYSTEMS_AT["1x8"])):
            points = [one["crps"] / farm for name, one in row["systems"].items() if name.split(", seed")[0] == system]
            points = [1.0] if system.startswith("RainFARM") else points  # both have one algorithm
            if system in cost:
                ax.plot([cost[system]] * len(points), points, "o", color=f"C{number}", label=system)
        ax.set(title=place.upper(), xscale="log", xlabel="ms a member, 8 of 256²")
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel("CRPS / RainFARM's")
    figure.legend(*figure.axes[-1].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=4)
    path.write_bytes(png(figure, limit=100_000))


def report(found: dict[str, Any]) -> str:
    lines = ["# One evaluation a member", "", *(f"- {key}: {value}" for key, value in found["settings"].items())]
    for name, row in found.get("training", {}).items():
        sizes = ", ".join(f"{n / 1e6:.2f} M {part}" for part, n in row["parameters"].items() if n)
        lines.append(f"- {name}: `{row['command']}` ({sizes}; {row['last']['step']} steps of its last stage)")
    places = {
        f"{place}, {factor}": row for factor, rows in found.get("scores", {}).items() for place, row in rows.items()
    }
    places |= {f"one thing changed, {place}, 1x8": row for place, row in found.get("terms", {}).items()}
    for place, row in places.items():
        systems = row["systems"]
        first = next(iter(systems.values()))
        truth = {key.removesuffix("_truth"): value for key, value in first.items() if key.endswith("_truth")}
        lines += [
            "",
            f"## Scores, {place}: {row['crops']} crops of {row['side']}²",
            "",
            table({"truth": truth} | systems),
        ]
    titles = {part: f"Milliseconds a member: {part}" for part in ("parts", "members")}
    for part, title in (titles | {"command": "From file to file"}).items():
        if found.get(part):
            names = list(dict.fromkeys(name for row in found[part].values() for name in row))
            lines += [
                "",
                f"## {title}",
                "",
                f"| | {' | '.join(names)} |",
                "|---" * (len(names) + 1) + "|",
            ]
            for key, row in found[part].items():
                lines.append(f"| {key} | {' | '.join(f'{row[n]:.3g}' if n in row else '' for n in names)} |")
    return "\n".join([*lines, ""])


def table(rows: dict[str, dict[str, Any]]) -> str:
    """A line a system, with the scores that any of them has."""
    told = {title: (form, form.split("{")[1].split(":")[0]) for title, form in SCORES.items()}
    told = {title: (form, key) for title, (form, key) in told.items() if any(key in row for row in rows.values())}
    lines = [f"| | {' | '.join(told)} |", "|---" * (len(told) + 1) + "|"]
    for system, row in rows.items():
        cells = [form.format(**row) if row.get(key) is not None else "" for form, key in told.values()]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
