"""What other tools say of every kind of output: cdo, ncdump, gdalinfo, and a checker of the CF conventions.

    python benchmarks/other_tools.py [--results benchmarks/results]

Takes cdo, netcdf-bin and gdal-bin of Debian, and the package cfchecker with libudunits2. Fields are made up and the
models untrained: it is files that are looked at. A tool complains where its exit code is not 0 or it says of an error
or a warning; `KNOWN` has what each is known to say of any such file. The checker, which would fetch the tables of
names, is given the part of them that is used here. ``gridboxmean`` is the largest difference between the coarse field
and cdo's block means of the members, over the largest coarse value; n cells summed in single precision are off by at
most n eps, and steps of s by s / 2. Writes other_tools.json and other_tools.md.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

import finescale
from finescale.config.build import build_model
from finescale.data.synthetic import synthetic_rain
from finescale.model.remembers import Remembers, Seen

UNET = {"kind": "unet", "width": 8, "multipliers": [1, 1], "blocks": 1}
TINY: dict[str, Any] = {
    "factor": "1x4",
    "variables": {"rain": {"units": "mm h-1"}},
    "transform": [{"kind": "log1p", "scale": 0.1, "threshold": 0.05}, "standardize"],
    "mean": {"kind": "network", "fold": 2, "backbone": UNET},
    "latent": {"kind": "wavelet", "levels": 1},
    "denoiser": {"backbone": UNET},
    "process": {"schedule": {"kind": "edm", "sigma_max": 10}, "sampler": "heun", "steps": 3},
    "constraint": "multiplicative",
    "precision": "float32",
}
TWO: dict[str, Any] = {
    "variables": {
        "rain": {"units": "mm h-1", "transform": TINY["transform"], "constraint": "multiplicative"},
        "tas": {"units": "K", "transform": "standardize", "constraint": "additive"},
    },
}
NAMES = {
    "time": "s", "latitude": "degree_north", "longitude": "degree_east", "grid_latitude": "degree",
    "grid_longitude": "degree", "realization": "1", "lwe_precipitation_rate": "m s-1", "air_temperature": "K",
}  # fmt: skip
"""Standard names that are used here, with their units."""
COMPLAINT = re.compile(r"\b(error|warning|warn|unsupported|not supported|inconsistent)\b", re.IGNORECASE)


KNOWN = {
    "does not appear to contain CF Convention data": "cfchecks knows CF-1.8, Conventions is CF-1.11",
    "(4): Invalid value for axis attribute": "realization has axis E, which CF does not list",
    "is not a Time": "gdal's word on any fourth dimension: it makes a band of each time and member",
    "Time must be the first dimension": "cdo reads no other order",
    "No data arrays found": "therefore it finds nothing",
    "Unsupported file structure": "therefore it ends",
    "variable realization should have bounds": "a standard deviation over members, which are a coordinate here too",
    "not recognized as a supported file format": "not read: this gdal knows no Zarr of format 3",
}


def model(**changes: Any) -> Any:
    torch.manual_seed(0)
    made = build_model({key: value for key, value in (TINY | changes).items() if value is not None}).eval()
    for parameter in made.parameters():
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.1)
    made.config["remembers"] = Remembers(variables={"rain": Seen(0.0, 60.0)}).plain()
    return made


def rotated(rain: xr.Dataset) -> xr.Dataset:
    """The rain about a rotated pole, with the latitude and longitude of each cell."""
    _, h, w = rain["rain"].shape
    rlat, rlon = 0.44 * (np.arange(h) + 0.5) + 20.0, 0.44 * (np.arange(w) + 0.5) - 8.0
    phi, lam, pole = np.deg2rad(rlat)[:, None], np.deg2rad(rlon)[None], np.deg2rad(39.25)
    lat = np.arcsin(np.sin(pole) * np.sin(phi) + np.cos(pole) * np.cos(phi) * np.cos(lam))
    east = np.arctan2(np.cos(phi) * np.sin(lam), np.sin(pole) * np.cos(phi) * np.cos(lam) - np.cos(pole) * np.sin(phi))
    degrees, dims = {"units": "degrees"}, ("rlat", "rlon")
    attrs = rain["rain"].attrs | {"grid_mapping": "pole"}
    return xr.Dataset(
        {"rain": (("time", *dims), rain["rain"].values, attrs)},
        coords={
            "time": rain["time"],
            "rlat": ("rlat", rlat, degrees | {"standard_name": "grid_latitude", "axis": "Y"}),
            "rlon": ("rlon", rlon, degrees | {"standard_name": "grid_longitude", "axis": "X"}),
            "lat": (dims, np.rad2deg(lat), {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": (dims, np.rad2deg(east) + 18.0, {"units": "degrees_east", "standard_name": "longitude"}),
            "pole": ((), 0, {"grid_mapping_name": "rotated_latitude_longitude", "grid_north_pole_latitude": 39.25,
                             "grid_north_pole_longitude": -162.0}),
        },
    )  # fmt: skip


def geographic(rain: xr.Dataset) -> xr.Dataset:
    """The rain on longitudes and latitudes, with the names of CF."""
    t, h, w = rain["rain"].shape
    values = rain["rain"].values
    attrs = {
        "units": "mm h-1",
        "standard_name": "lwe_precipitation_rate",
        "long_name": "rain",
        "cell_methods": "time: point",
    }
    return xr.Dataset(
        {"rain": (("time", "lat", "lon"), values, attrs)},
        coords={
            "time": ("time", np.datetime64("2020-06-01", "ns") + np.arange(t) * np.timedelta64(1, "h")),
            "lat": ("lat", 45 + 0.02 * (np.arange(h) + 0.5), {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", 5 + 0.02 * (np.arange(w) + 0.5), {"units": "degrees_east", "standard_name": "longitude"}),
        },
    )


def outputs(folder: Path) -> dict[str, Path]:
    """A file of every kind."""
    fine = geographic(synthetic_rain((4, 48, 64), seed=1).to_dataset(name="rain"))
    fine.to_netcdf(folder / "fine.nc")
    made = {"block means": folder / "coarse.nc"}
    finescale.coarsen(str(folder / "fine.nc"), "1x4", made["block means"])
    coarse = xr.open_dataset(made["block means"]).load()
    plain = model()

    def downscaled(name: str, given: Any = coarse, by: Any = plain, suffix: str = ".nc", **settings: Any) -> None:
        made[name] = folder / f"{name.replace(' ', '-').replace(',', '')}{suffix}"
        settings = {"members": 2} | settings
        finescale.downscale(by, given, made[name], progress=False, **settings)

    downscaled("members")
    downscaled("one member", members=1)
    downscaled("members, in steps", precision="0.01")
    downscaled("members, to digits", precision="3digits")
    downscaled("members first", order="realization,time,y,x")
    downscaled("one time", coarse.isel(time=[0]))
    downscaled("standard deviation and quantiles", variance="members")
    land = fine["rain"].isel(time=0, drop=True)
    land = (land * 0 + (np.arange(64) < 40)).rename("mask").to_dataset()
    land["mask"].attrs = {}
    downscaled("mask", mask=land)
    rotated(fine).to_netcdf(folder / "rotated.nc")
    made["block means, rotated pole"] = folder / "rotated-coarse.nc"
    finescale.coarsen(str(folder / "rotated.nc"), "1x4", made["block means, rotated pole"])
    downscaled("members, rotated pole", str(made["block means, rotated pole"]))
    warm = (
        coarse["rain"].copy(data=280 + coarse["rain"].values).assign_attrs(units="K", standard_name="air_temperature")
    )
    downscaled("two variables", coarse.assign(tas=warm.assign_attrs(long_name="temperature")),
               model(**TWO, transform=None, constraint=None))  # fmt: skip
    downscaled("members, Zarr", suffix=".zarr")
    downscaled("members, Zarr in steps", suffix=".zarr", precision="0.01")
    return made


def tables(folder: Path) -> list[str]:
    """Options of the checker that name its tables."""
    head = "<version_number>0</version_number><last_modified>2026-11-21</last_modified>"
    head += "<date>2026-11-21</date>"
    names = "".join(f'<entry id="{n}"><canonical_units>{u}</canonical_units></entry>' for n, u in NAMES.items())
    contents = {"-s": f"<standard_name_table>{head}{names}</standard_name_table>"}
    contents |= {"-a": f"<area_type_table>{head}<entry id='land'/></area_type_table>"}
    contents |= {"-r": f"<standard_name_table>{head}<entry id='global'/></standard_name_table>"}
    for option, content in contents.items():
        (folder / f"table{option}.xml").write_text(content)
    return [word for option in contents for word in (option, str(folder / f"table{option}.xml"))]


def said(command: list[str]) -> str:
    """Complaints of a tool: none, or the first."""
    done = subprocess.run(command, capture_output=True, text=True)
    text = done.stdout + done.stderr
    text = done.stderr if command[0] == "ncdump" else done.stdout + done.stderr
    told = r"(FATAL|ERROR|WARN)\b" if command[0].endswith("cfchecks") else COMPLAINT
    lines = [line.strip() for line in text.splitlines() if re.search(told, line)]
    found = [line for line in lines if not any(known in line for known in KNOWN)]
    if not lines and done.returncode:
        found = text.splitlines()[-1:] or [f"exit code {done.returncode}"]
    notes = [n for n, known in enumerate(KNOWN, 1) if any(known in line for line in lines)]
    return (found[0][:120] if found else "none") + "".join(f" [{n}]" for n in notes)


def gridboxmean(fine: Path, coarse: Path, folder: Path) -> float:
    """max |cdo's block means − coarse| / max coarse."""
    out = folder / "boxes.nc"
    subprocess.run(
        ["cdo", "-s", "-O", "-b", "F64", "gridboxmean,4,4", str(fine), str(out)], check=True, capture_output=True
    )
    means, wanted = xr.open_dataset(out)["rain"], xr.open_dataset(coarse)["rain"]
    if "realization" in means.dims:
        means = means.transpose("realization", ...)
    return float(np.nanmax(np.abs(means.values - wanted.values)) / np.nanmax(wanted.values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    checker = str(Path(sys.executable).parent / "cfchecks")
    rows: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made, options = outputs(folder), tables(folder)
        for kind, path in made.items():
            zarr = path.suffix == ".zarr"
            rows[kind] = {
                "cfchecks": "–" if zarr else said([checker, *options, "-v", "1.8", str(path)]),
                "cdo infon": "–" if zarr else said(["cdo", "infon", str(path)]),
                "ncdump -h": "–" if zarr else said(["ncdump", "-h", str(path)]),
                "gdalinfo": said(["gdalinfo", str(path)]),
            }
        for kind in ("members", "one member", "members, in steps"):
            rows[kind]["gridboxmean"] = f"{gridboxmean(made[kind], made['block means'], folder):.1e}"
    given.results.mkdir(exist_ok=True)
    (given.results / "other_tools.json").write_text(json.dumps(rows, indent=1))
    tools = ["cfchecks", "cdo infon", "ncdump -h", "gdalinfo", "gridboxmean"]
    lines = ["| output | " + " | ".join(tools) + " |", "|---" * (len(tools) + 1) + "|"]
    lines += [f"| {kind} | " + " | ".join(row.get(tool, "") for tool in tools) + " |" for kind, row in rows.items()]
    lines += ["", *(f"[{n}] {why}" for n, why in enumerate(KNOWN.values(), 1))]
    (given.results / "other_tools.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
