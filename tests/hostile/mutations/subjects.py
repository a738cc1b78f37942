"""What is mutated: small files of every format, a configuration, a model, what was left of interrupted commands."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

SIZES = 4, 16, 24
"""Of the small fields."""
SETTINGS = ["factor=1x4", "data.crop=16", "train.minutes=null", "train.steps=2", "train.batch=2", "train.warmup=1"]
"""Of the trainings: a moment."""
MODULES = {"geo": "rioxarray", "grib": "cfgrib"}
EXTRAS = [extra for extra, module in MODULES.items() if importlib.util.find_spec(module)]
"""Optional readers that are installed."""
WHOLE = "{target}"
"""In a command: what is mutated; other files lie in {made}."""
Commands = dict[str, tuple[list[str], ...]]


@dataclass(frozen=True)
class Subject:
    """A file or folder, and the commands that read it.

    Attributes:
        name: of the kind.
        target: its name in the folder where all are made, or a path of its own.
        commands: command -> the words that stand for it, one of which is drawn.
        grows: whether its commands write into it, so that it need not stay as it is.
    """

    name: str
    target: Path
    commands: Commands = field(hash=False)
    grows: bool = False


def fields(*, reading: str = "", words: Sequence[str] = (), factor: str = "1x4") -> Commands:
    """What reads a field; coarsen more often than the others."""
    read, alone = WHOLE + reading, ["--members", "1", "--steps", "1", *words]
    coarsen = ["coarsen", read, *words, "--crop", "--factor", factor]
    sets = [*SETTINGS, f"data.path='{read}'", "data.min_wet=0", *(f"data.variable={word}" for word in words[1:])]
    return {
        "info": (["info", WHOLE],),
        "coarsen": ([*coarsen, "-o", "o.nc"], [*coarsen, "-o", "o.zarr"]),
        "downscale": (["downscale", "{made}/model", read, *alone, "-o", "o.nc"],
                      ["downscale", "{made}/model", read, *alone, "-o", "o.zarr"]),
        "fit": (["fit", "{made}/small.yaml", *setting(sets), "-o", "o"],),
    }  # fmt: skip


def setting(values: Sequence[str]) -> list[str]:
    return [word for value in values for word in ("--set", value)]


VERIFY = (["verify", "{made}/ensemble.nc", WHOLE, "--baselines", "none", "-o", "o"],)
ENSEMBLE = (["verify", WHOLE, "{made}/plain.nc", "--baselines", "none", "-o", "o"],)
LUMINANCE = ["--variable", "luminance"]


def subjects() -> list[Subject]:
    """All that `make` makes."""
    netcdf = {"NetCDF-3": "classic.nc", "NetCDF-3, 64 bit, records": "offset.nc", "CDF-5": "cdf5.nc",
              "NetCDF-4": "plain.nc", "NetCDF-4, chunks and filters": "chunks.nc",
              "NetCDF-4, packed": "packed.nc", "Zarr 2": "two.zarr", "Zarr 3": "three.zarr",
              "Zarr 3, consolidated": "whole.zarr"}  # fmt: skip
    found = [Subject(name, Path(target), fields() | {"verify": VERIFY}) for name, target in netcdf.items()]
    if "grib" in EXTRAS:
        gribs = {"GRIB 1": "one.grib", "GRIB 2": "two.grib", "GRIB 2 in gzip": "two.grib.gz"}
        found += [Subject(name, Path(target), fields()) for name, target in gribs.items()]
    if "geo" in EXTRAS:
        found.append(Subject("GeoTIFF", Path("202001010000.tif"), fields()))
        found.append(Subject("GeoTIFF, tags of a radar", Path("202001010005.tif"), fields(reading="?zr=200,1.6")))
    found += [
        Subject("NetCDF-3 in gzip", Path("classic.nc.gz"), fields()),
        Subject("ODIM HDF5", Path("radar.h5"), fields()),
        Subject("PNG", Path("grey.png"), fields()),
        Subject("JPEG", Path("colours.jpg"), fields(words=LUMINANCE)),
        Subject("ensemble", Path("ensemble.nc"), {"verify": ENSEMBLE, "info": (["info", WHOLE],)}),
        Subject("configuration", Path("config.yaml"), {"fit": (["fit", WHOLE, "-o", "o"],)}),
    ]
    base = ["downscale", WHOLE, "{made}/plain.nc", "--members", "1", "--steps", "1", "-o", "o.nc"]
    found.append(Subject("model", Path("model"), {"info": (["info", WHOLE],), "downscale": (base, [*base, "--force"])}))
    found.append(
        Subject("checkpoint", Path("begun"), {"fit": (["fit", "{made}/config.yaml", "-o", WHOLE],)}, grows=True)
    )
    again = ["downscale", "{made}/model", "{made}/plain.nc", *PARTS, "-o", "o.zarr"]
    resumed = {"downscale": ([*again, "--resume"], [*again, "--overwrite"])}
    return [*found, Subject("journal", Path(".o.partial.zarr"), resumed, grows=True)]


def light(subject: Subject) -> Commands:
    """Those of its commands that take no model."""
    return {name: words for name, words in subject.commands.items() if "coarsen" in subject.commands and name in LIGHT}


LIGHT = ("info", "coarsen")
PARTS = ["--members", "2", "--steps", "1", "--window", "1x8"]
"""Of the interrupted prediction: several tasks."""
READING = {
    ".grib": "", ".grb": "", ".bin": "", ".nc": "", ".tif": "", ".h5": "",
    "MRMS_Refl": "?missing=-999&undetect=-99", "hrrr": "?stepRange=11-12",
}  # fmt: skip
"""What is said after the name of a real file."""


def real(folder: Path) -> list[Subject]:
    """Files of weather services in ``folder``; commands that read them."""
    found = []
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        reading = next((text for start, text in READING.items() if text and path.name.startswith(start)), "")
        words = ["--variable", "t2m"] if "antilles" in path.name else []
        commands = fields(reading=reading, words=words, factor="1x2")
        kind = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
        some = {name: commands[name] for name in ("info", "coarsen")}
        needs = {".tif": "geo", ".nc": "", ".h5": ""}.get(kind, "grib")
        if not needs or needs in EXTRAS:
            found.append(Subject(f"real {kind.lstrip('.')}", path, some))
    return found


def make(folder: Path) -> None:
    """Write them all into ``folder``."""
    from tests.hostile import made

    formats(folder)
    made.model(folder / "model")
    small = {key: value for key, value in made.CONFIG.items() if key != "variables"}
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    budget = {"minutes": None, "steps": 4, "batch": 2, "warmup": 1, "checkpoint": 0}
    data = {"path": str(folder / "plain.nc"), "crop": 16, "min_wet": 0}
    (folder / "config.yaml").write_text(yaml.safe_dump(made.CONFIG | {"data": data, "train": budget}))
    left(folder)


def formats(folder: Path) -> None:
    """A field in every format."""
    from tests.hostile import made

    if EXTRAS:
        importlib.import_module("pyproj")  # before eccodes, as in finescale.data.grib
    ds = made.rain(*SIZES)
    stores(ds, folder)
    radars(ds["rain"].values, folder)
    if "geo" in EXTRAS:
        tiffs(ds["rain"].values, folder)
    if "grib" in EXTRAS:
        gribs(ds["rain"].values, folder)
    for name in ("classic.nc", *(["two.grib"] if "grib" in EXTRAS else [])):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes(), mtime=0))


def stores(ds: Any, folder: Path) -> None:
    from tests.hostile.made import stored

    stored(ds, folder / "classic.nc", format="NETCDF3_CLASSIC")
    stored(ds, folder / "offset.nc", format="NETCDF3_64BIT", unlimited_dims=["time"])
    stored(ds, folder / "cdf5.nc", format="NETCDF3_64BIT_DATA")
    stored(ds, folder / "plain.nc")
    filters = {"zlib": True, "shuffle": True, "fletcher32": True, "chunksizes": (1, 8, 12)}
    stored(ds, folder / "chunks.nc", encoding={"rain": filters}, unlimited_dims=["time"])
    packing = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 1.0, "_FillValue": -32768}
    stored(ds, folder / "packed.nc", encoding={"rain": packing})
    for name, version in {"two.zarr": 2, "three.zarr": 3, "whole.zarr": 3}.items():
        chunks = {"rain": {"chunks": (1, 16, 12)}}
        ds.to_zarr(folder / name, zarr_format=version, consolidated=name == "whole.zarr", encoding=chunks)


def radars(values: Any, folder: Path) -> None:
    """A composite and pictures."""
    import netCDF4
    from PIL import Image

    grey = packed(values)
    said: dict[str, dict[str, Any]] = {
        "what": {"object": "COMP", "date": "20240102", "time": "030000"},
        "where": {"projdef": "+proj=laea +lat_0=55 +lon_0=10 +ellps=WGS84", "xscale": 2000.0, "yscale": 2000.0,
                  "xsize": SIZES[2], "ysize": SIZES[1], "LL_lon": 1.0, "LL_lat": 50.0},
        "dataset1/what": {"startdate": "20240102", "starttime": "025500", "enddate": "20240102", "endtime": "030000"},
        "dataset1/data1/what": {"quantity": "RATE", "gain": 0.5, "offset": 0.0, "nodata": 255.0, "undetect": 0.0},
    }  # fmt: skip
    with netCDF4.Dataset(folder / "radar.h5", "w") as file:
        file.Conventions = "ODIM_H5/V2_4"
        for group, attrs in said.items():
            file.createGroup(group).setncatts(attrs)
        data = file["dataset1/data1"]
        data.createDimension("y", SIZES[1])
        data.createDimension("x", SIZES[2])
        data.createVariable("data", "u1", ("y", "x"), zlib=True)[:] = grey
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(np.stack([grey, 255 - grey, grey // 2], axis=-1)).save(folder / "colours.jpg")


def packed(values: Any) -> Any:
    """The first frame in bytes."""
    return np.clip(10 * values[0], 0, 255).astype(np.uint8)


def tiffs(values: Any, folder: Path) -> None:
    import rasterio

    place = rasterio.transform.from_origin(1e5, 7e6, 1000.0, 1000.0)
    shape = {"height": SIZES[1], "width": SIZES[2], "count": 1, "crs": "EPSG:2154", "transform": place}
    with rasterio.open(folder / "202001010000.tif", "w", driver="GTiff", dtype="float32", **shape) as tiff:
        tiff.write(values[0], 1)
        tiff.update_tags(1, units="mm h-1")
    bytes_ = {"dtype": "uint8", "compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16}
    with rasterio.open(folder / "202001010005.tif", "w", driver="GTiff", **bytes_, **shape) as tiff:
        tiff.write(packed(values), 1)
        tiff.update_tags(Quantity="Reflectivity", Gain="0.5", Offset="-32", Nodata="255", Undetect="0")


def gribs(values: Any, folder: Path) -> None:
    """Four hours of rain, in both editions."""
    import eccodes as codes

    _, h, w = SIZES
    keys = {
        "Ni": w, "Nj": h, "latitudeOfFirstGridPointInDegrees": 50, "latitudeOfLastGridPointInDegrees": 50 - (h - 1),
        "longitudeOfFirstGridPointInDegrees": 0, "longitudeOfLastGridPointInDegrees": w - 1,
        "iDirectionIncrementInDegrees": 1, "jDirectionIncrementInDegrees": 1, "dataDate": 20200101, "dataTime": 0,
    }  # fmt: skip
    for edition, name in ((1, "one.grib"), (2, "two.grib")):
        with (folder / name).open("wb") as file:
            for hour, frame in enumerate(values):
                message = codes.codes_grib_new_from_samples(f"regular_ll_sfc_grib{edition}")
                for key, value in (keys | {"stepRange": str(hour), "shortName": "2t"}).items():
                    codes.codes_set(message, key, value)
                codes.codes_set_values(message, 280.0 + frame.ravel())
                codes.codes_write(message, file)
                codes.codes_release(message)


def left(folder: Path) -> None:
    """An ensemble, and what a training and a prediction left that were interrupted."""
    from finescale.cli import main
    from finescale.downscaler import Downscaler
    from finescale.training import loop

    coarse, ensemble = str(folder / "coarse.nc"), str(folder / "ensemble.nc")
    plain, model = str(folder / "plain.nc"), str(folder / "model")
    assert main(["coarsen", plain, "--factor", "1x4", "-o", coarse]) == 0
    assert main(["downscale", model, coarse, "--members", "2", "--steps", "1", "-o", ensemble]) == 0
    interrupted(loop, "save_checkpoint", 3, ["fit", str(folder / "config.yaml"), "-o", str(folder / "begun")])
    interrupted(Downscaler, "draw", 5, ["downscale", model, plain, *PARTS, "-o", str(folder / "o.zarr")])


def interrupted(owner: Any, name: str, after: int, words: list[str]) -> None:
    """Run a command that is interrupted after the call number ``after`` of a function."""
    from finescale.cli import main

    function: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def counted(*given: Any, **named: Any) -> Any:
        nonlocal calls
        found = function(*given, **named)
        calls += 1
        if calls == after:
            raise KeyboardInterrupt
        return found

    setattr(owner, name, counted)
    assert main(words) == 130
