"""Rain models on networks that they have not seen: as they come, calibrated on an hour, tuned on it; and others.

    python benchmarks/unseen.py DATA [--model rain] [--networks "MCH 2015" Brisbane] [--factors 1x8 3x10]

DATA is a folder with the files of `NETWORKS`. Of each the square of 400 cells with most rain, over 24 frames in its
second half, is made from its block means by `finescale downscale` and scored by `finescale verify`, beside RainFARM,
bicubic interpolation with noise, and

    rain              the model as it comes (and sst on the years of its sea that it has not seen)
    …, calibrated     `finescale calibrate` on the network's first hour
    …, tuned          `finescale fit --start` on that hour, for 2 and 10 minutes of processor time (at 1x8), and
                      calibrated on the same hour then
    hour alone        `finescale fit one-step` on that hour alone, for as long, and on one network for an hour
    MRMS alone        the system of one_step.py: one factor, 12 minutes, one network

CRPS is told over RainFARM's and over bicubic with noise's, with 95 % intervals of a paired block bootstrap over frames.
What unseen.json holds is not done again. Writes unseen.json and unseen.md as it goes; with --picture unseen.png alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from one_step_systems import Run
from protocol import processor, rounded
from rain_maps import rain_maps

import finescale
from finescale.cli.allocator import keep_memory
from finescale.data.files import open_field, open_store, select
from finescale.data.region import region
from finescale.data.units import convert_units
from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.grids.coordinates import increasing
from finescale.grids.dimensions import canonical
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen
from finescale.scores.bootstrap import block_length, draws
from finescale.verify import score

SIDE, FRAMES = 400, 24
NETWORKS: dict[str, tuple[str, dict[str, Any] | None, int]] = {
    "MCH 2015": ("mch_20150515.nc", None, 12),
    "MCH 2017": ("mch_20170131.nc", None, 12),
    "Brisbane": ("bom_brisbane_20201031.nc", None, 6),
    "SAF, 3 km": ("saf_crr_20180601.nc", None, 4),
    "MRMS, east": ("mrms_west.nc", {"lon": [-90, None]}, 12),
}
"""Of each network the file, the part that no training saw, and the frames that are calibrated and tuned on."""
SEA, SEA_FACTORS = "Tasman Sea, 2011 to 2013", ("1x2", "1x4", "1x8")
FACTORS = ("1x4", "1x8", "1x10", "3x10", "6x25")
TUNED_AT, MINUTES = "1x8", (2, 10)
LONG, LONG_ON = 60, "MCH 2015"
"""Minutes of the longest training on an hour alone, and the network that it is measured on."""
ALONE = ("1x8", "1x10")
"""Factors of the systems that one network alone taught."""
VERBS = ("downscale {} coarse.nc -o fine.nc", "calibrate {} hour.nc -o mine")
SCORES = {
    "CRPS": "{crps:.4f}",
    "/ RainFARM": "{over_rainfarm[0]:.3f} ({over_rainfarm[1]:.2f}–{over_rainfarm[2]:.2f})",
    "/ noise": "{over_noise[0]:.3f}",
    "spread–skill": "{spread_skill:.2f}",
    "spectral distance": "{log_spectral_distance:.3f}",
    "imprint": "{imprint:.2f}",
    "(truth)": "{imprint_truth:.2f}",
    "isolated wet": "{isolated_wet:.4f}",
    "lag-1": "{autocorrelation:.2f}",
    "truth": "{autocorrelation_truth:.2f}",
    "along the motion": "{moving_autocorrelation:.2f}",
    "its truth": "{moving_autocorrelation_truth:.2f}",
    "border ratio": "{border_ratio:.2f}",
    "99.9 % bias": "{p999_bias:+.2f}",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="rain", help="a name or a folder")
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS, SEA], choices=[*NETWORKS, SEA])
    parser.add_argument("--factors", nargs="+", default=list(FACTORS), choices=list(FACTORS))
    parser.add_argument("--tuned", nargs="*", default=[*NETWORKS][:4], help="networks that are tuned on")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/unseen"))
    parser.add_argument("--alone", type=Path, default=Path("benchmarks/cache/one_step"), help="cache of one_step.py")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--picture", action="store_true", help="draw unseen.png and nothing else")
    args = parser.parse_args()
    keep_memory()
    if args.picture:
        picture(args)
        return
    file = args.results / "unseen.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"networks": {}, "systems": {}}
    for network in args.networks:
        if network == SEA:
            fine = hour = sea(args)
        else:
            fine, hour = fields(network, args)
        for factor in SEA_FACTORS if network == SEA else args.factors:
            judge(network, factor, fine, hour, args, found)


def sea(args: argparse.Namespace) -> xr.DataArray:
    """Every tenth day of the years that the model `sst` has not seen."""
    whole = increasing(open_field(args.data / "sst_tasman_1982_2013.nc"))
    return region(whole, {"time": ["2011-01-01", None]})[::10].load()


def fields(network: str, args: argparse.Namespace) -> tuple[xr.DataArray, xr.DataArray]:
    """The square with most rain of those that are known nearly whole, in the later frames, and the first hour."""
    name, ranges, first = NETWORKS[network]
    store = open_store((str(args.data / name),), None)
    known = convert_units(increasing(select(store, "precipitation_rate", name)), "mm h-1")
    whole = region(known, ranges)
    test = whole.isel(time=slice(max(first, (whole.sizes["time"] - FRAMES) // 2), None)).isel(time=slice(FRAMES))
    middle = test.isel(time=test.sizes["time"] // 2).load().values
    corners = [range(0, n - SIDE + 1, 40) for n in middle.shape]

    def rain(y: int, x: int) -> tuple[bool, float]:
        part = middle[y : y + SIDE, x : x + SIDE]
        return bool(np.isfinite(part).mean() > 0.95), float(np.nan_to_num(part).clip(max=10).mean())

    y, x = max(((y, x) for y in corners[0] for x in corners[1]), key=lambda at: rain(*at))
    # At home the strip that no training saw either.
    earlier = whole if ranges is None else region(known, {"lon": [-94, -90]})
    return test[:, y : y + SIDE, x : x + SIDE].load(), earlier.isel(time=slice(first)).load()


def judge(
    network: str, factor: str, fine: xr.DataArray, hour: xr.DataArray, args: argparse.Namespace, found: dict[str, Any]
) -> None:
    """The rows of a network and factor that are not there yet."""
    rows = found["networks"].setdefault(network, {}).setdefault(factor, {})
    coarse = finescale.coarsen(fine, factor)
    for name, made_by, command in systems(network, factor, hour, args):
        if name in rows:
            continue
        found["systems"][name] = command
        try:
            model = made_by()
        except InputError as error:
            rows[name] = {"failed": str(error)}
        else:
            made = finescale.downscale(model, coarse, members=args.members, factor=factor, force=True, progress=False)
            random = ("noise",) if network == SEA else ("rainfarm", "noise")
            extra = () if "bicubic with noise" in rows else random
            told = score(made, fine, coarse, baselines=extra, factor=factor)
            for label, system in {name: "ensemble", "RainFARM": "rainfarm", "bicubic with noise": "noise"}.items():
                if system in told["system"].values:
                    rows[label] = kept(told.sel(system=system))
        for base in ("RainFARM", "bicubic with noise"):
            if base in rows and "crps_by_time" in rows[name]:
                key = "over_rainfarm" if base == "RainFARM" else "over_noise"
                rows[name][key] = ratio(rows[name]["crps_by_time"], rows[base]["crps_by_time"])
        write(found, args)


def systems(
    network: str, factor: str, hour: xr.DataArray, args: argparse.Namespace
) -> Iterator[tuple[str, Callable[[], Downscaler], str]]:
    """Name, what makes the model, and command of every system of a factor."""
    if network == SEA:
        load = partial(finescale.load, "sst")
        yield "sst", load, f"finescale downscale sst coarse.nc -o fine.nc --factor {factor}"
        return
    load = partial(finescale.load, args.model)
    downscale, measure = (f"finescale {verb} --factor {factor}" for verb in VERBS)
    yield "rain", load, downscale.format("rain")
    measured = partial(calibrated, load, hour, factor)
    yield "rain, calibrated", measured, f"{measure.format('rain')}; {downscale.format('mine')}"
    if factor in ALONE:
        run = Run("one-step", factor, 0, 12.0, args.data, args.alone)
        yield "MRMS alone, 12 min", lambda: run.model, run.command
    for minutes, label in trainings(network) if factor == TUNED_AT and network in args.tuned else ():
        start = label == "rain, tuned"
        changes = {"train.minutes": minutes, "train.clock": "cpu", "data.min_wet": 0.02, "factor": factor}
        sets = " ".join(f"--set {key}={value}" for key, value in changes.items())
        command = f"finescale fit {'--start rain' if start else 'one-step'} -o model --set data.path=hour.nc {sets}"
        source = {"start": args.model} if start else {"config": "one-step"}
        make = partial(tuned, network, label, minutes, hour, source, changes, args)
        yield f"{label} {minutes} min", make, command
        measured = partial(calibrated, make, hour, factor)
        yield f"{label} {minutes} min, calibrated", measured, f"{command}; {measure.format('model')}"


def trainings(network: str) -> list[tuple[int, str]]:
    """Minutes and names of the trainings on a network's hour."""
    long = [(LONG, "hour alone")] if network == LONG_ON else []
    return [(minutes, label) for minutes in MINUTES for label in ("rain, tuned", "hour alone")] + long


def calibrated(make: Callable[[], Downscaler], hour: xr.DataArray, factor: str) -> Downscaler:
    """A model calibrated on the hour."""
    model = make()
    finescale.calibrate(model, hour, factor=factor)
    return model


def tuned(
    network: str,
    label: str,
    minutes: int,
    hour: xr.DataArray,
    source: dict[str, Any],
    changes: dict[str, Any],
    args: argparse.Namespace,
) -> Downscaler:
    """A model trained on the hour, kept."""
    folder = args.cache / f"{network}-{label}-{minutes}min".replace(" ", "-").replace(",", "")
    if not (folder / "weights.safetensors").is_file():
        finescale.fit(source.get("config"), folder, changes, data=hour, start=source.get("start"))
    return finescale.load(folder)


def kept(row: xr.Dataset) -> dict[str, Any]:
    """The scores of a system that a table shows, and CRPS frame by frame."""
    keys = {form.split("{")[1].split(":")[0] for form in SCORES.values()}
    found = {key: float(row[key]) for key in keys if key in row}
    return found | {"crps_by_time": np.asarray(row["crps_by_time"]).tolist()}


def ratio(ours: list[float], theirs: list[float]) -> list[float]:
    """Mean CRPS over another's, with the 95 % interval of a block bootstrap over frames."""
    a, b = np.array(ours), np.array(theirs)
    counts = draws(len(a), block_length(len(a)), 2000, 0)
    low, high = np.quantile((counts @ a) / (counts @ b), [0.025, 0.975])
    return [float(a.mean() / b.mean()), float(low), float(high)]


def picture(args: argparse.Namespace) -> None:
    """A part of two Swiss fields: coarse, a member as it comes and calibrated on the first hour, and radar."""
    part, time, rows = (slice(100, 300), slice(100, 300)), 2, []
    for network, factor in (("MCH 2017", "1x8"), ("MCH 2015", "3x10")):
        fine, hour = fields(network, args)
        fine = fine[: 2 * (time + 1)]
        coarse = finescale.coarsen(fine, factor)
        blocks = Coarsen(Factor.parse(factor)).replicate(torch.from_numpy(values(coarse))[None, None])[0, 0].numpy()
        shown = {f"{network}, {factor}: coarse": blocks}
        load = partial(finescale.load, args.model)
        for title, model in {"as it comes": load(), "calibrated": calibrated(load, hour, factor)}.items():
            made = finescale.downscale(model, coarse, members=1, factor=factor, force=True, progress=False)
            shown[title] = values(made)[0]
        rows.append({title: field[time][part] for title, field in (shown | {"radar": fine.values}).items()})
    rain_maps(rows, args.results / "unseen.png", limit=400_000)


def values(ds: xr.Dataset) -> np.ndarray[Any, Any]:
    """([M,] T, H, W) of a file's one field."""
    return np.asarray(canonical(ds["precipitation_rate"]).values)


def write(found: dict[str, Any], args: argparse.Namespace) -> None:
    found["settings"] = {"processor": processor(), "torch": torch.__version__, "members": args.members}
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "unseen.json").write_text(json.dumps(rounded(found), indent=1) + "\n")
    lines = ["# Rain on networks that no model saw", ""]
    if any(name.startswith("earlier") for name in found["systems"]):
        lines += ["Rows called earlier are of commit ad48a73, before noise went through filters.", ""]
    lines += [*(f"- {k}: {v}" for k, v in found["settings"].items())]
    lines += [f"- {name}: `{command}`" for name, command in found["systems"].items() if command]
    for network, factors in found["networks"].items():
        for factor, rows in factors.items():
            lines += [
                "",
                f"## {network}, {factor}",
                "",
                f"| | {' | '.join(SCORES)} |",
                "|---" * (len(SCORES) + 1) + "|",
            ]
            for name, row in rows.items():
                cells = [row["failed"], *[""] * (len(SCORES) - 1)] if "failed" in row else list(map(_cell(row), SCORES))
                lines.append(f"| {name} | {' | '.join(cells)} |")
    (args.results / "unseen.md").write_text("\n".join([*lines, ""]))


def _cell(row: dict[str, Any]) -> Any:
    def told(title: str) -> str:
        form = SCORES[title]
        key = form.split("{")[1].split(":")[0].split("[")[0]
        return form.format(**row) if key in row else ""

    return told


if __name__ == "__main__":
    main()
