"""Files that do not belong together, amounts without intervals, and files of radars and cameras that are not whole."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import netCDF4
import numpy as np
import xarray as xr
from PIL import Image
from tests.hostile import made
from tests.hostile.cases import Case
from tests.hostile.made import FACTOR, each, stored


def cases(folder: Path) -> list[Case]:
    """All of them; inputs lie in ``folder``, outputs would."""
    made.model(folder / "model")
    return [*series(folder), *settings(folder), *intervals(folder), *images(folder)]


def every(name: str, paths: str, *says: str) -> Iterator[Case]:
    """What the commands that read a field must say of what a pattern or a path with settings names."""
    yield Case(f"coarsen: {name}", ["coarsen", paths, *FACTOR, "out.nc"], says=says)
    yield Case(f"downscale: {name}", ["downscale", "model", paths, "-o", "out.zarr", "--members", "1"], says=says)
    yield Case(f"info: {name}", ["info", paths], says=says)
    yield Case(f"verify: {name}", ["verify", paths, paths, "-o", "report"], says=says)
    data = ["--set", f"data.path='{paths}'", "--set", "train.steps=1"]
    yield Case(f"fit: {name}", ["fit", "wavelet", "-o", "new", *data], says=says)


def series(folder: Path) -> Iterator[Case]:
    """Files that do not follow each other."""
    ds = made.rain(t=6)
    later = ds.isel(time=slice(3, 6))
    noleap = later.convert_calendar("noleap", use_cftime=True)
    seconds = {
        "twice": (ds.isel(time=slice(2, 6)), "both have the time 2020-01-01T02:00:00"),
        "calendars": (noleap, "calendar noleap"),
        "elsewhere": (later.assign_coords(lon=later.lon + 0.05), "its cells along lon lie elsewhere"),
        "fewer": (later.isel(lat=slice(0, 4)), "has 4 cells along lat, not 8"),
        "units": (later.assign(rain=later.rain.assign_attrs(units="mm")), "rain is in mm, not mm h-1"),
        "names": (later.rename(rain="snow"), "it has the variables snow, not rain"),
        "timeless": (later.isel(time=0, drop=True), "has no times"),
        "numbers": (later.assign_coords(time=[3.0, 4.0, 5.0]), "calendar none (numbers)"),
    }
    for name, (second, words) in seconds.items():
        stored(ds.isel(time=slice(0, 3)), folder / f"{name}_1.nc")
        stored(second, folder / f"{name}_2.nc")
        yield from every(f"files of one field: {name}", f"{name}_*.nc", words)
        both = [f"{name}_1.nc", f"{name}_2.nc"]
        yield Case(f"coarsen of both: {name}", ["coarsen", *both, *FACTOR, "out.nc"], says=(words,))
    (folder / "cut_1.nc").write_bytes((folder / "twice_1.nc").read_bytes())
    (folder / "cut_2.nc").write_bytes((folder / "twice_2.nc").read_bytes()[:3000])
    yield from every("one of two is cut short", "cut_*.nc", "cut_2.nc cannot be read")
    yield from every("a pattern that matches nothing", "rain_*.nc", "rain_*.nc matches no file")
    yield from every("a folder that is not there", "nowhere/*.nc", "nowhere does not exist")
    yield from every("times that names do not hold", "twice_{time:%Y%m%d}.nc", "does not hold a time as")
    yield from every("times written in no known way", "twice_{time:%Q}.nc", "is written %Q")
    yield from every("times written in no way", "twice_{time}.nc", "does not say how times are written")


def settings(folder: Path) -> Iterator[Case]:
    """What is said of reading and cannot be done."""
    stored(made.rain(), folder / "rain.nc")
    for query, words in {
        "shortName=tp": "is no GRIB file",
        "zr=200": "write a and b",
        "zr=200,1.6": "has no variable in dBZ",
        "units=K": "nothing that could be in K",
        "units=9**9**9": "nothing that could be in",
        "missing=none": "write numbers",
    }.items():
        yield from every(query, f"rain.nc?{query}", words)
    yield from every(
        "settings of a file that is not there", "rian.nc?units=mm/h", "does not exist; did you mean 'rain.nc'"
    )


def intervals(folder: Path) -> Iterator[Case]:
    """Amounts whose intervals are not known, overlap or have no length."""
    ds = made.rain(units="mm")
    stored(ds, folder / "unknown.nc")
    yield from every("intervals that are not known", "unknown.nc?units=mm h-1", "intervals of rain are not known")
    for name, hours, words in (
        ("overlap", [[0, 3], [1, 4], [2, 5]], "differ and overlap"),
        ("nothing", [[0, 1], [2, 2], [2, 3]], "an interval of 0 s"),
        ("backwards", [[1, 0], [2, 1], [3, 2]], "an interval of -3600 s"),
    ):
        bounds = np.datetime64("2020-01-01", "ns") + np.array(hours) * np.timedelta64(1, "h")
        bounded = ds.assign(time_bnds=(("time", "bnds"), bounds))
        bounded["time"].attrs["bounds"] = "time_bnds"
        bounded["time"].encoding = {"units": "hours since 2020-01-01"}
        stored(bounded, folder / f"{name}.nc")
        yield from every(f"intervals: {name}", f"{name}.nc?units=mm h-1", words)


def images(folder: Path) -> Iterator[Case]:
    """Radar files and pictures that are not whole, or no field."""
    values = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(values).save(folder / "picture.png")
    yield Case("all of a picture", ["coarsen", "picture.png", *FACTOR, "p.nc"], 0)
    yield Case("one of its colours", ["coarsen", "picture.png", *FACTOR, "red.nc", "--variable", "red"], 0)
    yield Case(
        "none of them", ["coarsen", "picture.png", *FACTOR, "x.nc", "--variable", "rd"], says=("red, green, blue",)
    )
    (folder / "cut.png").write_bytes((folder / "picture.png").read_bytes()[:200])
    yield from each("a picture cut short", folder / "cut.png", "cut.png cannot be read")
    (folder / "picture_2.png").write_bytes((folder / "picture.png").read_bytes())
    for command in (["coarsen", "picture*.png", *FACTOR, "out.nc"], ["info", "picture*.png"]):
        yield Case(f"{command[0]}: pictures do not follow each other", command, says=("has no times",))
    xr.Dataset().to_netcdf(folder / "empty.nc", engine="netcdf4")
    (folder / "cut.nc.gz").write_bytes(gzip.compress((folder / "empty.nc").read_bytes())[:-100])
    yield from each("a compressed file cut short", folder / "cut.nc.gz", "cut.nc.gz cannot be read")
    (folder / "text.gz").write_bytes(gzip.compress(b"hello, I am no field"))
    yield from each("a compressed text", folder / "text.gz", "is not a NetCDF, Zarr, GRIB")
    for name, kind, words in (("polar", "PVOL", "holds PVOL"), ("bare", "COMP", "does not say where it lies")):
        with netCDF4.Dataset(folder / f"{name}.h5", "w") as file:
            file.Conventions = "ODIM_H5/V2_4"
            file.createGroup("what").object = kind
        yield from each(f"ODIM, {name}", folder / f"{name}.h5", words)
