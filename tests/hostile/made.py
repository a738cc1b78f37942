"""What cases are made of: small fields, files and a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

CONFIG: dict[str, Any] = {
    "factor": "1x4",
    "variable": {"name": "rain", "units": "mm h-1"},
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
