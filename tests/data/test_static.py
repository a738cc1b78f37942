"""Static fields: interpolated to any cells, cut and turned with the crops, seen by the networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from finescale.config.load import load
from finescale.data.static import StaticFields
from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.grids.grid import Grid
from finescale.model.batch import Inputs, Members
from finescale.training.crops import Crops
from finescale.training.fit import fit
from finescale.training.survey import Criteria
from finescale.verbs import downscale


def height(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A plane, which linear interpolation reproduces."""
    return 100 + 7 * y[:, None] - 3 * x


@pytest.fixture
def dem(tmp_path: Path) -> Path:
    y, x = np.arange(-2, 42, 2.0), np.arange(-3, 45, 3.0)
    da = xr.DataArray(height(y, x)[::-1], dims=("y", "x"), coords={"y": y[::-1], "x": x}, name="elevation")
    da.to_dataset().to_netcdf(tmp_path / "dem.nc", engine="netcdf4")
    return tmp_path / "dem.nc"


def rain(frames: int = 6, seed: int = 0) -> xr.DataArray:
    values = np.random.default_rng(seed).gamma(0.4, 3, (frames, 40, 40)).astype(np.float32)
    times = np.datetime64("2020-01-01", "ns") + np.arange(frames) * np.timedelta64(1, "h")
    coords = {"time": times, "y": np.arange(40.0), "x": np.arange(40.0)}
    return xr.DataArray(values, dims=("time", "y", "x"), coords=coords, name="rain", attrs={"units": "mm h-1"})


def grid(y: np.ndarray, x: np.ndarray, crs: str = "") -> Grid:
    """The cells around evenly spaced centres."""
    sides = [np.append(c - (c[1] - c[0]) / 2, c[-1] + (c[1] - c[0]) / 2) for c in (y, x)]
    return Grid(np.array([0.0, 1.0]), sides[0], sides[1], crs)


def test_interpolated_to_smaller_cells(dem: Path) -> None:
    static = StaticFields(dem)
    assert static.names == ["elevation"]
    y, x = np.linspace(0.3, 30, 27), np.linspace(2, 39.5, 21)
    np.testing.assert_allclose(static.at(grid(y, x))[0], height(y, x), rtol=1e-5)
    edge = np.linspace(38, 44, 13)
    beyond = static.at(grid(edge, x))[0]
    np.testing.assert_allclose(beyond[5], height(np.array([40.0]), x)[0], rtol=1e-5)
    assert np.isnan(beyond[-1]).all(), "two cells beyond the field"
    with pytest.raises(InputError, match="do not cover"):
        static.at(grid(y + 500, x))
    with pytest.raises(InputError, match="static field soil, but elevation is given"):
        StaticFields(dem, ["soil"])


def test_averaged_to_larger_cells(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((24, 24))
    da = xr.DataArray(values, {"y": np.arange(24.0), "x": np.arange(24.0)}, ("y", "x"), "elevation")
    da.to_dataset().to_netcdf(tmp_path / "fine.nc")
    found = StaticFields(tmp_path / "fine.nc").at(grid(np.arange(1.5, 24, 4), np.arange(1.5, 24, 4)))
    np.testing.assert_allclose(found[0], values.reshape(6, 4, 6, 4).mean((1, 3)), rtol=1e-6)


@pytest.mark.parametrize("spacing", [0.05, 1.0])
def test_from_a_rotated_grid(tmp_path: Path, spacing: float) -> None:
    """Axes at an angle to latitude and longitude: a plane in these comes out as the plane."""
    rows, columns = np.meshgrid(np.arange(0, 12, spacing), np.arange(0, 12, spacing), indexing="ij")
    angle = np.deg2rad(30)
    lat, lon = 40 + rows * np.cos(angle) - columns * np.sin(angle), rows * np.sin(angle) + columns * np.cos(angle)
    there = {
        "lat": (("rlat", "rlon"), lat, {"standard_name": "latitude", "units": "degrees_north"}),
        "lon": (("rlat", "rlon"), lon, {"standard_name": "longitude", "units": "degrees_east"}),
        "rlat": ("rlat", rows[:, 0], {"standard_name": "grid_latitude", "units": "degrees"}),
        "rlon": ("rlon", columns[0], {"standard_name": "grid_longitude", "units": "degrees"}),
        "crs": ((), 0, {"grid_mapping_name": "rotated_latitude_longitude"}),
    }
    da = xr.DataArray(2 * lat - lon, dims=("rlat", "rlon"), name="elevation", attrs={"grid_mapping": "crs"})
    da.to_dataset().assign_coords(there).to_netcdf(tmp_path / "rotated.nc")
    y, x = np.arange(40.25, 44, 0.5), np.arange(3.25, 7, 0.5)
    found = StaticFields(tmp_path / "rotated.nc").at(grid(y, x, "latlon"))[0]
    np.testing.assert_allclose(found, 2 * y[:, None] - x, atol=0.05 if spacing < 0.5 else 1e-4)
    with pytest.raises(InputError, match="bring it to the other's first"):
        StaticFields(tmp_path / "rotated.nc").at(grid(y, x, "lambert_conformal_conic"))


def test_crops_carry_them_as_they_are_turned(dem: Path) -> None:
    da = rain().copy(data=np.broadcast_to(height(np.arange(40.0), np.arange(40.0)), (6, 40, 40)).astype(np.float32))
    batch = Crops([[da]], Factor(1, 4), (1, 16, 16), Criteria(0.0), static=StaticFields(dem)).draw(12, 0)
    assert batch.static is not None and batch.static.shape == (12, 1, 16, 16)
    torch.testing.assert_close(batch.static, batch.fine[:, :, 0])


@pytest.mark.parametrize("native", [False, True], ids=["float32", "bfloat16"], indirect=True)
def test_trained_saved_and_asked_for(dem: Path, tmp_path: Path, native: bool) -> None:
    rain().to_dataset().to_netcdf(tmp_path / "rain.nc", engine="netcdf4")
    small = {"kind": "unet", "width": 8, "multipliers": [1], "heads": 1}
    config = {
        "factor": "1x4",
        "transform": [{"kind": "log1p", "scale": 0.1}, "standardize"],
        "mean": {"kind": "network", "fold": 2, "backbone": small},
        "latent": "pixel",
        "denoiser": {"backbone": small},
        "process": {"steps": 2},
        "constraint": "multiplicative",
        "data": {"path": str(tmp_path / "rain.nc"), "crop": 16, "static": str(dem)},
        "train": {"steps": 6, "batch": 2},
    }
    fit(config, tmp_path / "model")
    model = load(tmp_path / "model", device="cpu")
    assert model.config["static"] == ["elevation"]
    y, x = np.arange(40.0), np.arange(40.0)
    assert abs(float(model.conditions.mean) - height(y, x).mean()) < 40 and 30 < float(model.conditions.std) < 150
    coarse = rain().coarsen(y=4, x=4).mean()
    with_dem = downscale(model, coarse, members=1, static=dem)["rain"]
    for parameter in model.mean.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    one = downscale(model, coarse, members=1, static=dem)["rain"].values
    flat = xr.open_dataset(dem, engine="netcdf4") * 0
    flat.to_netcdf(tmp_path / "flat.nc", engine="netcdf4")
    other = downscale(model, coarse, members=1, static=tmp_path / "flat.nc")["rain"].values
    assert with_dem.shape == (1, 6, 40, 40) and np.abs(one - other).max() > 1e-3
    windows = downscale(model, coarse, members=1, static=dem, window=(1, 4, 4), halo=(0, 10, 10))["rain"].values
    np.testing.assert_allclose(windows, one, atol=2e-2 * one.max())
    with pytest.raises(InputError, match=r"trained with static fields \(elevation\)"):
        downscale(model, coarse, members=1)
    with pytest.raises(InputError, match="takes 1 static fields"):
        model.sample(Inputs(torch.ones(1, 1, 1, 4, 4)), Members())
