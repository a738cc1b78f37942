"""Files that are not whole, or no files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import netCDF4
import numpy as np
from tests.hostile import made
from tests.hostile.cases import Case
from tests.hostile.made import DIMS, FACTOR, each


def cases(folder: Path) -> list[Case]:
    """All of them; inputs lie in ``folder``, outputs would."""
    made.model(folder / "model")
    return [*damaged(folder), *odd(folder)]


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
    made.stored(made.rain().transpose("lon", "lat", "time"), folder / "turned.nc")
    yield from each("dimensions in another order", folder / "turned.nc", code=0)
    lat, lon = np.meshgrid(made.rain().lat, made.rain().lon, indexing="ij")
    plane = made.rain().drop_vars(["lat", "lon"]).rename(lat="y", lon="x")
    axes = {"lat": (("y", "x"), lat, {"units": "degrees_north"}), "lon": (("y", "x"), lon, {"units": "degrees_east"})}
    path = made.stored(plane.assign_coords(axes), folder / "plane.nc")
    for words in (["coarsen", path.name, *FACTOR, "p.c.nc"], ["downscale", "model", path.name, "-o", "p.e.nc"]):
        yield Case(f"{words[0]}: coordinates on two dimensions", words, 0)
    with netCDF4.Dataset(folder / "crossed.nc", "w") as file:
        for dim, n in zip(DIMS, made.SIZES, strict=True):
            file.createDimension(dim, n)
        for name, values in {"lat": lat, "lon": lon}.items():
            file.createVariable(name, "f8", ("lat", "lon"))[:] = values
        file.createVariable("rain", "f4", DIMS)[:] = 1
    says = ("crossed.nc: variable rain has the coordinate lat on the dimensions lat, lon", "rename")
    yield from each("axes on two dimensions", folder / "crossed.nc", *says)
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
