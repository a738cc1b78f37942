"""Files whose attributes are not what they are by definition."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
from tests.hostile import made
from tests.hostile.cases import Case
from tests.hostile.made import DIMS, FACTOR, classic, each


def cases(folder: Path) -> list[Case]:
    """All of them; inputs lie in ``folder``, outputs would."""
    made.model(folder / "model")
    return [*attributes(folder), *unwritten(folder)]


def unwritten(folder: Path) -> Iterator[Case]:
    """Attributes that a Zarr store takes and a NetCDF file does not: they are left out."""
    names = {
        "braces": "{a: {a: ",
        "a slash": "a/b",
        "a blank first": " a",
        "nothing": "",
        "a control character": "a\x07",
    }
    for number, (kind, name) in enumerate(names.items()):
        ds = made.rain()
        ds["lat"].attrs[name] = ds["rain"].attrs[name] = ds.attrs[name] = "x"
        ds.to_zarr(folder / f"names{number}.zarr", consolidated=False)
        path = folder / f"names{number}.zarr"
        yield from each(f"an attribute whose name has {kind}", path, code=0)
    ds = made.rain()
    ds["lat"].attrs["history"] = ds.attrs["history"] = {"a": [1, None]}
    ds.to_zarr(folder / "nested.zarr", consolidated=False)
    yield from each("an attribute that is a mapping", folder / "nested.zarr", code=0)


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
