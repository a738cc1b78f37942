"""Does detail move? Sequences made frame by frame, with noise of their own and with noise that moves with the rain.

    python benchmarks/motion.py DATA [--systems one-step wavelet one-step@3x10] [--minutes 12]

DATA is a folder with the files of `PLACES`. The systems are presets at 1x8, or at the factor after an @, and are
trained on MRMS west of -94 degrees by the commands of one_step.py, whose cache is taken. On a square of showers of
every network, 24 frames, members are made as `finescale downscale` makes them after `finescale calibrate` on other
fields, MRMS further west or the network's first 12 frames: with noise of their own in every frame, and with the
lifetime that was measured. Scored are the autocorrelation from a frame to the next, in place and along the truth's
motion, and what should not change: CRPS, spread and spectra.

Writes motion.json, motion.md and, of each system at 1x8, motion_SYSTEM.png and .gif; what motion.json holds is not done
again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from one_step_systems import Run, scored
from protocol import processor, rounded
from rain_maps import rain_maps

import finescale
from finescale.cli.allocator import keep_memory
from finescale.data.files import open_field
from finescale.data.region import region
from finescale.data.units import convert_units
from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.grids.coordinates import increasing
from finescale.grids.factor import Factor
from finescale.model.calibrated import Calibrated
from finescale.operators.coarsen import Coarsen
from finescale.plots import animate

FRAMES, SIDE, EARLIER = 24, 256, 12
PLACES: dict[str, tuple[str, dict[str, Any] | None, dict[str, Any] | None]] = {
    "MRMS, 2 min": ("mrms_west.nc", {"lon": [-90, None]}, {"lon": [None, -94]}),
    "FMI, 5 min": ("fmi_20160928.nc", None, None),
    "MCH, 5 min": ("mch_20170131.nc", None, None),
    "DWD, 5 min": ("dwd_radolan_ry_20210823.nc", None, None),
    "MeteoNet, 5 min": ("meteonet_radar_se_201608.nc", None, None),
    "Brisbane": ("bom_brisbane_20201031.nc", None, None),
}
"""Of every network the file, where it is tested, and where its lifetime is measured; None for its first frames."""
SCORES = {
    "in place": "{autocorrelation:.3f}",
    "(truth)": "{autocorrelation_truth:.3f}",
    "along the motion": "{moving_autocorrelation:.3f}",
    "truth": "{moving_autocorrelation_truth:.3f}",
    "CRPS": "{crps:.4f}",
    "spread–skill": "{spread_skill:.2f}",
    "spectral distance": "{log_spectral_distance:.3f}",
    "border ratio": "{border_ratio:.2f}",
    "lifetime, min": "{lifetime:.0f}",
    "s a member and frame": "{seconds:.3f}",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--systems", nargs="+", default=["one-step", "wavelet", "one-step@3x10"])
    parser.add_argument("--places", nargs="+", default=list(PLACES), choices=list(PLACES))
    parser.add_argument("--minutes", type=float, default=12.0, help="of processor time, of the systems' training")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/one_step"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    keep_memory()
    file = args.results / "motion.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"places": {}, "systems": {}}
    for name in args.systems:
        system, _, factor = name.partition("@")
        run = Run(system, factor or "1x8", 0, args.minutes, args.data, args.cache)
        found["systems"][name] = run.told()
        for place in args.places:
            judge(run, place, args, found)
            write(found, args)


def judge(run: Run, place: str, args: argparse.Namespace, found: dict[str, Any]) -> None:
    """Both ways of a system at a place."""
    rows, factor = found["places"].setdefault(place, {}), Factor.parse(run.factor)
    name = run.name if run.factor == "1x8" else f"{run.name}, {run.factor}"
    if f"{name}, carried" in rows:
        return
    fine, earlier = fields(place, args)
    side = SIDE // factor.x * factor.x
    fine = fine[: len(fine) // factor.time * factor.time, :side, :side]
    area = torch.ones(1, side, side)
    truth = torch.from_numpy(fine.values)[None, None]
    coarse = Coarsen(factor, area[:, None, None], truth.isfinite())(truth)
    told = calibrated(run.model, earlier)
    drawn = {}
    for way, asked in {"frames of their own": "none", "carried": f"{told}s"}.items():
        if told is None and way == "carried":
            rows[f"{name}, carried"] = {"failed": "no lifetime was found"}
            continue
        started = time.process_time()
        made = members(run.model, fine, asked, args.members, factor)
        spent = (time.process_time() - started) / made.shape[0] / made.shape[1]
        drawn[way] = made
        row = scored(made[:, None], (truth, coarse, area), factor)
        keys = {form.split("{")[1].split(":")[0] for form in SCORES.values()}
        rows[f"{name}, {way}"] = {key: value for key, value in row.items() if key in keys} | {
            "seconds": spent,
            **({"lifetime": told / 60} if told is not None and way == "carried" else {}),
        }
    if place == next(iter(PLACES)) and len(drawn) == 2 and run.factor == "1x8":
        strip(fine, drawn, args.results / f"motion_{run.name}.png")
        animation(fine, drawn, args.results / f"motion_{run.name}.gif")


def fields(place: str, args: argparse.Namespace) -> tuple[xr.DataArray, xr.DataArray]:
    """The square with most showers of those that a network knows nearly whole, and fields to calibrate on."""
    name, there, before = PLACES[place]
    whole = convert_units(increasing(open_field(args.data / name)), "mm h-1")
    test = region(whole, there)
    first = 0 if before is not None else min(EARLIER, test.sizes["time"] // 3)
    test = test.isel(time=slice(first, first + FRAMES))
    middle = test.isel(time=test.sizes["time"] // 2).load()
    corners = [range(0, n - SIDE + 1, 32) for n in middle.shape]

    def rain(y: int, x: int) -> float:
        part = middle.values[y : y + SIDE, x : x + SIDE]
        dry = float((part < 0.1).mean())  # showers and what is between them
        return dry * float(np.nan_to_num(part).clip(max=10).mean()) if np.isfinite(part).mean() > 0.98 else -1.0

    y, x = max(((y, x) for y in corners[0] for x in corners[1]), key=lambda at: rain(*at))
    square = test[:, y : y + SIDE, x : x + SIDE].load()
    earlier = region(whole, before).isel(time=slice(FRAMES)) if before is not None else whole[:first]
    return square.fillna(0.0), earlier.load()


def calibrated(model: Downscaler, earlier: xr.DataArray) -> float | None:
    """The lifetime in seconds, of a model that is calibrated where the fields allow it."""
    try:
        return finescale.calibrate(model, earlier).calibrated.lifetime
    except InputError:
        model.calibrated = Calibrated()
        return None


def members(model: Downscaler, fine: xr.DataArray, asked: str, count: int, factor: Factor) -> np.ndarray[Any, Any]:
    """Members (M, T, H, W) of the block means."""
    made = finescale.downscale(
        model, finescale.coarsen(fine, factor), members=count, lifetime=asked, progress=False, force=True
    )
    assert made is not None
    name = next(iter(made.data_vars))
    values: np.ndarray[Any, Any] = made[name].transpose("realization", "time", ...).values
    return np.nan_to_num(values)


# --- results


def strip(fine: xr.DataArray, drawn: dict[str, np.ndarray[Any, Any]], path: Path) -> None:
    """Five frames of the truth and of a member of each way, the wettest quarter."""
    cut = slice(64, 192)
    rows = {"truth": fine.values} | {way: made[0] for way, made in drawn.items()}
    frames = range(0, 10, 2)
    rain_maps([{f"{way}, frame {t}": values[t, cut, cut] for t in frames} for way, values in rows.items()], path)


def animation(fine: xr.DataArray, drawn: dict[str, np.ndarray[Any, Any]], path: Path) -> None:
    """Truth and a member of each way side by side, frame after frame."""
    cut = slice(48, 208)
    panels = {"truth": fine.values} | {way: made[0] for way, made in drawn.items()}
    shown = {way: values[:16, cut, cut] for way, values in panels.items()}
    animate(shown, path, rain=True, units="mm/h", limit=700_000)


def write(found: dict[str, Any], args: argparse.Namespace) -> None:
    found["settings"] = {"processor": processor(), "torch": torch.__version__, "members": args.members}
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "motion.json").write_text(json.dumps(rounded(found), indent=1) + "\n")
    lines = ["# Detail that moves", "", *(f"- {key}: {value}" for key, value in found["settings"].items())]
    lines += [f"- {name}: `{row['command']}`" for name, row in found["systems"].items()]
    for place, rows in found["places"].items():
        lines += ["", f"## {place}", "", f"| | {' | '.join(SCORES)} |", "|---" * (len(SCORES) + 1) + "|"]
        for name, row in rows.items():
            if "failed" in row:
                lines.append(f"| {name} | {row['failed']} |" + " |" * (len(SCORES) - 1))
                continue
            keys = {title: form.split("{")[1].split(":")[0] for title, form in SCORES.items()}
            cells = [form.format(**row) if keys[title] in row else "" for title, form in SCORES.items()]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    (args.results / "motion.md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
