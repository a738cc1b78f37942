"""`coarsen` of files of several variables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

import finescale
from finescale.cli import main
from finescale.data.writing import write


def test_all_variables_that_have_times(rain: Callable[..., xr.Dataset], tmp_path: Path) -> None:
    ds = rain()
    ds["t2m"] = ds.rain.copy(data=280 + ds.rain.values).assign_attrs(units="K")
    ds["height"] = ds.rain[0].drop_vars("time").assign_attrs(units="m")
    write(ds, tmp_path / "weather.nc")
    out = tmp_path / "coarse.nc"
    assert main(["coarsen", str(tmp_path / "weather.nc"), "-o", str(out), "--factor", "2x4"]) == 0
    with xr.open_dataset(out) as means:
        assert set(means.data_vars) >= {"rain", "t2m"} and "height" not in means
        assert means.t2m.attrs["units"] == "K" and "rain, t2m" in means.attrs["title"]
        for name in ("rain", "t2m"):
            alone = finescale.coarsen(tmp_path / "weather.nc", "2x4", variable=name)[name]
            np.testing.assert_array_equal(means[name], alone)
    assert "height" in finescale.coarsen(tmp_path / "weather.nc", "1x4", variable="height")


def test_each_on_its_own_cells(rain: Callable[..., xr.Dataset]) -> None:
    ds = rain()
    found = finescale.coarsen(ds.assign(wind=ds.rain[:, :8, :8].rename(lat="lat_2", lon="lon_2")), "1x4")
    assert found.rain.shape == (4, 3, 5) and found.wind.shape == (4, 2, 2)
