"""Other sources on the blocks of a field: against xarray-like references and closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from finescale.data.blocks import cells
from finescale.data.sources import Partner, Predictors, Source, covered
from finescale.errors import InputError, Notice
from finescale.grids.factor import Factor


def field(y, x, times=4, start="2000-01-01", step="1D", values=None, name="pr", latlon=True):
    """A field on the given centres, random unless values are given."""
    sides = ("lat", "lon") if latlon else ("y", "x")
    units = ("degrees_north", "degrees_east") if latlon else ("m", "m")
    shape = (times, len(y), len(x))
    data = np.random.default_rng(0).random(shape) if values is None else np.broadcast_to(values, shape)
    coords = {
        "time": pd.date_range(start, periods=times, freq=step),
        sides[0]: (sides[0], np.asarray(y, float), {"units": units[0]}),
        sides[1]: (sides[1], np.asarray(x, float), {"units": units[1]}),
    }
    return xr.DataArray(data.astype("float32"), coords, ("time", *sides), name)


def test_the_same_grid_gives_the_same_values():
    coarse = field([10, 12, 14], [0, 2, 4, 6])
    np.testing.assert_allclose(Source(coarse, False, "coarse.nc").on(cells(coarse)), coarse.values, rtol=1e-6)


def test_block_means_are_those_of_the_fine_field_whatever_the_offset_of_the_crop():
    fine = field(np.arange(10, 16, 0.5), np.arange(0, 8, 0.5))
    source = Source(fine, False, "fine.nc")
    partner = Partner(fine, [source], None)
    found, _ = partner.of(slice(1, 3), slice(3, 9), slice(1, 13), Factor(1, y=3, x=3))
    part = fine[1:3, 3:9, 1:13]
    edges = np.deg2rad(np.arange(9.75, 16, 0.5))
    area = np.diff(np.sin(edges))[3:9, None] * np.ones(12)
    blocks = (part.values * area).reshape(2, 2, 3, 4, 3).sum((2, 4)) / area.reshape(2, 3, 4, 3).sum((1, 3))
    np.testing.assert_allclose(found[0], blocks, rtol=1e-5)


def test_totals_are_kept_on_cells_that_do_not_match():
    coarse = field([1.0, 3.0, 5.0], [1.0, 3.0, 5.0], latlon=False)
    wanted = field(np.arange(0.75, 6, 1.5), np.arange(0.75, 6, 1.5), latlon=False)
    found = Source(coarse, False, "coarse.nc").on(cells(wanted))
    np.testing.assert_allclose(found.sum((1, 2)) * 1.5**2, coarse.sum(("y", "x")) * 2.0**2, rtol=1e-6)


def test_longitudes_meet_on_the_circle():
    whole = field([10, 12], np.arange(0.5, 360, 1.0), values=np.cos(np.deg2rad(np.arange(0.5, 360, 1.0))))
    west = field([10, 12], np.arange(-4.5, 5, 1.0))
    for smooth in (False, True):
        found = Source(whole, smooth, "whole.nc").on(cells(west))
        np.testing.assert_allclose(found[0, 0], np.cos(np.deg2rad(np.arange(-4.5, 5, 1.0))), rtol=1e-5)
    finer = field([10, 12], np.arange(-4.75, 5, 0.5))
    found = Source(whole, True, "whole.nc").on(cells(finer))
    np.testing.assert_allclose(found[0, 0], np.cos(np.deg2rad(np.arange(-4.75, 5, 0.5))), atol=1e-3)


def test_a_coarser_predictor_is_interpolated_and_values_are_not():
    ramp = field([0.0, 2.0, 4.0], [0.0, 2.0], values=np.array([0.0, 2.0, 4.0])[:, None], latlon=False)
    wanted = field([0.5, 1.5, 2.5], [0.5, 1.5], latlon=False)
    smooth, flat = (Source(ramp, kind, "ramp.nc").on(cells(wanted))[0, :, 0] for kind in (True, False))
    np.testing.assert_allclose(smooth, [0.5, 1.5, 2.5], rtol=1e-6)
    np.testing.assert_allclose(flat, [0.0, 2.0, 2.0], rtol=1e-6)


def test_times_are_matched_by_intervals():
    hourly = field([0, 1], [0, 1], times=48, step="1h", values=np.arange(48.0)[:, None, None])
    daily = field([0, 1], [0, 1], times=2, start="2000-01-01T11:30", step="1D")
    found = Source(hourly, False, "hourly.nc").on(cells(daily))[:, 0, 0]
    np.testing.assert_allclose(found, [11.5, 35.5], rtol=1e-6)
    later = field([0, 1], [0, 1], times=2, start="2001-01-01", step="1D")
    assert np.isnan(Source(hourly, False, "hourly.nc").on(cells(later))).all()
    with pytest.raises(InputError, match=r"hourly\.nc has no pr at any time of pr"):
        covered(Source(hourly, False, "hourly.nc"), later)
    both = field([0, 1], [0, 1], times=4, start="2000-01-01T11:30", step="1D")
    with pytest.warns(Notice, match="2 of 4 times"):
        assert covered(Source(hourly, False, "hourly.nc"), both).tolist() == [True, True, False, False]


def test_unknown_cells_do_not_count():
    coarse = field(np.arange(4.0), np.arange(4.0), latlon=False).copy()
    coarse[0, 0, 0] = np.nan
    coarse[1, :2, :2] = np.nan
    wanted = field([0.5, 2.5], [0.5, 2.5], latlon=False)
    found = Source(coarse, False, "coarse.nc").on(cells(wanted))
    assert found[0, 0, 0] == pytest.approx(float(np.nanmean(coarse[0, :2, :2])), rel=1e-6)
    assert np.isnan(found[1, 0, 0]) and np.isfinite(found[1, 1, 1])


def test_other_calendars_and_projections_are_refused():
    here, there = field([0, 1], [0, 1]), field([0, 1], [0, 1], latlon=False)
    with pytest.raises(InputError, match="projection"):
        Source(there, False, "there.nc").on(cells(here))
    days = here.convert_calendar("360_day", align_on="date", use_cftime=True)
    with pytest.raises(InputError, match="calendar"):
        Source(days, False, "days.nc").on(cells(here))


def test_calendar_and_place():
    fine = field([10, 12], [0, 90], times=4, step="6h")
    told = Predictors({}, ["day of year", "hour", "latitude", "cell size", "cadence"]).on(cells(fine))
    assert told.shape == (7, 4, 2, 2)
    sine, cosine = told[2], told[3]
    np.testing.assert_allclose(sine[:, 0, 0], [0, 1, 0, -1], atol=1e-6)
    np.testing.assert_allclose(cosine[:, 0, 1], [0, -1, 0, 1], atol=1e-6)  # a quarter of a day later in the east
    np.testing.assert_allclose(told[4, 0, :, 0], [10, 12])
    np.testing.assert_allclose(told[6], np.log(6), rtol=1e-6)
    twice = Predictors({}, ["cadence"]).on(cells(fine).coarsen(Factor(2, 2)))
    np.testing.assert_allclose(twice, np.full((1, 2, 1, 1), np.log(12)), rtol=1e-6)
    # How long a frame lasts is not known of one alone.
    assert np.isnan(Predictors({}, ["cadence"]).on(cells(fine[:1]))).all()
    blocks = cells(fine)
    instants = replace(blocks, high=blocks.low)  # bounds that are equal
    assert np.isnan(Predictors({}, ["cadence"]).on(instants)).all()
    with pytest.raises(InputError, match="cadence needs times that are dates"):
        Predictors({}, ["cadence"]).on(cells(fine.assign_coords(time=np.arange(4))))
    with pytest.raises(InputError, match="latitude"):
        Predictors({}, ["latitude"]).on(cells(field([0, 1], [0, 1], latlon=False)))
