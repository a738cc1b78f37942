"""What cases are made of: small fields, files, a model, and the commands that read a field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from tests.hostile.cases import Case

CONFIG: dict[str, Any] = {
    "factor": "1x4",
    "variables": {"rain": {"units": "mm h-1"}},
    "transform": [{"kind": "log1p", "scale": 0.1, "threshold": 0.05}, "standardize"],
    "mean": {
        "kind": "network",
        "fold": 2,
        "backbone": {"kind": "unet", "width": 8, "multipliers": [1, 1], "blocks": 1},
    },
    "latent": {"kind": "wavelet", "levels": 1},
    "denoiser": {"backbone": {"kind": "unet", "width": 8, "multipliers": [1, 1], "blocks": 1}},
    "process": {"schedule": {"kind": "edm", "sigma_max": 10}, "sampler": "heun", "steps": 2},
    "constraint": "multiplicative",
    "precision": "float32",
}
"""A model that is built in a moment."""


DIMS, SIZES = ("time", "lat", "lon"), (3, 8, 12)
"""Of `rain` and `classic`."""
FACTOR = ["--factor", "1x4", "-o"]


def rain(t: int = 3, h: int = 8, w: int = 12, **attrs: Any) -> xr.Dataset:
    """Amounts at every hour on latitude and longitude."""
    values = np.random.default_rng(0).gamma(0.5, 2, (t, h, w)).astype(np.float32)
    time = np.datetime64("2020-01-01", "ns") + np.arange(t) * np.timedelta64(1, "h")
    return xr.Dataset(
        {"rain": (("time", "lat", "lon"), values, {"units": "mm h-1"} | attrs)},
        coords={
            "time": ("time", time, {"standard_name": "time"}),
            "lat": ("lat", 40 + 0.1 * np.arange(h), {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", 5 + 0.1 * np.arange(w), {"units": "degrees_east", "standard_name": "longitude"}),
        },
    )


def stored(ds: xr.Dataset, path: Path, **settings: Any) -> Path:
    """``ds`` in a NetCDF file, by xarray alone."""
    ds.to_netcdf(path, engine="netcdf4", **settings)
    return path


def model(path: Path, **changes: Any) -> Path:
    """An untrained model's folder."""
    import torch

    from finescale.config.build import build_model

    torch.manual_seed(0)
    build_model(CONFIG | changes).save(path)
    return path


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
