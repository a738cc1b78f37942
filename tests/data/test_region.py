"""Parts of fields by ranges of coordinates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from finescale.data.region import region
from finescale.errors import InputError

Field = Callable[..., xr.DataArray]


class TestRegion:
    def test_ranges_are_half_open_and_open_ended(self, field: Field) -> None:
        da = field()
        part = region(da, {"lon": [5.0, 10.0], "lat": [None, 55.0]})
        assert part["lon"].values[[0, -1]].tolist() == [5.0, 9.5] and part["lat"].values[[0, -1]].tolist() == [
            50.0,
            54.5,
        ]
        west, east = region(da, {"lon": [None, 10.0]}), region(da, {"lon": [10.0, None]})
        assert west.sizes["lon"] + east.sizes["lon"] == da.sizes["lon"]
        xr.testing.assert_identical(region(da, None), da)
        xr.testing.assert_identical(region(da, {}), da)

    def test_dates(self, field: Field) -> None:
        part = region(field(), {"time": ["2020-06-01T01:00", "2020-06-01T02:00"]})
        assert part["time"].values.tolist() == [np.datetime64("2020-06-01T01:00", "ns").astype(int)]

    def test_decreasing_coordinates(self, field: Field) -> None:
        part = region(field().isel(lat=slice(None, None, -1)), {"lat": [60.0, None]})
        assert part["lat"].values[[0, -1]].tolist() == [69.5, 60.0]

    def test_errors(self, field: Field) -> None:
        with pytest.raises(InputError, match=r"no coordinate 'x'.*time, lat, lon"):
            region(field(), {"x": [0, 1]})
        with pytest.raises(InputError, match=r"no cell has lon from 400 to None; it goes from 0\.0 to 27\.5"):
            region(field(), {"lon": [400, None]})
        with pytest.raises(InputError, match=r"the range of lon is 5, but must be two values"):
            region(field(), {"lon": 5})  # type: ignore[dict-item]

    def test_dates_of_other_calendars(self) -> None:
        da = xr.DataArray(
            np.zeros((60, 1, 1)),
            {"time": xr.date_range("2020-01-01", periods=60, calendar="360_day", use_cftime=True)},
            ("time", "y", "x"),
        )
        assert region(da, {"time": ["2020-02-01", None]}).sizes["time"] == 30
        assert region(da, {"time": ["2020-02-30", "2020-03-01"]}).sizes["time"] == 1  # a day that we do not have
        assert region(da, {"time": [None, "2020-01-01 12:00"]}).sizes["time"] == 1
        with pytest.raises(InputError, match=r"range of time is \['spring', None\], which are not dates"):
            region(da, {"time": ["spring", None]})
        with pytest.raises(InputError, match=r"no cell has time from 2021 to None; it goes from 2020-01-01T00:00"):
            region(da, {"time": ["2021", None]})
