"""Missing values that are not declared, and files that are not whole: told where the values are read."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import finescale
from finescale.data import classic
from finescale.data.values import check_values
from finescale.errors import InputError, Notice


@pytest.mark.parametrize("lazy", [False, True])
def test_datasets_in_memory_are_looked_at_too(rain, lazy: bool) -> None:
    ds = rain()
    ds["rain"][2, 5, 5] = -9999
    before = ds.copy(deep=True)
    ds = ds.chunk(lat=6) if lazy else ds
    with pytest.raises(InputError, match="the dataset: variable rain holds -9999 in 1 of"):
        finescale.coarsen(ds, "1x4")["rain"].load()
    xr.testing.assert_identical(ds.compute(), before)


@pytest.mark.parametrize(
    ("values", "right"),
    [
        ([-9999, 0, 1], False),
        ([-9999, -6000, 1], True),  # heights below the sea
        ([1e20, 1], False),
        ([99999, 1e5], True),  # pressures
        ([-60, -99], True),  # a cold night
        ([-32768, 12], False),
        ([np.nan, np.nan], True),
        ([np.nan, -999.9], False),
        ([3.4028235e38, 0], False),
        ([-np.inf, 0], False),
        ([], True),
    ],
)
def test_marks_stand_alone(values: list[float], right: bool) -> None:
    array = np.array(values, dtype=np.float32)
    if right:
        check_values(array, {}, "v", "here")
    else:
        with pytest.raises(InputError, match="here: variable v holds"):
            check_values(array, {}, "v", "here")


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT", "NETCDF3_64BIT_DATA"])
@pytest.mark.parametrize("unlimited", [[], ["time"]])
@pytest.mark.parametrize("several", [False, True])
def test_the_length_of_a_classic_file_is_told_to_the_byte(
    rain, tmp_path: Path, form: str, unlimited: list[str], several: bool
) -> None:
    """Padding at the end, up to three bytes, need not be there; the last value must."""
    ds = rain(3, 9, 9).astype("i2" if form == "NETCDF3_CLASSIC" else "f4").drop_vars("time")
    ds = ds.assign(one=("time", np.zeros(3, "i1")), other=ds["rain"]) if several else ds
    path = tmp_path / "a.nc"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.to_netcdf(path, format=form, engine="netcdf4", unlimited_dims=unlimited)
    classic.check_length(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(InputError, match="is truncated: it has"):
        classic.check_length(path)


def test_a_mask_that_prediction_does_not_know_is_said(tiny, data: Path, config, tmp_path: Path) -> None:
    with xr.open_dataset(data) as ds:
        ds = ds.load()
    ds["rain"][:, :4, :8] = np.nan
    sea = tmp_path / "sea.nc"
    ds.to_netcdf(sea)
    settings = config(sea)
    model = finescale.fit(settings, tmp_path / "model")
    assert model.variables["rain"]["missing"] == "1.0%"
    coarse = finescale.coarsen(ds.assign_coords(lon=ds.lon + 5), "1x4")  # elsewhere, or the mask would be known
    with pytest.warns(Notice, match=r"1.0% of the cells of the training data were missing"):
        out = finescale.downscale(tmp_path / "model", coarse, members=1)
    assert out is not None and "is not known here" in out.attrs["comment_on_missing_cells"]
    whole = finescale.fit(config(data), tmp_path / "whole")
    assert "missing" not in whole.variables["rain"]


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "standard"])
def test_ranges_of_dates_in_any_calendar(data: Path, config, tmp_path: Path, calendar: str) -> None:
    with xr.open_dataset(data) as ds:
        ds = ds.load()
    ds["time"] = xr.date_range("2001-02-27", periods=4, freq="D", calendar=calendar, use_cftime=calendar != "standard")
    ds.to_netcdf(tmp_path / "days.nc")
    settings = config(tmp_path / "days.nc", steps=2)
    end = "2001-02-30" if calendar == "360_day" else "2001-03-01"
    settings["data"] |= {"train": {"time": ["2001-02-27", end]}, "valid": {"time": ["2001-02-28 00:00", None]}}
    finescale.fit(settings, tmp_path / "model")
    settings["data"]["train"] = {"time": ["the day before", None]}
    with pytest.raises(InputError, match="which are not dates"):
        finescale.fit(settings, tmp_path / "other")
