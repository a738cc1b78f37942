"""Texture and spread at home and elsewhere: remedies one by one, and calibration on five fields.

    python benchmarks/texture.py DATA [--systems wavelet one-step] [--minutes 12] [--seeds 1]

Every system is a preset with the settings that its row's command names, trained on MRMS west of -94 degrees for the
same minutes of processor time. At 1x8 it is scored on crops of MRMS east of -90 degrees and of networks that it has
never seen, as it is, and after `finescale.calibrate` on five fields of the first two fifths of that network's times (at
home on the strip that training validates on); the scores are of the second half of the times. `imprint` and the shares
are of members, those of the truth in a row of their own.

Finished models under --cache are read back, interrupted ones resumed; what texture.json holds is not done again. Writes
texture.json, texture.md and texture.png as it goes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from commands import trained, training_told
from one_step import SCORES, farm, kept
from one_step_systems import CROP, FACTOR, ensemble, scored
from protocol import WET, rounded, west
from rain_maps import rain_maps

import finescale
from finescale.cli.allocator import keep_memory
from finescale.config.load import load
from finescale.data.files import open_field
from finescale.data.region import region
from finescale.data.units import convert_units
from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.grids.coordinates import increasing
from finescale.model.batch import Batch
from finescale.model.calibrated import Calibrated
from finescale.training.crops import Crops

OLD = {
    "latent": {"kind": "wavelet", "levels": 2, "family": "haar"},
    "constraint": "multiplicative",
    "data.smoothing": 0.0,
}
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "wavelet": ("wavelet", {}),
    "wavelet, smoothing 0": ("wavelet", {"data.smoothing": 0.0}),
    "wavelet, smoothing 0, Haar and blockwise": ("wavelet", OLD),
    "one-step": ("one-step", {}),
    "one-step, smoothing 0": ("one-step", {"data.smoothing": 0.0}),
    "one-step, directions not scored": ("one-step", {"generator.score.directions": []}),
    "one-step, neighbours": ("one-step", {"data.neighbours": 1}),
    "one-step, neighbours, moved": ("one-step", {"data.neighbours": 1, "data.motion": True}),
}
PLACES: dict[str, tuple[str, Mapping[str, Any] | None]] = {
    "MRMS, east": ("mrms_west.nc", {"lon": [-90, None]}),
    "FMI": ("fmi_20160928.nc", None),
    "MCH": ("mch_20150515.nc", None),
    "DWD": ("dwd_radklim_20170816.nc", None),
    "OPERA": ("opera_cirrus_20241126.nc", None),
    "MeteoNet": ("meteonet_radar_se_201608.nc", None),
    "Brisbane": ("bom_brisbane_20201031.nc", None),
}
HOME = {"lon": [-94, -90]}
FIELDS = 5
"""Fine fields that a model is calibrated on."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--places", nargs="+", default=list(PLACES), choices=list(PLACES))
    parser.add_argument("--minutes", type=float, default=12.0, help="of processor time, for all networks of a system")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--crops", type=int, default=48)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/texture"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    keep_memory()
    file = args.results / "texture.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"systems": {}, "places": {}}
    for seed in range(args.seeds):
        for system in args.systems:
            name = f"{system}, seed {seed}"
            model = made(system, seed, args, found, name)
            for place in args.places:
                score(model, place, name, args, found)
                write(found, args)
    picture(args)


def made(system: str, seed: int, args: argparse.Namespace, found: dict[str, Any], name: str) -> Downscaler:
    """A system, trained by its command."""
    preset, changes = SYSTEMS[system]
    settings = changes | west(args.data, args.minutes, seed)
    folder = folder_of(system, seed, args)
    model = load(trained(preset, settings, folder)).eval()
    found["systems"][name] = training_told(folder) | {"parameters": model.parameters_by_part}
    return model


def folder_of(system: str, seed: int, args: argparse.Namespace) -> Path:
    return Path(args.cache) / f"{system.replace(' ', '-').replace(',', '')}-seed{seed}-{args.minutes:g}min"


def fields(place: str, neighbours: int, args: argparse.Namespace) -> tuple[xr.DataArray, list[int], xr.DataArray]:
    """A network's field, the frames that count, evenly spread over its second half, and the fields to calibrate on.

    These are evenly spread over the first two fifths, or, where neighbouring frames matter, the first ones.
    """
    name, ranges = PLACES[place]
    whole = convert_units(increasing(open_field(args.data / name)), "mm h-1")
    field = region(whole, ranges).load()
    count = field.sizes["time"]
    frames = sorted(set(np.linspace(count // 2, count - 1, 8).round().astype(int).tolist()))
    other = region(whole, HOME) if ranges is not None else field
    step = 1 if neighbours else max(1, (count * 2 // 5 - 1) // (FIELDS - 1))
    return field, frames, other.isel(time=slice(0, FIELDS * step, step))


def score(model: Downscaler, place: str, name: str, args: argparse.Namespace, found: dict[str, Any]) -> None:
    """Scores of a system at a place, as it is and calibrated; those of RainFARM the first time."""
    here = found["places"].setdefault(place, {"systems": {}})
    if f"{name}, calibrated" in here["systems"]:
        return
    field, frames, few = fields(place, model.neighbours, args)
    batch = crops_of(field, frames, model, args)
    assert batch.area is not None
    test, here["crops"] = (batch.fine, batch.coarse, batch.area), len(batch)
    if "RainFARM" not in here["systems"]:
        here["systems"]["RainFARM"] = kept(scored(farm(batch.coarse, FACTOR, args.members), test))
    model.calibrated = Calibrated()
    here["systems"][name] = kept(scored(ensemble(model, batch, args.members), test))
    try:
        told = finescale.calibrate(model, few)
    except InputError as error:  # too little rain in those fields
        here["systems"][f"{name}, calibrated"] = {"failed": str(error)}
        return
    calibrated = kept(scored(ensemble(model, batch, args.members), test))
    found_there = {
        "spread": told.calibrated.spread,
        "blur": told.calibrated.blur,
        "smoothness": told.calibrated.smoothness,
        "crops": told.at[str(FACTOR)].crops,
    }
    here["systems"][f"{name}, calibrated"] = calibrated | {"calibrated": found_there}


def crops_of(
    field: xr.DataArray, frames: list[int], model: Downscaler, args: argparse.Namespace, seed: int = 1
) -> Batch:
    """Crops apart from each other in the frames that count, with the coarse frames about them."""
    size = (1, CROP, CROP)
    positions = Crops([[field.isel(time=frames)]], FACTOR, size, WET).places_apart(args.crops, seed)
    positions[:, 1] = np.array(frames)[positions[:, 1]]
    return Crops([[field]], FACTOR, size, WET, neighbours=model.neighbours, motion=model.moving).at(positions, FACTOR)


def picture(args: argparse.Namespace) -> None:
    """Truth and a member of the wettest crop of every place: of each system, and calibrated."""
    systems = [name for name in args.systems if (folder_of(name, 0, args) / "command.txt").is_file()]
    models = {name: load(folder_of(name, 0, args) / "model").eval() for name in systems}
    rows = []
    for place in args.places:
        shown: dict[str, Any] = {}
        for name, model in models.items():
            field, frames, few = fields(place, model.neighbours, args)
            batch = crops_of(field, frames, model, args)
            wettest = int(batch.fine.nan_to_num().mean((1, 2, 3, 4)).argsort(descending=True)[1])
            one = batch[slice(wettest, wettest + 1)]
            shown |= {f"{place}: coarse": one.coarse[0, 0, 0], "truth": one.fine[0, 0, 0]}
            model.calibrated = Calibrated()
            shown[name] = ensemble(model, one, 1)[0, 0, 0]
            with suppress(InputError):
                finescale.calibrate(model, few)
            shown[f"{name}, calibrated"] = ensemble(model, one, 1)[0, 0, 0]
        rows.append(shown)
    rain_maps(rows, args.results / "texture.png", limit=500_000)


def told_of(row: Mapping[str, Any], form: str) -> str:
    """A score in its form; nothing where it is not there."""
    value = row.get(form.split("{")[1].split(":")[0])
    return "" if value is None or not np.isfinite(value) else form.format(**row)


def write(found: dict[str, Any], args: argparse.Namespace) -> None:
    report(found, "texture", "Texture and spread, at home and elsewhere", args)


def report(found: dict[str, Any], name: str, title: str, args: argparse.Namespace) -> None:
    """NAME.json, and NAME.md with a table for each place."""
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / f"{name}.json").write_text(json.dumps(rounded(found), indent=1) + "\n")
    lines = [
        f"# {title}\n",
        f"1x8, crops of 128², {args.members} members, {args.minutes:g} minutes of one core each. "
        f"`benchmarks/{name}.py` says what is compared; calibrated: on five earlier fields of the network.\n",
    ]
    if any("with a head" in name for here in found["places"].values() for name in here["systems"]):
        lines.append("Systems with a head, or called earlier, are of finescale at commit ad48a73.\n")
    for place, here in found["places"].items():
        shown = {
            title: form for title, form in SCORES.items() if any(told_of(r, form) for r in here["systems"].values())
        }
        lines += [f"\n## {place}: {here['crops']} crops\n", f"| system | {' | '.join(shown)} | calibrated |"]
        lines.append(f"|{'---|' * (len(shown) + 2)}")
        farm = here["systems"]["RainFARM"]
        truth = {key: farm.get(f"{key}_truth", np.nan) for key in farm}
        for system, row in {"truth": truth, **here["systems"]}.items():
            if "failed" in row:
                continue
            values = " | ".join(told_of(row, form) for form in shown.values())
            told = row.get("calibrated", {})
            said = ", ".join(f"{key} {value:.3g}" for key, value in told.items() if value is not None)
            lines.append(f"| {system} | {values} | {said} |")
    lines += ["\n## Training\n", "| system | parameters | command |", "|---|---|---|"]
    for system, row in found["systems"].items():
        size = sum(row["parameters"].values()) / 1e6
        lines.append(f"| {system} | {size:.2f} M | `{row['command']}` |")
    (args.results / f"{name}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
