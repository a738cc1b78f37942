"""What the tests of predictions share: two variables and predictors in coarse files, and models of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from finescale.downscaler import Downscaler

BOTH: dict[str, Any] = {
    "variables": {
        "pr": {
            "units": "mm h-1",
            "transform": [{"kind": "log1p", "scale": 0.1, "threshold": 0.05}, "standardize"],
            "constraint": "multiplicative",
        },
        "tas": {"units": "K", "transform": "standardize", "constraint": "additive"},
    },
}


@pytest.fixture(scope="session")
def two(built: Callable[..., Downscaler]) -> Callable[..., Downscaler]:
    """``two(**changes)``: an untrained tiny model of rain and temperature, the temperature of a scale of its own."""

    def build(**changes: Any) -> Downscaler:
        model = built(**(BOTH | changes))
        standardize = list(model.transform.modules())[-1]
        standardize.mean.fill_(280.0)
        standardize.std.fill_(5.0)
        return model

    return build


@pytest.fixture(scope="session")
def fields() -> Callable[..., xr.Dataset]:
    """``fields(t, h, w, step)``: rain in mm/day, temperature in °C, and pressure, from the north southwards."""

    def made(t: int = 3, h: int = 6, w: int = 8, step: float = 0.4, seed: int = 0) -> xr.Dataset:
        rng = np.random.default_rng(seed)
        dims = ("time", "lat", "lon")
        rain = 24 * rng.gamma(0.4, 2, (t, h, w)).astype("float32")
        warm = (8 + 4 * rng.standard_normal((t, h, w))).astype("float32")
        pressure = (1e5 + 500 * rng.standard_normal((t, h, w))).astype("float32")
        return xr.Dataset(
            {
                "pr": (dims, rain, {"units": "mm/day", "standard_name": "precipitation_flux"}),
                "tas": (dims, warm, {"units": "degC", "standard_name": "air_temperature", "long_name": "warmth"}),
                "psl": (dims, pressure, {"units": "Pa"}),
            },
            coords={
                "time": ("time", pd.date_range("2000-03-01", periods=t, freq="6h"), {"standard_name": "time"}),
                "lat": ("lat", 50 - step * (np.arange(h) + 0.5), {"units": "degrees_north"}),
                "lon": ("lon", 5 + step * (np.arange(w) + 0.5), {"units": "degrees_east"}),
            },
        )

    return made
