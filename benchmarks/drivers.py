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

import numpy as np
import xarray as xr
import yaml
from protocol import fit_command, fitted, processor, rounded

import finescale
from finescale.config.load import load
from finescale.data.blocks import cells
from finescale.data.files import select
from finescale.data.sources import Source
from finescale.data.writing import write
from finescale.grids.factor import Factor
from finescale.verify.quantile_mapping import quantile_mapping

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
            "both variables, steps of two models": {"train.steps": 4000},
            "without predictors": {"data.predictors": None},
            "without predictors, steps of two models": {"data.predictors": None, "train.steps": 4000},
            "without elevation": {"data.static": None},
            "rain alone": {"variables": ["pr"]},
            "rain alone, without predictors": {"variables": ["pr"], "data.predictors": None},
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


def folder_of(part: str, system: str, seed: int, args: argparse.Namespace) -> Path:
    return Path(args.work) / part / f"{system.replace(' ', '-').replace(',', '')}-{seed}"


def judged(part: str, system: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train, downscale and verify one system, where that is not done yet."""
    place, files = PARTS[part], prepared(part, args)
    folder = folder_of(part, system, seed, args)
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


def two_models(args: argparse.Namespace, seed: int) -> dict[str, Any] | None:
    """Rain of one model beside temperature of another, where both are there; members know nothing of each other."""
    folder, truth = args.work / "iberia", prepared("iberia", args)["truth"]
    parts = [folder / f"{name}-alone-{seed}" / "ensemble.nc" for name in ("rain", "temperature")]
    if not all(path.is_file() for path in parts):
        return None
    both = folder / f"two-models-{seed}.nc"
    if not both.is_file():
        with xr.open_dataset(parts[0]) as rain, xr.open_dataset(parts[1]) as temperature:
            write(rain.load().assign(tas=temperature.tas.load()), both)
    return verified("two models", both, truth, folder / f"two-models-{seed}", seed)


def quantile_mapped(args: argparse.Namespace) -> dict[str, Any]:
    """NCEP on the blocks, interpolated, each cell's distribution mapped to E-OBS's of the training winters."""
    folder, files = args.work / "iberia", prepared("iberia", args)
    out = folder / "quantile-mapping.nc"
    if not out.is_file():
        with xr.open_dataset(files["truth"]) as truth, xr.open_dataset(args.data / PARTS["iberia"].fine) as fine:
            truth = truth.load()
            train = fine.sel(time=slice(None, "1997-06-01"), lat=truth.lat, lon=truth.lon).load()
        found = {}
        for name, wet in (("pr", 1.0), ("tas", None)):
            with xr.open_dataset(args.data / PARTS["iberia"].coarse[0]) as other:
                source = Source(select(other.load(), name), False, "ncep")
            known, asked = (source.on(cells(ds[name]).coarsen(Factor(1, 4))) for ds in (train, truth))
            mapped = quantile_mapping(known, train[name].values, asked, wet=wet, members=MEMBERS)
            found[name] = (("realization", *truth[name].dims), mapped.astype("float32"), truth[name].attrs)
        write(xr.Dataset(found, {**truth.coords, "realization": range(MEMBERS)}), out)
    return verified("quantile mapping", out, files["truth"], folder / "quantile-mapping", 0)


def verified(system: str, ensemble: Path, truth: Path, folder: Path, seed: int) -> dict[str, Any]:
    """The row of an ensemble that no model of a row made alone."""
    if not (folder / "scores.json").is_file():
        finescale.verify(ensemble, truth, folder, baselines=[], overwrite=True)
    return {
        "part": "iberia",
        "system": system,
        "seed": seed,
        "scores": json.loads((folder / "scores.json").read_text()),
    }


KEYS = ("crps", "mae", "rmse", "spread_skill", "p999_bias", "wet_day_frequency", "wet_day_frequency_truth")
JOINT = ("joint_energy_score", "joint_energy_score_blocks", "joint_variogram_score", "variable_correlation")


def short(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the scores that are compared, and where there are several variables those of all together."""
    scores = row["scores"]
    variables = scores.get("variables") or {str(scores["variable"]): scores}
    kept = {
        name: {key: one["systems"]["ensemble"][key] for key in KEYS if key in one["systems"]["ensemble"]}
        | {"crps_interval": one.get("intervals", {}).get("ensemble", {}).get("crps")}
        for name, one in variables.items()
    }
    joint = scores.get("joint", {}).get("systems", {}).get("ensemble", {})
    return row | {"scores": kept, "joint": {key: joint[key] for key in JOINT if key in joint}}


def report(rows: list[dict[str, Any]], out: Path) -> None:
    """drivers.json, and drivers.md with a table for each part and the commands."""
    out.with_suffix(".json").write_text(json.dumps(rounded(rows), indent=1) + "\n")
    lines = ["# Real drivers", "", f"{MEMBERS} members. {processor()}; budgets are optimizer steps.", ""]
    for part in dict.fromkeys(row["part"] for row in rows):
        lines += [f"## {part}", ""]
        lines += [
            "| system | variable | fair CRPS (95 %) | MAE | spread–skill | 99.9th percentile | wet days (truth) | "
            "energy score |"
        ]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for row in (row for row in rows if row["part"] == part):
            for name, one in row["scores"].items():
                low, high = one["crps_interval"] or (float("nan"),) * 2
                wet = one.get("wet_day_frequency")
                days = "–" if wet is None else f"{wet:.3f} ({one['wet_day_frequency_truth']:.3f})"
                joint = row["joint"].get("joint_energy_score")
                lines.append(
                    f"| {row['system']} | {name} | {one['crps']:.4g} ({low:.4g}–{high:.4g}) | {one['mae']:.4g} | "
                    f"{one['spread_skill']:.3f} | {one.get('p999_bias', float('nan')):+.2f} | {days} | "
                    f"{'–' if joint is None else f'{joint:.4f}'} |"
                )
        lines += ["", "Trained by:", ""]
        lines += [
            f"- {row['system']} ({row['steps']} steps, {row['processor_seconds'] / 60:.1f} minutes of one core, "
            f"{sum(row['parameters'].values()) / 1e6:.2f} M parameters): `{row['command']}`"
            for row in rows
            if row["part"] == part and "command" in row
        ]
        lines.append("")
    out.with_suffix(".md").write_text("\n".join(lines))


def picture(args: argparse.Namespace, out: Path) -> None:
    """The wettest of the judged days: what NCEP says, two members, and E-OBS."""
    from matplotlib.figure import Figure

    files = prepared("iberia", args)
    with xr.open_dataset(files["truth"]) as ds, xr.open_dataset(files["coarse 0"]) as other:
        truth, ncep = ds.load(), other.load()
    with xr.open_dataset(folder_of("iberia", "both variables", 0, args) / "ensemble.nc") as ds:
        day = int(np.argmax(truth.pr.mean(("lat", "lon")).values))
        members = ds.isel(time=day).load()
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    axes = figure.subplots(2, 4)
    scales = {"pr": ("YlGnBu", 0, "mm in the day"), "tas": ("RdYlBu_r", None, "°C")}
    for row, (name, (colours, low, unit)) in zip(axes, scales.items(), strict=True):
        source = Source(select(ncep, name), False, "ncep").on(cells(truth[name]).coarsen(Factor(1, 4)))[day]
        panels = {
            "NCEP, on blocks of 2°": np.repeat(np.repeat(source, 4, 0), 4, 1),
            "member 1": members[name][0].values,
            "member 2": members[name][1].values,
            "E-OBS (sea missing)": truth[name][day].values,
        }
        values = np.stack(list(panels.values()))
        limits = {"vmin": np.nanmin(values) if low is None else low, "vmax": np.nanpercentile(values, 99.5)}
        for axis, (title, field) in zip(row, panels.items(), strict=True):
            image = axis.pcolormesh(truth.lon, truth.lat, field, cmap=colours, **limits)
            axis.set(title=title, aspect=1.3, xticks=[], yticks=[])
        figure.colorbar(image, ax=row, label=unit, shrink=0.9)
    figure.suptitle(f"Iberia, {np.datetime_as_string(truth.time.values[day], 'D')}, a winter kept aside")
    figure.savefig(out, dpi=80)


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
    parser.add_argument("--ready", action="store_true", help="report what is there; train nothing")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for part in args.parts.split(","):
        for seed in map(int, args.seeds.split(",")):
            for system in args.systems.split(";") if args.systems else PARTS[part].systems:
                if args.ready and not (folder_of(part, system, seed, args) / "ensemble.nc").is_file():
                    continue
                rows.append(short(judged(part, system, seed, args)))
                print(part, system, seed, flush=True)
            both = two_models(args, seed) if part == "iberia" else None
            rows += [short(both)] if both else []
        rows += [short(quantile_mapped(args))] if part == "iberia" else []
        report(rows, args.results / "drivers")
        if part == "iberia":
            picture(args, args.results / "drivers.png")


if __name__ == "__main__":
    main()
