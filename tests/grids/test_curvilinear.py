"""Grids whose cells have a latitude and a longitude each: areas, and places carried to other resolutions."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import finescale
from finescale.data.files import open_store
from finescale.data.writing import write
from finescale.errors import Notice
from finescale.grids import curvilinear
from finescale.grids.coordinates import read_grid
from finescale.grids.factor import Factor


def vectors(ds: xr.Dataset) -> np.ndarray:
    phi, lam = np.deg2rad(ds["lat"].values), np.deg2rad(ds["lon"].values)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])


def degrees_apart(a: xr.Dataset, b: xr.Dataset) -> np.ndarray:
    return np.rad2deg(np.linalg.norm(vectors(a) - vectors(b), axis=0))


class TestAreas:
    def test_of_a_rotated_pole_shrink_with_its_own_latitude(self, rotated):
        ds = rotated()
        weights = np.cos(np.deg2rad(ds["rlat"].values))[None, :, None] * np.ones((1, 1, 24))
        rain = ds["rain"].values.astype(float)
        blocks = ((rain * weights).reshape(2, 4, 4, 6, 4).sum((2, 4))) / weights.reshape(1, 4, 4, 6, 4).sum((2, 4))
        np.testing.assert_allclose(finescale.coarsen(ds, "1x4")["rain"].values, blocks, rtol=1e-6)
        assert np.abs(blocks - rain.reshape(2, 4, 4, 6, 4).mean((2, 4))).max() > 1e-4  # unweighted is another

    def test_from_places_are_those_of_latitude_and_longitude(self):
        lat, lon = np.meshgrid(np.arange(50.05, 60, 0.1), np.arange(350.05, 365, 0.1), indexing="ij")
        exact = np.diff(np.sin(np.deg2rad(np.linspace(50, 60, 101))))[:, None] * np.deg2rad(0.1)
        found = curvilinear.areas(lat, np.mod(lon, 360)) / curvilinear.RADIUS**2
        np.testing.assert_allclose(found, np.broadcast_to(exact, found.shape), rtol=1e-4)

    def test_bare_places_weigh_as_the_rotated_coordinates_do(self, rotated):
        told, bare = (finescale.coarsen(rotated(bare=b), "1x4")["rain"].values for b in (False, True))
        np.testing.assert_allclose(bare, told, rtol=1e-4)

    def test_a_file_s_own_areas_go_first(self, rotated):
        ds = rotated(bare=True)
        area = np.random.default_rng(0).uniform(1, 2, (16, 24))
        ds["mine"] = (("y", "x"), area)
        ds["rain"].attrs["cell_measures"] = "area: mine"
        rain = ds["rain"].values.astype(float)
        blocks = (rain * area).reshape(2, 4, 4, 6, 4).sum((2, 4)) / area.reshape(4, 4, 6, 4).sum((1, 3))
        out = finescale.coarsen(ds, "1x4")
        np.testing.assert_allclose(out["rain"].values, blocks, rtol=1e-5)
        np.testing.assert_allclose(out["cell_area"].values, area.reshape(4, 4, 6, 4).sum((1, 3)))


class TestPlaces:
    def test_of_blocks_lie_in_their_middle(self, rotated):
        fine = rotated(step=0.11)
        np.testing.assert_allclose(degrees_apart(finescale.coarsen(fine, "1x4"), rotated(4, 6)), 0, atol=1e-3)

    def test_of_an_output_are_interpolated(self, rotated, built):
        fine = rotated(step=0.11)
        out = finescale.downscale(built(), finescale.coarsen(fine, "1x4"), members=1)
        assert {"lat", "lon", "pole"} <= set(out.coords) and out["rain"].attrs["grid_mapping"] == "pole"
        assert out["lat"].dims == ("rlat", "rlon")
        assert degrees_apart(out, fine).max() < 0.01  # a tenth of a fine cell, at the corners

    @pytest.mark.parametrize("middle", [0.0, 180.0, 359.0])
    def test_know_no_seam(self, middle):
        lat, lon = np.meshgrid([10.0, 11.0], middle + np.array([-2.0, -1.0, 0.0, 1.0]), indexing="ij")
        dims = ("y", "x")
        da = xr.DataArray(
            np.zeros((2, 4)),
            {"lat": (dims, lat, {"units": "degrees_north"}), "lon": (dims, lon, {"units": "degrees_east"})},
            dims,
        )
        found = curvilinear.new_places(da, Factor(1, 2), refine=True)["lon"].values
        expected = middle + np.arange(-2.25, 1.5, 0.5)
        np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=2e-3)

    def test_across_the_pole(self):
        lon, lat = np.array([[135.0, 45.0], [225.0, 315.0]]), np.full((2, 2), 89.0)
        dims = ("y", "x")
        da = xr.DataArray(
            np.zeros((2, 2)),
            {"lat": (dims, lat, {"units": "degrees_north"}), "lon": (dims, lon, {"units": "degrees_east"})},
            dims,
        )
        assert curvilinear.new_places(da, Factor(1, 2), refine=False)["lat"].values[0, 0] == pytest.approx(90.0)


class TestThroughFiles:
    def test_a_bare_grid_conserves_by_the_areas_it_writes(self, rotated, built, tmp_path):
        write(rotated(8, 8, bare=True), tmp_path / "coarse.nc")
        finescale.downscale(built(), tmp_path / "coarse.nc", tmp_path / "fine.nc", members=2)
        out = open_store(tmp_path / "fine.nc")
        assert out["rain"].attrs["cell_measures"] == "area: cell_area" and out["cell_area"].attrs["units"] == "m2"
        back = finescale.coarsen(tmp_path / "fine.nc", "1x4")["rain"].isel(realization=0).values
        coarse = rotated(8, 8, bare=True)["rain"].values
        assert np.abs(back - coarse).max() < 1e-5 * coarse.max()
        assert read_grid(finescale.coarsen(tmp_path / "fine.nc", "1x4")["rain"]).area is not None

    def test_places_that_are_variables_are_found(self, rotated, tmp_path):
        ds = rotated(8, 8, bare=True).reset_coords(["lat", "lon"])
        for name in ("lat", "lon"):
            ds[name].encoding["coordinates"] = None
        ds["rain"].encoding["coordinates"] = None
        ds.to_netcdf(tmp_path / "plain.nc", engine="netcdf4")
        out = finescale.coarsen(tmp_path / "plain.nc", "1x4")
        assert {"lat", "lon"} <= set(out.coords) and list(out.data_vars) == ["rain"]


def test_a_globe_says_that_windows_do_not_go_round(rain, built):
    ds = rain(2, 8, 36)
    globe = ds.assign_coords(lon=("lon", np.arange(5.0, 360, 10), ds.lon.attrs))
    with pytest.warns(Notice, match="goes round the globe"):
        finescale.downscale(built(), globe, members=1)
