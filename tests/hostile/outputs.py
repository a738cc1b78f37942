"""Outputs that cannot be, or must not be, written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.hostile import made
from tests.hostile.cases import Case
from tests.hostile.made import FACTOR


def cases(folder: Path) -> list[Case]:
    """All of them; inputs lie in ``folder``, outputs would."""
    made.model(folder / "model")
    return [*outputs(folder), *words(folder)]


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
    made.stored(made.rain(20, 64, 96), folder / "large.nc")
    for suffix in (".nc", ".zarr"):
        there = folder / f"there{suffix}"
        made.rain().to_netcdf(there) if suffix == ".nc" else made.rain().to_zarr(there, consolidated=False)
        for words in (["coarsen", "large.nc", "--factor", "1x1"], ["downscale", "model", "large.nc", "--members", "1"]):
            says = ("could not be written: the file is larger than the system allows",)
            for out in (["-o", f"full{suffix}"], ["-o", there.name, "--overwrite"]):
                name = f"{words[0]} to {out[1]}: no room"
                yield Case(name, [*words, *out], says=says, keeps=(there,), disk=100 if suffix == ".zarr" else 20_000)
    for out in ("mine.zarr", "mine.nc", "file.zarr", "good.nc"):
        for words in (["coarsen", "good.nc", "--factor", "1x4"], ["downscale", "model", "good.nc"]):
            keeps = (folder / out, good)
            yield Case(f"{words[0]} over {out}", [*words, "-o", out], says=("exists",), keeps=keeps)
            say = "input itself" if out == "good.nc" else "not overwritten"
            yield Case(f"{words[0]} over {out} by force", [*words, "-o", out, "--overwrite"], says=(say,), keeps=keeps)


def words(folder: Path) -> Iterator[Case]:
    """Precisions, orders and URLs that are none."""
    keeps = (folder / "good.nc",)
    downscale, to_coarsen = ["downscale", "model", "good.nc", "-o", "o.nc"], ["coarsen", "good.nc", *FACTOR]
    digits = ("digits", "99999999999digits", "8digits", "²digits")
    for word in ("", "0", "-1", "nan", "inf", "1e400", "0.01;", "1" * 5000, *digits):
        yield Case(f"precision {word[:20]!r}", [*downscale, f"--precision={word}"], says=("--precision",), keeps=keeps)
    for word in ("", "x", "time,y,x", "time,realization,x,y", "(" * 5000, "realization,time,y,x,time"):
        yield Case(f"order {word[:20]!r}", [*downscale, f"--order={word}"], says=("--order",), keeps=keeps)
    here = ("file:///no/such.nc", "memory://", "memory://a.nc", "memory://*[", "memory://b/\0.nc")
    for url in ("nosuch://b/a.nc", "://a.nc", "s3:/b/a.nc", *here):
        yield Case(f"info {url!r}", ["info", url])
        yield Case(f"coarsen {url!r}", ["coarsen", url, *FACTOR, "o.nc"], keeps=keeps)
    for url, says in (("nosuch://b/o.nc", "not known"), ("http://[::1/o.nc", "web server"), ("memory://o.x", "end in")):
        yield Case(f"coarsen to {url}", [*to_coarsen, url], says=(says,), keeps=keeps)
    nothing = ["downscale", "memory://model", "good.nc", "-o", "o.nc"]
    yield Case("model memory://model", nothing, says=("not a finescale model",), keeps=keeps)
    for url in ("s3://b/model", "memory://model"):
        local = ("folder of this machine",)
        yield Case(f"fit to {url}", ["fit", "wavelet", "-o", url], says=local)
        yield Case(f"report to {url}", ["verify", "good.nc", "good.nc", "-o", url], says=local)
