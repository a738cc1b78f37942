"""Amounts and rates, one from the other by their intervals, as ``?units=`` asks for it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr

import finescale
from finescale.cli import main
from finescale.data.files import open_field
from finescale.errors import InputError, Notice


@pytest.fixture
def sums(tmp_path):
    """``sums(lower, upper, **attrs)``: a file of amounts 6, 12, 18 … in intervals that begin and end at these hours."""

    number = itertools.count()

    def made(lower, upper, **attrs):
        start = np.datetime64("2020-01-01", "ns")
        ends = start + np.array([lower, upper]).T * np.timedelta64(1, "h")
        values = np.broadcast_to(6.0 * np.arange(1, len(upper) + 1)[:, None, None], (len(upper), 8, 8))
        ds = xr.Dataset(
            {"rain": (("time", "y", "x"), values.astype(np.float32), {"units": "kg m-2"} | attrs)},
            coords={"time": ("time", ends[:, 1], {"bounds": "time_bnds"})},
        )
        ds["time_bnds"] = (("time", "bnds"), ends)
        ds["time"].encoding = {"units": "hours since 2020-01-01"}
        # A file of its own each time: an earlier one may still be open.
        path = tmp_path / f"sums{next(number)}.nc"
        ds.to_netcdf(path, engine="netcdf4")
        return path

    return made


def series(path, units):
    return open_field(f"{path}?units={units}").values[:, 0, 0].tolist()


def test_an_amount_becomes_a_rate_by_its_bounds_and_back(sums, tmp_path):
    path = sums([0, 6, 12], [6, 12, 18], cell_methods="time: sum", standard_name="precipitation_amount")
    rate = open_field(f"{path}?units=mm h-1")
    assert rate.values[:, 0, 0].tolist() == [1, 2, 3] and rate.attrs["units"] == "mm h-1"
    assert rate.attrs["cell_methods"] == "time: mean" and "standard_name" not in rate.attrs
    finescale.coarsen(f"{path}?units=mm h-1", "1x4", tmp_path / "rates.nc")
    assert series(tmp_path / "rates.nc", "kg m-2") == [6, 12, 18]
    assert open_field(f"{tmp_path / 'rates.nc'}?units=mm").attrs["cell_methods"] == "time: sum area: mean"


def test_units_of_one_kind_need_no_intervals(sums):
    assert series(sums([0, 6], [6, 12]), "m") == pytest.approx([0.006, 0.012])


def test_intervals_of_different_lengths_count_by_their_own(sums):
    path = sums([0, 6, 12], [6, 12, 24])
    with pytest.warns(Notice, match="intervals of rain differ, from 6 to 12 h"):
        assert series(path, "mm h-1") == [1, 2, 1.5]


def test_amounts_since_one_beginning_are_parted(sums):
    path = sums([0, 0, 0], [6, 12, 24])
    rate = open_field(f"{path}?units=mm h-1")
    assert rate.values[:, 0, 0].tolist() == [1, 1, 0.5]
    assert np.all(rate["time__lower"].values[1:] == rate["time__upper"].values[:-1])


def test_without_bounds_a_sum_is_over_its_step(rain, tmp_path):
    ds = rain(4, 8, 8).fillna(1)
    ds["rain"].attrs = {"units": "mm", "cell_methods": "time: sum"}
    ds.to_netcdf(tmp_path / "sums.nc", engine="netcdf4")
    rate = open_field(f"{tmp_path / 'sums.nc'}?units=mm h-1")
    np.testing.assert_allclose(rate.values, 12 * ds["rain"].values, rtol=1e-6)
    ds["rain"].attrs = {"units": "mm"}
    ds.to_netcdf(tmp_path / "unknown.nc", engine="netcdf4")
    with pytest.raises(InputError, match="lengths of the intervals of rain are not known"):
        open_field(f"{tmp_path / 'unknown.nc'}?units=mm h-1")


def test_refused_in_one_line(sums):
    with pytest.raises(InputError, match="intervals of rain differ and overlap"):
        series(sums([0, 3, 12], [6, 12, 18]), "mm h-1")
    with pytest.raises(InputError, match="nothing that could be in K: rain in kg m-2"):
        series(sums([0, 6], [6, 12]), "K")


def test_a_model_of_rates_says_how_to_read_amounts(sums, built, tmp_path, capfd):
    built().save(tmp_path / "model")
    path = sums([0, 6], [6, 12], cell_methods="time: sum")
    words = ["downscale", str(tmp_path / "model"), str(path), "-o", str(tmp_path / "e.nc"), "--members", "1"]
    assert main(words) == 2
    assert "cannot be converted to 'mm h-1'" in (err := capfd.readouterr().err) and "FILE?units=mm h-1" in err
    words[2] += "?units=mm h-1"
    assert main(words) == 0
    assert open_field(tmp_path / "e.nc").attrs["units"] == "mm h-1"
