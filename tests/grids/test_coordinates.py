"""Axes are recognised, coordinates refined and coarsened with bounds."""

from __future__ import annotations

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from finescale.errors import InputError
from finescale.grids import coordinates, relabel
from finescale.grids.factor import Factor
from finescale.grids.grid import Grid


def field(t=4, h=6, w=8, **coords) -> xr.DataArray:
    values = np.arange(t * h * w, dtype=np.float32).reshape(t, h, w)
    held = {
        "time": ("time", pd.date_range("2020-01-01", periods=t, freq="h")),
        "lat": ("lat", 40 + 0.5 * np.arange(h), {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": ("lon", 10 + 0.25 * np.arange(w), {"units": "degrees_east"}),
    } | coords
    return xr.DataArray(values, dims=("time", "lat", "lon"), coords=held, name="rain", attrs={"units": "mm h-1"})


def test_axes_by_name_attributes_and_dates():
    assert coordinates.find(field()) == {"time": "time", "y": "lat", "x": "lon"}
    odd = field().rename(time="when", lat="a", lon="b").expand_dims(number=3)
    assert coordinates.find(odd) == {"realization": "number", "time": "when", "y": "a", "x": "b"}
    assert coordinates.canonical(odd.transpose("b", "number", "a", "when")).dims == ("realization", "when", "a", "b")
    letters = xr.DataArray(
        np.zeros((2, 3)),
        dims=("p", "q"),
        coords={"p": ("p", [1, 2], {"axis": "X"}), "q": ("q", [1, 2, 3], {"axis": "Y"})},
    )
    assert coordinates.canonical(letters).dims == ("time", "q", "p")


def test_a_missing_time_is_added_from_the_scalar_coordinate():
    one = field().isel(time=2)
    assert coordinates.canonical(one).dims == ("time", "lat", "lon")
    assert coordinates.canonical(one).time.values[0] == one.time.values
    assert coordinates.canonical(one.drop_vars("time")).sizes["time"] == 1


def test_forecast_lead_becomes_time():
    da = (
        field()
        .rename(time="step")
        .assign_coords(step=pd.to_timedelta(np.arange(4), "h"), time=pd.Timestamp("2020-01-01"))
    )
    da = da.assign_coords(valid_time=("step", pd.date_range("2020-01-01", periods=4, freq="h")))
    assert coordinates.canonical(da).dims == ("valid_time", "lat", "lon")


@pytest.mark.parametrize(
    ("da", "words"),
    [
        (
            xr.DataArray(np.zeros((2, 3)), name="rain"),
            r"variable rain has no y and no x dimension among \(dim_0: 2, dim_1: 3\)",
        ),
        (xr.DataArray(np.zeros((2, 3)), dims=("time", "x")), "no y dimension"),
        (xr.DataArray(np.zeros((2, 3, 4)), dims=("lat", "y", "x")), "two y dimensions"),
        (xr.DataArray(np.zeros((2, 3, 4)), dims=("level", "y", "x")), "select one value of level"),
    ],
)
def test_dimensions_that_are_not_understood(da, words):
    with pytest.raises(InputError, match=words):
        coordinates.canonical(da)


def test_grid_from_centres_descending_and_single_precision():
    grid = coordinates.read_grid(field())
    assert grid.shape == (4, 6, 8) and grid.geographic
    np.testing.assert_allclose(grid.y, 39.75 + 0.5 * np.arange(7))
    np.testing.assert_allclose(grid.time, 3600 * (np.arange(5) - 0.5))
    flipped = coordinates.read_grid(field().isel(lat=slice(None, None, -1)))
    np.testing.assert_allclose(flipped.y, grid.y[::-1])
    np.testing.assert_allclose(flipped.cell_area, grid.cell_area[::-1])
    lon = np.float32(-130 + 0.01 * np.arange(8) + 0.005)
    assert coordinates.even(coordinates.read_grid(field(lon=("lon", lon, {"units": "degrees_east"}))).x)
    rounded = coordinates.read_grid(field(lon=("lon", lon, {"units": "degrees_east"})))
    assert rounded.matches(Grid(rounded.time, rounded.y, -130 + 0.01 * np.arange(9)), tolerance=5e-3)


def test_uneven_coordinates():
    with pytest.raises(InputError, match=r"lat is not evenly spaced: the step is 1, but 2 between cells 3 and 4"):
        coordinates.read_grid(field(lat=("lat", [0, 1, 2, 3, 5, 6.0], {"units": "degrees_north"})))
    with pytest.raises(InputError, match="time is unusable: its values do not increase"):
        coordinates.read_grid(field().isel(time=[0, 2, 1, 3]))
    uneven = field().isel(time=[0, 1, 3])
    assert not coordinates.even(coordinates.read_grid(uneven).time)
    assert "lat" in relabel.refined_coords(uneven, Factor(1, 2))
    with pytest.raises(InputError, match="uneven times"):
        relabel.refined_coords(uneven, Factor(2, 2))


def test_bounds_win_and_labels_keep_their_place():
    da = field()
    start = da.time.values
    ds = da.to_dataset().assign(time_bnds=(("time", "bnds"), np.stack([start, start + np.timedelta64(1, "h")], axis=1)))
    ds.time.attrs["bounds"] = "time_bnds"
    da = coordinates.with_bounds(ds["rain"], ds)
    np.testing.assert_allclose(coordinates.read_grid(da).time, 3600 * np.arange(5))
    fine = relabel.refined_coords(da, Factor(3, 2))
    assert fine["time"].values[1] == np.datetime64("2020-01-01T00:20") and fine["time"].dtype == da.time.dtype
    assert fine["time_bnds"].shape == (12, 2) and fine["lat_bnds"].shape == (12, 2)
    assert fine["lat"].attrs["bounds"] == "lat_bnds" and fine["lat"].attrs["standard_name"] == "latitude"
    coarse = relabel.coarsened_coords(da, Factor(time=2, y=3, x=2))
    assert coarse["time"].values[1] == np.datetime64("2020-01-01T02:00")
    np.testing.assert_allclose(coarse["lat"].values, [40.5, 42.0])
    np.testing.assert_allclose(coarse["lat_bnds"].values, [[39.75, 41.25], [41.25, 42.75]])


def test_one_cell_takes_its_width_from_bounds_or_the_other_axis():
    one = field().isel(lat=[2])
    np.testing.assert_allclose(np.diff(coordinates.read_grid(one).y), 0.25)
    ds = field().to_dataset().assign(lat_bnds=(("lat", "bnds"), 39.75 + 0.5 * (np.arange(6)[:, None] + [0, 1])))
    ds.lat.attrs["bounds"] = "lat_bnds"
    np.testing.assert_allclose(
        coordinates.read_grid(coordinates.with_bounds(ds["rain"], ds).isel(lat=[2])).y, [40.75, 41.25]
    )


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_other_calendars_round_trip(calendar):
    times = xr.date_range("2001-02-27", periods=4, freq="D", calendar=calendar, use_cftime=True)
    da = field(time=("time", times))
    fine = relabel.refined_coords(da, Factor(4, 1))
    assert fine["time"].values[0] == cftime.datetime(2001, 2, 26, 15, calendar=calendar)
    back = relabel.coarsened_coords(
        xr.DataArray(np.zeros((16, 6, 8)), dims=da.dims, coords={k: fine[k] for k in da.dims}), Factor(4, 1)
    )
    assert list(back["time"].values) == list(times)


def test_refined_then_coarsened_is_the_same_grid_and_reads_back(tmp_path):
    da = field().assign_coords(crs=((), 0, {"grid_mapping_name": "latitude_longitude"}))
    da.attrs["grid_mapping"] = "crs"
    coords = relabel.refined_coords(da, Factor(3, 5))
    assert "crs" in coords
    fine = xr.Dataset({"rain": (da.dims, np.zeros((12, 30, 40), np.float32))}, coords=coords)
    fine.to_netcdf(tmp_path / "fine.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "fine.nc", engine="netcdf4") as ds:
        read = coordinates.with_bounds(ds["rain"], ds)
        assert coordinates.read_grid(read).coarsen(Factor(3, 5)).matches(coordinates.read_grid(da), 1e-9)
        back = relabel.coarsened_coords(read, Factor(3, 5))
        np.testing.assert_array_equal(back["time"].values, da.time.values)
