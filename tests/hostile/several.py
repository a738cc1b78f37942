"""Several coarse files: what they lack, and what does not belong together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import xarray as xr
from tests.hostile.cases import Case
from tests.hostile.made import model, rain, stored

NUMBERS = count()
BOTH = {
    "variables": {"rain": {"units": "mm h-1"}, "tas": {"units": "K", "transform": "standardize", "constraint": "none"}},
    "predictors": {"psl": {"units": "Pa"}, "hour": None},
}


def cases(folder: Path) -> list[Case]:
    """All of them; inputs lie in ``folder``, outputs would."""
    model(folder / "model", **BOTH)
    model(folder / "one")
    model(folder / "bare", constraint="none")
    given = rain(3, 8, 12)
    stored(given, folder / "rain.nc")
    stored(field("tas", "K", given), folder / "tas.nc")
    stored(field("psl", "Pa", given), folder / "psl.nc")
    return [*files(folder, given), *grids(folder, given), *masks(folder), *members(folder, given)]


def field(name: str, units: str, like: xr.Dataset) -> xr.Dataset:
    """A field on the cells of the rain."""
    return xr.Dataset({name: (like["rain"] + 280).assign_attrs(units=units)})


def downscale(name: str, *words: str, says: tuple[str, ...] = (), code: int = 2) -> Case:
    out = [] if "-o" in words else ["-o", f"out{next(NUMBERS)}.nc"]
    return Case(f"downscale: {name}", ["downscale", *words, *out, "--members", "1"], code, says)


def files(folder: Path, given: xr.Dataset) -> Iterator[Case]:
    """Files that lack something, or have it in units of something else."""
    all_ = ("model", "rain.nc", "tas.nc", "psl.nc")
    yield downscale("all that is needed", *all_, code=0)
    for lost in ("rain", "tas", "psl"):
        rest = [word for word in all_ if word != f"{lost}.nc"]
        yield downscale(f"without {lost}", *rest, says=("this model needs rain [mm h-1]", f"{lost} [", "missing"))
    yield downscale("a file that is not there", *all_, "no.nc", says=("no.nc does not exist",))
    yield downscale("the same file twice", *all_, "rain.nc", code=0)
    yield downscale("--variable of two", *all_, "--variable", "rain", says=("leave --variable out",))
    yield downscale("--conserve without a constraint", "bare", "rain.nc", "--conserve", says=("leave --conserve out",))
    for name, units in (("tas", "Pa"), ("psl", "K"), ("rain", "K")):
        path = stored(field(name, units, given), folder / f"{name}.{units}.nc")
        words = [path.name if word == f"{name}.nc" else word for word in all_]
        yield downscale(f"{name} in {units}", *words, says=(f"variable {name} is in '{units}'", "cannot be converted"))
    yield downscale("over an input", *all_, "-o", "psl.nc", "--overwrite", says=("input itself",))


def grids(folder: Path, given: xr.Dataset) -> Iterator[Case]:
    """Fields that lie elsewhere, at other times, or on no grid of the output's."""
    tas, psl = field("tas", "K", given), field("psl", "Pa", given)
    changes = {
        "east": lambda ds: ds.assign_coords(lon=ds["lon"] + 90), "part": lambda ds: ds.isel(lon=slice(6)),
        "later": lambda ds: ds.assign_coords(time=ds["time"] + np.timedelta64(90, "D")),
        "short": lambda ds: ds.isel(time=slice(2)),
        "noleap": lambda ds: ds.convert_calendar("360_day", align_on="date", use_cftime=True),
        "numbers": lambda ds: ds.assign_coords(time=np.arange(3.0)),
    }  # fmt: skip
    for name, change in changes.items():
        stored(change(tas), folder / f"tas.{name}.nc")
        stored(change(psl), folder / f"psl.{name}.nc")
        says = ("on other cells",) if name in ("east", "part") else ("at other times",)
        yield downscale(f"tas {name}", "model", "rain.nc", f"tas.{name}.nc", "psl.nc", says=says)
    for name, says in {
        "east": "no psl where rain lies", "later": "no psl at any time of rain", "noleap": "calendar",
        "numbers": "calendar",
    }.items():  # fmt: skip
        yield downscale(f"psl {name}", "model", "rain.nc", "tas.nc", f"psl.{name}.nc", says=(says,))
        onto = ("--onto", f"tas.{name}.nc")
        where = {"east": ("no rain where tas lies",), "later": (), "noleap": (), "numbers": ()}[name]
        yield downscale(f"onto {name}", "one", "rain.nc", *onto, says=where, code=2 if where else 0)
    stored(given.isel(lat=slice(3)), folder / "few.nc")
    yield downscale("onto few cells", "one", "rain.nc", "--onto", "few.nc", says=("fewer than a block",))
    yield downscale("onto nothing", "one", "rain.nc", "--onto", "no.nc", says=("no.nc does not exist",))
    line = xr.Dataset({"line": ("time", np.arange(3.0))})
    stored(line, folder / "line.nc")
    yield downscale("onto a line", "one", "rain.nc", "--onto", "line.nc", says=("has no variable with a y",))
    yield downscale("onto, and to", "one", "rain.nc", "--onto", "tas.nc", "--to", "0.1", says=("leave --to out",))
    metres = {side: (side, np.arange(float(n)), {"units": "m"}) for side, n in (("lat", 8), ("lon", 12))}
    stored(given.assign_coords(metres), folder / "metres.nc")
    yield downscale("onto another projection", "one", "rain.nc", "--onto", "metres.nc", says=("projection",))


def masks(folder: Path) -> Iterator[Case]:
    """Masks that are on other cells, or are none."""
    fine = {
        side: (side, first + 0.025 * np.arange(n), {"units": f"degrees_{way}"})
        for side, first, n, way in (("lat", 40 - 0.0375, 32, "north"), ("lon", 5 - 0.0375, 48, "east"))
    }
    sea = xr.Dataset({"sea": (("lat", "lon"), np.tile(np.eye(16), (2, 3)).astype("float32"))}, fine)
    changes = {
        "good": sea, "moved": sea.assign_coords(lat=sea["lat"] + 0.01), "part": sea.isel(lat=slice(8)),
        "empty": sea * 0, "missing": sea.where(sea > 2), "two": sea.assign(other=sea["sea"]),
        "line": xr.Dataset({"line": ("time", np.arange(3.0))}), "metres": sea.drop_vars(["lat", "lon"]),
        "text": xr.Dataset({"sea": (("lat", "lon"), np.full((32, 48), "wet"))}, fine),
    }  # fmt: skip
    for name, ds in changes.items():
        stored(ds, folder / f"mask.{name}.nc")
    says = {
        "moved": "other cells", "part": "other cells", "metres": "other cells", "empty": "masks every cell",
        "missing": "masks every cell", "two": "several gridded variables", "line": "no variable with a y",
        "text": "text",
    }  # fmt: skip
    words = ("one", "rain.nc", "--mask")
    yield downscale("a mask", *words, "mask.good.nc", code=0)
    for name, what in says.items():
        yield downscale(f"a mask: {name}", *words, f"mask.{name}.nc", says=(what,))
    yield downscale("the coarse field as a mask", *words, "rain.nc", says=("other cells",))
    yield downscale("a mask that is not there", *words, "no.nc", says=("no.nc does not exist",))


def members(folder: Path, given: xr.Dataset) -> Iterator[Case]:
    """Ensembles that do not belong together."""
    stored(xr.concat([given, given], "number"), folder / "rain2.nc")
    tas, psl = field("tas", "K", given), field("psl", "Pa", given)
    stored(xr.concat([tas, tas], "number"), folder / "tas2.nc")
    stored(xr.concat([psl, psl, psl], "number"), folder / "psl3.nc")
    yield downscale("an ensemble", "model", "rain2.nc", "tas2.nc", "psl.nc", code=0)
    yield downscale(
        "one of tas, two of rain", "model", "rain2.nc", "tas.nc", "psl.nc", says=("the same members of both",)
    )
    yield downscale("three of psl", "model", "rain2.nc", "tas2.nc", "psl3.nc", says=("has 3 members of psl",))
    yield downscale("the variance of two", "one", "rain2.nc", "--variance", "members", says=("select one",))
