"""What outputs say of themselves, in an order and in units that other tools read."""

from __future__ import annotations

import warnings
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

import finescale
from finescale.cli import main
from finescale.errors import Notice

THEIRS = {
    "title": "radar", "source": "gauges", "id": "doi:1", "institution": "weather service", "resolution": "1 km",
    "geospatial_lat_resolution": 0.1, "Conventions": "CF-1.4", "history": "made", "coordinates": "a b",
}  # fmt: skip


@pytest.fixture
def products(built, rain, tmp_path: Path) -> Path:
    """A coarse file of one time, of what has attributes of its own, and the ensemble made of it."""
    ds = rain(2, 12, 20).isel(time=[0]).assign_attrs(THEIRS)
    del ds.lat.attrs["standard_name"], ds.time.attrs["standard_name"]
    ds.to_netcdf(tmp_path / "fine.nc")
    built().save(tmp_path / "model")
    words = ["coarsen", str(tmp_path / "fine.nc"), "--factor", "1x2", "-o", str(tmp_path / "coarse.nc")]
    assert main(words) == 0
    words = ["downscale", str(tmp_path / "model"), str(tmp_path / "coarse.nc"), "--members", "2"]
    assert main([*words, "-o", str(tmp_path / "ensemble.nc")]) == 0
    return tmp_path


@pytest.mark.parametrize("name", ["coarse.nc", "ensemble.nc"])
def test_what_an_output_says_of_itself(products: Path, name: str) -> None:
    with netCDF4.Dataset(products / name) as file:
        said = {key: file.getncattr(key) for key in file.ncattrs()}
        axes = {key: file[key].__dict__ for key in ("time", "lat", "lon")}
        dims = file["rain"].dimensions
        members = file["realization"].__dict__ if name == "ensemble.nc" else None
    assert said["Conventions"] == "CF-1.11" and said["source"].startswith("finescale ")
    assert (
        said["title"]
        == {
            "coarse.nc": "rain: means of 1x2 cells (time x space)",
            "ensemble.nc": "rain: downscaled by 1x4 (time x space), 2 members",
        }[name]
    )
    assert (said["input_title"], said["input_source"], said["input_id"]) == ("radar", "gauges", "doi:1")
    assert said["institution"] == "weather service" and said["history"].endswith("\nmade")
    assert not {key for key in said if "resolution" in key} and "coordinates" not in said
    assert axes["time"]["units"].split(" since ")[0] == "days" and axes["time"]["standard_name"] == "time"
    assert [axes[key]["axis"] for key in axes] == ["T", "Y", "X"]
    assert (axes["lat"]["standard_name"], axes["lon"]["standard_name"]) == ("latitude", "longitude")
    if members is None:
        assert dims == ("time", "lat", "lon")
    else:
        assert dims == ("time", "realization", "lat", "lon")
        assert (members["units"], members["axis"], members["standard_name"]) == ("1", "E", "realization")


def test_an_ensemble_is_coarsened_into_the_order_that_cdo_reads(products: Path) -> None:
    words = ["coarsen", str(products / "ensemble.nc"), "--factor", "1x4", "-o", str(products / "again.nc")]
    assert main(words) == 0
    with xr.open_dataset(products / "again.nc") as again, xr.open_dataset(products / "coarse.nc") as coarse:
        assert again["rain"].dims == ("time", "realization", "lat", "lon")
        known = np.broadcast_to(coarse["rain"].values[:, None], again["rain"].shape)
        np.testing.assert_allclose(again["rain"].values, known, rtol=1e-4, atol=1e-5)


def test_coordinates_that_the_output_does_not_have_are_named(rain, tmp_path: Path) -> None:
    ds = rain()
    ds = ds.assign_coords(depth=(("lat", "lon"), np.ones((12, 20))), level=((), 2.0), month=("time", np.ones(4)))
    ds.to_netcdf(tmp_path / "fine.nc")
    with pytest.warns(Notice, match=r"does not have the coordinates depth$"):
        out = finescale.coarsen(tmp_path / "fine.nc", "1x4")
    assert "depth" not in out.coords and float(out["level"]) == 2 and out["month"].dims == ("time",)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        finescale.coarsen(rain(), "1x4")
