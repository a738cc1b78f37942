"""Train the models that come with the package, and write them as the package has them.

    python benchmarks/shipped.py DATA [--models rain sst] [--minutes 41] [--cache CACHE]

DATA is a folder with the files of `OF`, all openly licensed. Each is one training by a configuration of
benchmarks/configs, and `rain` a second one from what that made, as by `finescale fit --start`; an interrupted one goes
on, and one that lies under --cache is taken. MRMS is cut at -94 degrees
first, so that what lies east of it stays unseen. A model that ships has its weights in half precision, no masks of its
training fields and, of rain, the lifetime of detail that its networks have (the median of those in which it can be
followed); about.yaml has hashes of its files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import xarray as xr
import yaml

import finescale
from finescale.config.load import load
from finescale.config.shipped import ABOUT, FILES, MODELS
from finescale.data.files import open_store, select
from finescale.errors import InputError
from finescale.model.calibrated import Calibrated

MRMS, WEST = "mrms_west.nc", -94.0


@dataclass(frozen=True)
class Shipped:
    """What a model is trained on, and what is said of it.

    Attributes:
        files: fine fields.
        changes: settings that the configuration leaves to this script.
        then: settings of a second training that goes on from the first; none without.
        lives: files whose detail is followed for its lifetime.
        said: how long the package's was trained, and by what.
        about: of about.yaml, without hashes.
    """

    files: tuple[str, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    then: Mapping[str, Any] = field(default_factory=dict)
    lives: tuple[str, ...] = ()
    said: str = ""
    about: Mapping[str, str] = field(default_factory=dict)


OF = {
    "rain": Shipped(
        (
            MRMS,
            "fmi_20160928.nc",
            "dwd_radklim_20170816.nc",
            "dwd_radolan_ry_20210823.nc",
            "opera_cirrus_20241126.nc",
            "meteonet_radar_nw_201608.nc",
            "meteonet_radar_se_201608.nc",
        ),
        # A start keeps no balance, which is of its own fields.
        # Frames further apart, and smoother fields, than any of its own are for networks that it has not seen.
        then={"data.balance": 0.7, "data.skips": 5, "data.smoothing": 3.0, "train.minutes": 264, "train.mixing": 1},
        lives=(MRMS, "fmi_20160928.nc", "opera_cirrus_20241126.nc"),
        said="6,932 steps by two processes (torchrun --standalone --nproc-per-node 2 -m finescale fit …) in 41 minutes "
        "each; from what these made 6,870 by one in 66; then, with filters of the noise instead of what varied its "
        "blocks, all of one strength at first, 5,457 in 56; and, with directions of the noise, 3,971 in 50 and 1,656 "
        "in 20; then, with data.skips=5, data.smoothing=3 and a rate of .0005, 9,238 in 72; then, with directions in "
        "the score and a rate of .0003, 6,992 in 56, of which the weights after 3,887 had the least validation loss",
        about={
            "summary": "Rain of weather radar, cells of about 1 km every 2 to 5 minutes, where time is not refined up "
            "to 30, from coarser fields; one evaluation a member.",
            "data": "MRMS west of 94° W, 2019-06-10 (NOAA, public domain); FMI 2016-09-28 (CC BY 4.0); DWD RADKLIM "
            "2017-08-16 and RADOLAN RY 2021-08-23 (GeoNutzV); OPERA CIRRUS 2024-11-26 (CC BY 4.0); MeteoNet radar, "
            "August 2016 (Etalab 2.0)",
            "limits": "It must not be used to correct another model's rain, whose totals it keeps; nor, without fine "
            "fields to check it on, for fine cells that are not 1 to 2 km wide, hourly or daily sums, or snow.",
        },
    ),
    "sst": Shipped(
        ("sst_tasman_1982_2013.nc",),
        {"data.train": {"time": [None, "2009-01-01"]}, "data.valid": {"time": ["2009-01-01", "2011-01-01"]}},
        about={
            "summary": "Daily sea-surface temperature of a quarter of a degree, of ONE sea, off Tasmania; members, or "
            "their standard deviation in closed form.",
            "data": "NOAA OI SST V2 off Tasmania, 1982 to 2008 (public domain)",
            "limits": "It must not be used for other seas or cells without fine fields to check it on.",
        },
    ),
}
LICENCE = "Apache-2.0; of the data as named"
TOLD_AT = {"rain": "1x8", "sst": "1x4"}
"""The factor whose scores the card has."""
LIVES_AT, FRAMES = "1x8", 24
"""Factor and frames at which lifetimes are measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", nargs="+", default=list(OF), choices=list(OF))
    parser.add_argument("--minutes", type=float, help="of processor time, in place of the configuration's")
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/shipped"))
    parser.add_argument("--out", type=Path, default=MODELS)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="what unseen.py has found")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    for name in args.models:
        one, trained = OF[name], args.cache / name
        files = {file: cut(args) if file == MRMS else args.data / file for file in one.files}
        if not (trained / "weights.safetensors").is_file():
            train(name, one, list(map(str, files.values())), args)
        ship(trained, one, files, args.out / name)
        tell(args.out / name, trained, one, args)


def train(name: str, one: Shipped, paths: list[str], args: argparse.Namespace) -> None:
    """One training, or two."""
    trained, first = args.cache / name, args.cache / (f"{name}-first" if one.then else name)
    if not (first / "weights.safetensors").is_file():
        changes = {"data.path": paths, **one.changes} | (
            {} if args.minutes is None else {"train.minutes": args.minutes}
        )
        finescale.fit(Path(__file__).parent / "configs" / f"{name}.yaml", first, changes)
    if one.then:
        finescale.fit(None, trained, {"data.path": paths, **one.then}, start=first)


def cut(args: argparse.Namespace) -> Path:
    """MRMS west of `WEST`."""
    path: Path = args.cache / "mrms.nc"
    if not path.is_file():
        with xr.open_dataset(args.data / MRMS) as ds:
            part = ds.sel(lon=slice(None, WEST - 1e-4))
            part.to_netcdf(path, encoding={name: {"zlib": True, "complevel": 1} for name in part})
    return path


def ship(trained: Path, one: Shipped, files: Mapping[str, Path], out: Path) -> None:
    """Write the model as the package has it."""
    model = load(trained, device="cpu")
    variable = next(iter(model.variables))
    lives = [found for name in one.lives if (found := lifetime(trained, files[name], variable)) is not None]
    if lives:
        model.calibrated = Calibrated(lifetime=float(f"{median(lives):.2g}"))
        model.config["calibrated"] = model.calibrated.plain()
    model.remember(replace(model.remembers, masks=[]), [])
    paths = model.config["data"]["path"]
    model.config["data"]["path"] = [Path(path).name for path in ([paths] if isinstance(paths, str) else paths)]
    for settings in model.config["variables"].values():
        settings.pop("missing", None)
    for parameter in model.parameters():  # statistics stay as they are
        parameter.data = parameter.data.to(torch.float16)
    model.save(out)


def tell(out: Path, trained: Path, one: Shipped, args: argparse.Namespace) -> None:
    """Write about.yaml and the card."""
    hashes = {file: hashlib.sha256((out / file).read_bytes()).hexdigest() for file in FILES}
    file = args.results / "unseen.json"
    found = json.loads(file.read_text())["networks"] if file.is_file() else {}
    about = {**one.about, "licence": LICENCE, "scores": scores(out.name, found), "sha256": hashes}
    (out / ABOUT).write_text(yaml.safe_dump(about, sort_keys=False, allow_unicode=True))
    model, said = load(out), (trained / "README.md").read_text().splitlines()
    lines = [
        f"# {out.name}",
        "",
        about["summary"],
        "",
        f"- Factors (time x space): {model.factors}",
        f"- Limits: {about['limits']}",
        f"- Data: {about['data']}",
        f"- Licence: {LICENCE}",
        f"- Scores: {about['scores']} (benchmarks/results/unseen.md has all of them)",
        f"- Training: `python benchmarks/shipped.py DATA --models {out.name}`, benchmarks/configs/{out.name}.yaml"
        + (f"; what is here: {one.said}" if one.said else ""),
        *(f"- SHA-256 of {file}: {value}" for file, value in hashes.items()),
        "",
        "What `finescale fit` said of it:",
        "",
        *[line for line in said if line.startswith("- ") and not line.startswith(("- Licence", "- Scores"))],
        "",
    ]
    (out / "README.md").write_text("\n".join(lines))


def scores(name: str, networks: Mapping[str, Any]) -> str:
    """CRPS over a baseline's on what it has not seen, in a line."""
    base = {"rain": ("over_rainfarm", "RainFARM"), "sst": ("over_noise", "bicubic interpolation with noise")}[name]
    told = []
    for network, factors in networks.items():
        row = factors.get(TOLD_AT[name], {}).get(name, {})
        if base[0] in row:
            ratio, low, high = row[base[0]]
            told.append(f"{network} {ratio:.2f} ({low:.2f} to {high:.2f}), spread–skill {row['spread_skill']:.2f}")
    return f"CRPS over that of {base[1]} at {TOLD_AT[name]}, not seen in training: {'; '.join(told)}" if told else ""


def lifetime(trained: Path, path: Path, variable: str) -> float | None:
    """Seconds that detail lives in a network; None where it cannot be followed."""
    field = select(open_store((str(path),), None), variable, str(path))
    field = field.isel({field.dims[0]: slice(FRAMES)}).load()
    try:
        return finescale.calibrate(load(trained, device="cpu"), field, factor=LIVES_AT, crops=8).calibrated.lifetime
    except InputError:
        return None


if __name__ == "__main__":
    main()
