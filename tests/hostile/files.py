"""Files whose values and types no reader should take as they are."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from pathlib import Path

import netCDF4
import numpy as np
from tests.hostile import made
from tests.hostile.cases import Case
from tests.hostile.made import DIMS, FACTOR, SIZES, classic, each

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


def cases(folder: Path) -> list[Case]:
    """All of them; inputs lie in ``folder``, outputs would."""
    made.model(folder / "model")
    return [*values(folder), *types(folder)]


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
    with netCDF4.Dataset(half) as file:
        read = file["rain"].dtype is not str  # some builds of the NetCDF library read them
    if not read:
        yield from each("numbers of half precision", half, "half.nc: variable rain holds numbers of half")
