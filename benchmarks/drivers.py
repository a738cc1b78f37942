"""Real drivers: coarse and fine of different sources, several variables, predictors, elevation.

    python benchmarks/drivers.py DATA --work FOLDER [--parts iberia,france,antilles] [--steps N] [--seeds 0,1,2]

DATA is a folder with the pair_*, arome_antilles_* and elevation_europe_* files. Every model is trained by the command
that its row names, from a configuration in benchmarks/configs; budgets are optimizer steps. Ensembles are made by
`finescale.downscale` of times or places that training has not seen, and judged by `finescale.verify`. Models, ensembles
and scores stay under --work; nothing is made twice. Written as they come: benchmarks/results/drivers.json and .md.

iberia      NCEP's daily rain and temperature, winters 1983-1997, to E-OBS; judged on 1998-2002
france      ARPEGE to AROME, one day hour by hour; judged on the last hours; both modes
antilles    six variables of AROME from their own block means; judged east of 57 W
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr
import yaml
from protocol import fit_command, fitted

import finescale
from finescale.config.build import load
from finescale.data.files import write

MEMBERS = 8
CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class Part:
    """One pair of sources.

    Attributes:
        fine: the file of the truth.
        test: the range of the truth that is judged.
        coarse: files of the other source; none where conditions are block means of the truth.
        systems: settings over the configuration, by name.
        own: systems that are told block means of the truth, not the other source's values.
    """

    fine: str
    test: dict[str, list[Any]]
    coarse: tuple[str, ...]
    systems: dict[str, dict[str, Any]]
    own: tuple[str, ...] = ()


PARTS = {
    "iberia": Part(
        "pair_iberia_eobs_djf.nc",
        {"time": ["1997-06-01", None]},
        ("pair_iberia_ncep_djf.nc", "pair_iberia_ncep_predictors_djf.nc"),
        {
            "both variables": {},
            "without predictors": {"data.predictors": None},
            "without elevation": {"data.static": None},
            "rain alone": {"variables": ["pr"]},
            "temperature alone": {"variables": ["tas"], "transform": "standardize", "constraint": "additive"},
        },
    ),
    "france": Part(
        "pair_france_se_arome_20180501.nc",
        {"time": ["2018-05-01T17:30", None]},
        ("pair_france_se_arpege_20180501.nc",),
        {
            "direct": {"data.mode": "direct"},
            "perfect prognosis": {},
            "perfect prognosis, told block means": {},
            "told block means, without predictors": {"data.coarse": None, "data.predictors": None},
        },
        ("perfect prognosis, told block means", "told block means, without predictors"),
    ),
    "antilles": Part("arome_antilles_20221112.nc", {"lon": [-57, None]}, (), {"six variables": {}}, ("six variables",)),
}


def settings_of(part: str, system: str, args: argparse.Namespace, seed: int) -> tuple[Path, dict[str, Any]]:
    """The configuration of a part, and what its system sets besides; files with their folder."""
    path = CONFIGS / f"{part}.yaml"
    data = yaml.safe_load(path.read_text())["data"]
    changes = dict(PARTS[part].systems[system]) | {"train.seed": seed}
    for key in ("path", "coarse", "static"):
        value = changes.get(f"data.{key}", data.get(key))
        if value is not None:
            names = [str(args.data / name) for name in ([value] if isinstance(value, str) else value)]
            changes[f"data.{key}"] = names if isinstance(value, list) else names[0]
    if args.steps:
        changes["train.steps"] = args.steps
    return path, changes


def prepared(part: str, args: argparse.Namespace) -> dict[str, Path]:
    """The truth that is judged, its block means, and the other source at its times, as files."""
    folder, place = args.work / part, PARTS[part]
    folder.mkdir(parents=True, exist_ok=True)
    found = {"truth": folder / "truth.nc", "own": folder / "own.nc"}
    with xr.open_dataset(args.data / place.fine) as ds:
        for name, (low, high) in place.test.items():
            ds = ds.sel({name: slice(low, high)})
        dims = {dim: ds.sizes[dim] // 4 * 4 for dim in ("lat", "lon")}
        # Blocks as `downscale --onto` has them: from the south-west corner on.
        ds = ds.sortby(["lat", "lon"]).isel({dim: slice(n) for dim, n in dims.items()}).load()
    several = [name for name in ds.data_vars if "time" in ds[name].dims and ds[name].ndim == 3]
    if not found["truth"].is_file():
        write(ds[several], found["truth"], overwrite=True)
        own = [finescale.coarsen(found["truth"], "1x4", variable=str(name)) for name in several]
        write(xr.merge(own, combine_attrs="override"), found["own"], overwrite=True)
    for number, name in enumerate(place.coarse):
        found[f"coarse {number}"] = path = folder / f"coarse-{number}.nc"
        if not path.is_file():
            with xr.open_dataset(args.data / name) as other:
                write(other.sel(time=slice(ds.time[0], ds.time[-1])).load(), path, overwrite=True)
    return found


def judged(part: str, system: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train, downscale and verify one system, where that is not done yet."""
    place, files = PARTS[part], prepared(part, args)
    folder = args.work / part / f"{system.replace(' ', '-').replace(',', '')}-{seed}"
    config, changes = settings_of(part, system, args, seed)
    model, ensemble, scores = folder / "model", folder / "ensemble.nc", folder / "scores"
    folder.mkdir(parents=True, exist_ok=True)
    if not (model / "time.json").is_file():
        fitted(str(config), changes, model)
    if not ensemble.is_file():
        told = [files["own"]] if system in place.own else []
        told += [path for name, path in files.items() if name.startswith("coarse")]
        asked: dict[str, Any] = {"members": MEMBERS, "seed": 1, "progress": False, "onto": files["truth"]}
        if changes.get("data.static"):
            asked["static"] = changes["data.static"]
        finescale.downscale(model, [str(path) for path in told], ensemble, overwrite=True, **asked)
    if not (scores / "scores.json").is_file():
        finescale.verify(ensemble, files["truth"], scores, baselines=[], overwrite=True)
    loaded = load(model, "cpu")
    return {
        "part": part,
        "system": system,
        "seed": seed,
        "command": fit_command(f"benchmarks/configs/{config.name}", changes),
        "parameters": loaded.parameters_by_part,
        "steps": loaded.config["train"]["steps"],
        **json.loads((model / "time.json").read_text()),
        "scores": json.loads((scores / "scores.json").read_text()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--systems", help="names separated by semicolons; all unless given")
    parser.add_argument(
        "--steps", type=int, help="optimizer steps, for a trial; those of the configurations unless given"
    )
    parser.add_argument("--seeds", default="0")
    args = parser.parse_args()
    for part in args.parts.split(","):
        for seed in map(int, args.seeds.split(",")):
            for system in args.systems.split(";") if args.systems else PARTS[part].systems:
                row = judged(part, system, seed, args)
                print(part, system, seed, row["processor_seconds"], flush=True)


if __name__ == "__main__":
    main()
