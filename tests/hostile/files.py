"""Hostile files: values, types, attributes, names and lengths that no reader should take as they are."""

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
from tests.hostile import made
from tests.hostile.cases import Case

DIMS = ("time", "lat", "lon")
SIZES = (3, 8, 12)
MARKS = (-9999.0, -999.0, -99.0, -32768.0, 1e20, 9.96921e36, 3.4028235e38, np.inf, -np.inf)
# rain(time, lat, lon) = 1 in float16, by h5py: the NetCDF library cannot write it either. zlib, base 85.
HALF = (
    "c-rk*!A{#i5S?{wFu_%Vidwg#Ra8|KM-Ch~R3cHbG?9W6#T>YmNaPR+LREa|CzM-{J#yp|dhC%;=&_%`AEdVTZLr-ESE&MuI?sw;W_EVHJD%CK"
    "#uv@T-lO94B1N!mGO0{SjDf?KX<4@)fd%+8_{z|F5x2R}uVMVG-9b;v$a<WCzE9IsY!l;uL{rwf5g$U{1Ya9zyI^=ai1?%*#PZ46DCUp-;V2oW"
    "TYq_9K`W|{(6WkTA(Wy3yIXc+)3wSjVzo-!tF%3affZ__cEd1)if1)mL2Mzy-PHXZ%v8`)XlqlwUGx1=ejNVFiS;yE`_l7U9q+wgueD{^Zxj8j"
    "xSv<smxO*+qM!Cx8F}e$DE;@z45nq=%`W~_eXr9HiQVIiHQldzl|PrJ+f~5boW$47mBM1jd0xEPnf1;dZ<p|Vb?)(ICi>~T)baLX#(0A*xC~wg"
    "yWov#o<E(*y8qRmH_Pc0@t*vN{Z0Gx>x=pN6Ilj+1%3^F6Z(5O<L@2Ch4g-D|K|6*^!j;}$iPaA78OgB_dJePu(Z?(q5X8Zs^m|TmhOBK`Ym64"
    "&3-xb0eMskBiBvr6YZ9NK=cgz$W!FbUGF9FJGgVJOUh<Oj*jkk^-fz52LD5T>T}l2==Hg8W%Su|{;I_9v<wD=!C){L3<iV2U_3M&`ZlRM1msdr"
    "?#Z6?>JoK_Cx$8w9QT9%`5?$0PuC}oho^(l`4Cmh{O@_uJyeaMqUMA8hOU2V&VC<Q)cK1ApT91){sRAA-hK"
)
FACTOR = ["--factor", "1x4", "-o"]


def cases(folder: Path) -> list[Case]:
    """All of them; inputs lie in ``folder``, outputs would."""
    made.model(folder / "model")
    return [*values(folder), *types(folder), *attributes(folder), *damaged(folder), *odd(folder), *outputs(folder)]


def each(name: str, path: Path, *says: str, code: int = 2) -> Iterator[Case]:
    """What every command that reads a field must say of a file."""
    where = {
        "coarsen": ["coarsen", path.name, "--factor", "1x4"],
        "downscale": ["downscale", "model", path.name, "--members", "1"],
    }
    for command, arguments in where.items():
        for suffix in (".nc", ".zarr"):
            out = f"{path.stem}.{command}{suffix}"
            yield Case(f"{command} to {suffix}: {name}", [*arguments, "-o", out], code, says, keeps=(path,))
    yield Case(f"info: {name}", ["info", path.name], code, says, keeps=(path,))


def classic(path: Path, make: Callable[[netCDF4.Dataset], None]) -> Path:
    """A file made by the NetCDF library itself, with axes that are plain numbers."""
    with netCDF4.Dataset(path, "w") as file:
        for dim, n in zip(DIMS, SIZES, strict=True):
            file.createDimension(dim, n)
            file.createVariable(dim, "f8", (dim,))[:] = np.arange(n)
        make(file)
    return path


def values(folder: Path) -> Iterator[Case]:
    """Marks of missing values that are not declared, in each kind of store."""
    for number, mark in enumerate(MARKS):
        ds = made.rain()
        ds["rain"][1, 2:4, 5] = np.float32(mark)
        says = (f"variable rain holds {float(np.float32(mark)):.7g}", "_FillValue")
        yield from each(f"{mark:g} in rain", made.stored(ds, folder / f"mark{number}.nc"), f"mark{number}.nc", *says)
    ds = made.rain()
    ds["rain"][0, 0, 0] = -9999
    ds.to_zarr(folder / "mark.zarr", consolidated=False)
    yield from each("-9999 in a Zarr store", folder / "mark.zarr", "mark.zarr: variable rain holds -9999")
    ds["rain"].attrs = {"units": "degC", "long_name": "temperature"}
    made.stored(ds, folder / "cold.nc")
    for words in (["coarsen", "cold.nc", *FACTOR, "cold.c.nc"], ["info", "cold.nc"]):
        yield Case(f"{words[0]}: -9999 in temperature", words, says=("holds -9999", "_FillValue"))
    ds["rain"][0, 0, 0] = -1
    ds["rain"].attrs = {"units": "mm h-1"}
    yield from each("-1 in rain", made.stored(ds, folder / "minus.nc"), "holds -1", "rain is not negative")
    ds["rain"][:] = np.linspace(-6000, 3000, ds["rain"].size, dtype=np.float32).reshape(SIZES)
    ds["rain"][0, 0, 0] = -999
    ds["rain"].attrs = {"units": "m", "long_name": "height"}
    height = made.stored(ds.rename(rain="height"), folder / "height.nc")
    yield Case("-999 among heights is a height", ["coarsen", "height.nc", *FACTOR, "height.c.nc"], 0, keeps=(height,))
    yield Case("info: -999 among heights", ["info", "height.nc"], 0, ("height",))
    for name, lat in {"above": 85 + np.arange(8.0), "below": -95 + np.arange(8.0)}.items():
        path = made.stored(made.rain().assign_coords(lat=("lat", lat, made.rain().lat.attrs)), folder / f"{name}.nc")
        yield from each(f"latitudes {name} the pole", path, path.name, "beyond the pole")
    pole = made.rain().assign_coords(lat=("lat", 83 + np.arange(8.0), made.rain().lat.attrs))
    made.stored(pole, folder / "pole.nc")
    yield Case("a cell over the pole", ["downscale", "model", "pole.nc", "-o", "p.nc"], says=("over the pole",))
    yield Case("a cell over the pole coarsened", ["coarsen", "pole.nc", *FACTOR, "pole.c.nc"], 0)


def types(folder: Path) -> Iterator[Case]:
    """What is no number, or none that the NetCDF library reads."""

    def compound(file: netCDF4.Dataset) -> None:
        kind = file.createCompoundType(np.dtype([("a", "f4"), ("b", "i4")]), "kind")
        file.createVariable("rain", kind, DIMS)

    def lists(file: netCDF4.Dataset) -> None:
        file.createVariable("rain", file.createVLType(np.float32, "lists"), DIMS)

    def text(file: netCDF4.Dataset) -> None:
        file.createVariable("rain", str, DIMS)[:] = np.full(SIZES, "wet", dtype=object)

    def letters(file: netCDF4.Dataset) -> None:
        file.createVariable("rain", "S1", DIMS)[:] = np.full(SIZES, b"w")

    def truth(file: netCDF4.Dataset) -> None:
        variable = file.createVariable("rain", "i1", DIMS)
        variable[:] = 1
        variable.setncattr("dtype", "bool")

    def dates(file: netCDF4.Dataset) -> None:
        variable = file.createVariable("rain", "f4", DIMS)
        variable[:], variable.units = 1, "days since 2000-01-01"

    kinds = {
        "records": (compound, "records"), "lists": (lists, "lists of changing length"), "text": (text, "text"),
        "letters": (letters, "text"), "truth": (truth, "truth values"), "dates": (dates, "dates"),
    }  # fmt: skip
    for name, (make, words) in kinds.items():
        path = classic(folder / f"{name}.nc", make)
        yield from each(name, path, f"{path.name}: variable rain holds {words}")
        named = ["coarsen", path.name, *FACTOR, "named.nc", "--variable", "rain"]
        yield Case(f"{name}, named", named, says=(path.name, words))

    def days(file: netCDF4.Dataset) -> None:
        variable = file.createVariable("rain", "f4", DIMS)
        variable[:], variable.units = 1, "days"

    classic(folder / "days.nc", days)
    yield Case("a number of days is a number", ["coarsen", "days.nc", *FACTOR, "days.c.nc"], 0)
    made.rain().astype(complex).to_zarr(folder / "complex.zarr", consolidated=False)
    yield from each("complex numbers", folder / "complex.zarr", "holds complex numbers")
    half = folder / "half.nc"
    half.write_bytes(zlib.decompress(base64.b85decode(HALF)))
    yield from each("numbers of half precision", half, "half.nc: variable rain holds numbers of half")


def attributes(folder: Path) -> Iterator[Case]:
    """Attributes that are text by definition and are not, and numbers that are text."""
    odd: dict[str, Any] = {"number": 5, "numbers": np.array([1, 2])}
    for kind, value in odd.items():
        for key in ("axis", "standard_name", "bounds"):

            def axis(file: netCDF4.Dataset, key: str = key, value: Any = value) -> None:
                file.createVariable("rain", "f4", DIMS)[:] = 1
                file["lat"].setncattr(key, value)

            path = classic(folder / f"{key}.{kind}.nc", axis)
            yield from each(f"{key} is {value}", path, path.name, f"attribute {key} of lat", "not text")
        for key in ("grid_mapping", "coordinates"):

            def field(file: netCDF4.Dataset, key: str = key, value: Any = value) -> None:
                variable = file.createVariable("rain", "f4", DIMS)
                variable[:] = 1
                variable.setncattr(key, value)

            path = classic(folder / f"{key}.{kind}.nc", field)
            yield from each(f"{key} is {value}", path, path.name, f"attribute {key} of", "not text")
        for key in ("history", "title", "source", "Conventions", "coordinates"):

            def whole(file: netCDF4.Dataset, key: str = key, value: Any = value) -> None:
                file.createVariable("rain", "f4", DIMS)[:] = 1
                file.setncattr(key, value)

            path = classic(folder / f"global.{key}.{kind}.nc", whole)
            yield from each(f"global {key} is {value}", path, code=0)
        for key in ("long_name", "cell_methods", "units", "ancillary_variables"):

            def harmless(file: netCDF4.Dataset, key: str = key, value: Any = value) -> None:
                variable = file.createVariable("rain", "f4", DIMS)
                variable[:] = 1
                variable.setncattr(key, value)

            path = classic(folder / f"own.{key}.{kind}.nc", harmless)
            yield Case(f"{key} is {value}", ["coarsen", path.name, *FACTOR, f"{key}.{kind}.c.nc"], 0, keeps=(path,))
    for key, value in {"scale_factor": "two", "add_offset": "none"}.items():

        def packed(file: netCDF4.Dataset, key: str = key, value: str = value) -> None:
            file.createVariable("rain", "i2", DIMS)[:] = 1
            file["rain"].setncattr(key, value)

        path = classic(folder / f"{key}.nc", packed)
        yield from each(f"{key} is text", path, path.name, f"attribute {key} of variable rain is '{value}'")

    def nothing(file: netCDF4.Dataset) -> None:
        file.createVariable("rain", "i2", DIMS)[:] = 1
        file["rain"].setncattr("scale_factor", 0.0)

    yield from each("a scale of 0", classic(folder / "zero.nc", nothing), "attribute scale_factor")


def damaged(folder: Path) -> Iterator[Case]:
    """Files cut short, and chunks that are not what they were."""
    for number, form in enumerate(("NETCDF3_CLASSIC", "NETCDF3_64BIT", "NETCDF3_64BIT_DATA")):
        for unlimited in ([], ["time"]):
            path = folder / f"cdf{number}{len(unlimited)}.nc"
            made.rain().to_netcdf(path, format=form, engine="netcdf4", unlimited_dims=unlimited)
            whole = path.read_bytes()
            yield Case(f"{form} whole", ["coarsen", path.name, *FACTOR, f"{path.stem}.c.nc"], 0, keeps=(path,))
            for share in (0.02, 0.3, 0.7, 0.95):
                cut = folder / f"{path.stem}.{int(100 * share)}.nc"
                cut.write_bytes(whole[: int(share * len(whole))])
                yield from each(f"{form} cut at {share:.0%}", cut, cut.name, "truncated")
    path = made.stored(
        made.rain(6, 32, 48), folder / "chunks.nc", encoding={"rain": {"zlib": True, "chunksizes": (1, 32, 48)}}
    )
    bad = bytearray(path.read_bytes())
    at = bad.rfind(b"\x78\x5e") if b"\x78\x5e" in bad else bad.rfind(b"\x78\x9c")
    bad[at : at + 400] = bytes(255 - b for b in bad[at : at + 400])
    (folder / "chunks.nc").write_bytes(bad)
    yield from each("a damaged chunk", path, "chunks.nc cannot be read", "variable rain may be truncated or damaged")
    made.rain(6, 32, 48).to_zarr(folder / "chunks.zarr", consolidated=False)
    chunk = next(p for p in sorted((folder / "chunks.zarr" / "rain").rglob("*")) if p.is_file() and p.name.isdigit())
    chunk.write_bytes(b"no such codec")
    yield from each("a damaged chunk of Zarr", folder / "chunks.zarr", "chunks.zarr cannot be read", "variable rain")
    netcdf4 = made.stored(made.rain(), folder / "whole4.nc").read_bytes()
    for share in (0.0, 0.01, 0.3, 0.9):
        cut = folder / f"cut4.{int(100 * share)}.nc"
        cut.write_bytes(netcdf4[: int(share * len(netcdf4))])
        yield from each(f"NetCDF-4 cut at {share:.0%}", cut, cut.name)


def odd(folder: Path) -> Iterator[Case]:
    """Empty axes, names like those of the output, things that are no files, sizes that no machine has."""
    for dim in DIMS:
        path = made.stored(made.rain().isel({dim: slice(0, 0)}), folder / f"empty.{dim}.nc")
        yield from each(f"no cells along {dim}", path, f"no cells along {dim}")
    for name in ("realization", "lat_bnds", "lon_bnds"):
        path = made.stored(made.rain().rename(rain=name), folder / f"{name}.nc")
        named, says = ["--variable", name], (f"needs the name {name}",)
        yield Case(f"a variable named {name}", ["coarsen", path.name, *FACTOR, "n.nc", *named], says=says)
        words = ["downscale", "model", path.name, "-o", "n.nc", *named]
        yield Case(f"downscale: a variable named {name}", words, says=says)
    path = made.stored(made.rain().rename(lat="bnds"), folder / "bnds.nc")
    yield Case("a dimension named bnds", ["coarsen", path.name, *FACTOR, "n.nc"], says=("needs the name bnds",))
    yield from each("an input that is not there", folder / "no.nc", "no.nc does not exist")
    for words in (["coarsen", "n" * 300, *FACTOR, "n.nc"], ["downscale", "model", "n" * 300, "-o", "n.nc"]):
        yield Case(f"{words[0]}: a name that no file can have", words, says=("does not exist",))
    os.mkfifo(folder / "pipe.nc")
    into = ["pipe.nc", "-o", "p.nc"]
    for words in (["coarsen", *into, "--factor", "1x4"], ["downscale", "model", *into], ["info", "pipe.nc"]):
        yield Case(f"{words[0]}: a pipe", words, says=("pipe.nc is neither a file nor a folder",))
    yield Case("a device", ["coarsen", "/dev/zero", *FACTOR, "p.nc"], says=("neither a file nor a folder",))
    (folder / "plain.nc").write_text("no NetCDF")
    yield from each("text under a name that says NetCDF", folder / "plain.nc", "plain.nc is not a NetCDF")
    (folder / "folder").mkdir()
    yield from each("a folder that is no store", folder / "folder", "folder is not a Zarr store")
    sizes = {"wide": (1, 2_000_000, 1_000_000), "long": (50_000_000, 2, 2)}
    for name, shape in sizes.items():
        with netCDF4.Dataset(folder / f"{name}.nc", "w") as file:
            for dim, n in zip(("time", "y", "x"), shape, strict=True):
                file.createDimension(dim, n)
            file.createVariable("rain", "f4", ("time", "y", "x"), chunksizes=tuple(min(n, 4096) for n in shape))
        yield Case(
            f"a sparse file that claims {shape} cells",
            ["coarsen", f"{name}.nc", "--factor", "1x2", "-o", "s.nc"],
            says=(f"{name}.nc",),
        )


def outputs(folder: Path) -> Iterator[Case]:
    """Outputs that cannot be, or must not be, written."""
    good = made.stored(made.rain(), folder / "good.nc")
    (folder / "file.zarr").write_text("mine")
    (folder / "mine.zarr").mkdir()
    (folder / "mine.zarr" / "notes.txt").write_text("mine")
    (folder / "mine.nc").mkdir()
    (folder / "mine.nc" / "notes.txt").write_text("mine")
    wanted = {
        "there.grib": ("must end in .nc or .zarr",), "no/such/o.nc": ("does not exist: create it first",),
        "good.nc/o.nc": ("does not exist: create it first",), "n" * 300 + ".nc": ("too long",),
        "é" * 120 + ".zarr": ("too long",), "/sys/o.nc": ("/sys",), "/sys/o.zarr": ("/sys",), "/proc/o.nc": ("/proc",),
    }  # fmt: skip
    for out, says in wanted.items():
        yield Case(f"coarsen to {out[:20]}", ["coarsen", "good.nc", *FACTOR, out], says=says, keeps=(good,))
        yield Case(f"downscale to {out[:20]}", ["downscale", "model", "good.nc", "-o", out], says=says, keeps=(good,))
    for out in ("mine.zarr", "mine.nc", "file.zarr", "good.nc"):
        for words in (["coarsen", "good.nc", "--factor", "1x4"], ["downscale", "model", "good.nc"]):
            keeps = (folder / out, good)
            yield Case(f"{words[0]} over {out}", [*words, "-o", out], says=("exists",), keeps=keeps)
            say = "input itself" if out == "good.nc" else "not overwritten"
            yield Case(f"{words[0]} over {out} by force", [*words, "-o", out, "--overwrite"], says=(say,), keeps=keeps)
