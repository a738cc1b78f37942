"""Files: formats by their first bytes, variables, units, block means, and writes that are whole or not at all."""

from __future__ import annotations

import errno

import netCDF4
import numpy as np
import pytest
import torch
import xarray as xr

from finescale.cli import main
from finescale.data import coarsen, files
from finescale.data.writing import write
from finescale.errors import InputError
from finescale.grids import coordinates
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen


@pytest.mark.parametrize("name", ["a.nc", "a.zarr", "classic.nc"])
def test_written_and_read_again(rain, tmp_path, name):
    ds = rain()
    if name == "classic.nc":
        ds.to_netcdf(tmp_path / name, engine="scipy")
    else:
        write(ds, tmp_path / name)
    back = files.open_field(tmp_path / name)
    assert back.chunks is not None and back.dtype == np.float32
    np.testing.assert_array_equal(back.values, ds["rain"].values)
    assert back.attrs["units"] == "mm h-1"
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_the_format_is_told_by_content_not_by_name(rain, tmp_path):
    rain().to_netcdf(tmp_path / "field.dat", engine="netcdf4")
    assert files.open_field(tmp_path / "field.dat").sizes == {"time": 4, "lat": 12, "lon": 20}


def test_geotiff(tmp_path):
    pytest.importorskip("rioxarray")
    rasterio = pytest.importorskip("rasterio")
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    transform = rasterio.transform.from_origin(100.0, 50.0, 2.0, 2.0)
    with rasterio.open(
        tmp_path / "a.tif",
        "w",
        driver="GTiff",
        height=3,
        width=4,
        count=1,
        dtype="float32",
        crs="EPSG:4326",
        transform=transform,
    ) as f:
        f.write(values, 1)
    da = files.open_field(tmp_path / "a.tif")
    np.testing.assert_array_equal(da.values[0], values)
    np.testing.assert_allclose(coordinates.read_grid(da).y, [50, 48, 46, 44])
    assert coordinates.read_grid(da).geographic
    write(coarsen.coarsen(da, Factor(1, 1)), tmp_path / "a.nc")
    ds = files.open_store(tmp_path / "a.nc")
    assert ds["band"].attrs["grid_mapping"] == "spatial_ref" and "spatial_ref" in ds.variables


def test_bad_files(rain, tmp_path):
    write(rain(), tmp_path / "rain.nc")
    (tmp_path / "text.nc").write_text("hello, I am no NetCDF")
    whole = (tmp_path / "rain.nc").read_bytes()
    (tmp_path / "cut.nc").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "folder").mkdir()
    for name, words in {
        "rian.nc": "does not exist; did you mean 'rain.nc'",
        "text.nc": "is not a NetCDF, Zarr, GRIB, GeoTIFF, ODIM or PNG file",
        "cut.nc": "truncated or damaged",
        "folder": "is not a Zarr store",
    }.items():
        with pytest.raises(InputError, match=words) as caught:
            files.open_field(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_which_variable(rain, tmp_path):
    ds = rain()
    ds["lat_bnds"] = (("lat", "bnds"), np.stack([ds.lat - 0.05, ds.lat + 0.05], axis=1))
    ds.lat.attrs["bounds"] = "lat_bnds"
    ds["crs"] = ((), 0, {"grid_mapping_name": "latitude_longitude"})
    ds["rain"].attrs["grid_mapping"] = "crs"
    ds["series"] = ("time", np.zeros(4))
    write(ds, tmp_path / "a.nc")
    da = files.open_field(tmp_path / "a.nc")
    assert da.name == "rain" and "crs" in da.coords and "lat__lower" in da.coords
    ds["wind"] = ds["rain"] * 2
    with pytest.raises(InputError, match="several gridded variables: rain, wind; name one with --variable"):
        files.select(ds)
    assert files.select(ds, "wind").name == "wind"
    with pytest.raises(InputError, match="no variable 'rian'; it has rain, wind; did you mean 'rain'"):
        files.select(ds, "rian")
    with pytest.raises(InputError, match=r"no variable with a y and an x dimension; it has series \(time\)"):
        files.select(ds[["series"]])


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("factor", [Factor(1, 4), Factor(time=2, y=3, x=5)])
def test_block_means_equal_the_operator(rain, factor, lazy):
    da = rain()["rain"]
    out = coarsen.coarsen(da.chunk(lat=5, lon=7) if lazy else da, factor)
    fine = torch.from_numpy(da.values).double()
    area = torch.from_numpy(coordinates.read_grid(da).cell_area)
    expected = Coarsen(factor, area, torch.isfinite(fine))(fine)
    np.testing.assert_allclose(out["rain"].values, expected.numpy(), rtol=2e-6)
    assert np.isnan(out["rain"].values).any() == bool(expected.isnan().any())
    assert out["rain"].attrs["cell_methods"] == "time: point area: mean" + (" time: mean" if factor.time > 1 else "")
    assert {"lat_bnds", "lon_bnds"} <= set(out.coords)
    assert (
        coordinates.read_grid(da)
        .coarsen(factor)
        .matches(coordinates.read_grid(coordinates.with_bounds(out["rain"], out)), 1e-9)
    )


def test_crop_and_not_divisible(rain):
    da = rain()["rain"]
    with pytest.raises(InputError, match="a crop to 4 x 10 x 20 would be"):
        coarsen.coarsen(da, Factor(1, 5))
    assert coarsen.coarsen(da, Factor(1, 5), crop=True)["rain"].shape == (4, 2, 4)


def test_descending_latitude_is_the_same_flipped(rain):
    da = rain()["rain"]
    up, down = (coarsen.coarsen(d, Factor(1, 4))["rain"] for d in (da, da.isel(lat=slice(None, None, -1))))
    np.testing.assert_allclose(up.values, down.values[:, ::-1], rtol=1e-6)


def test_the_order_of_dimensions_in_a_file_does_not_matter(rain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ds = rain()
    for name, dims in {"usual": ("time", "lat", "lon"), "turned": ("lon", "time", "lat")}.items():
        ds.transpose(*dims).to_netcdf(f"{name}.nc", engine="netcdf4")
        assert main(["coarsen", f"{name}.nc", "-o", f"{name}.c.nc", "--factor", "1x4"]) == 0
    usual, turned = (files.open_field(f"{name}.c.nc").load() for name in ("usual", "turned"))
    assert turned.dims == usual.dims
    np.testing.assert_array_equal(turned.values, usual.values)


def test_an_axis_on_two_dimensions_is_refused(rain, tmp_path):
    path = tmp_path / "crossed.nc"
    with netCDF4.Dataset(path, "w") as file:
        for dim, n in {"time": 2, "lat": 4, "lon": 8}.items():
            file.createDimension(dim, n)
        for name in ("lat", "lon"):
            file.createVariable(name, "f8", ("lat", "lon"))[:] = np.arange(32.0).reshape(4, 8)
        file.createVariable("rain", "f4", ("time", "lat", "lon"))[:] = 1
    with pytest.raises(InputError, match="variable rain has the coordinate lat on the dimensions lat, lon"):
        files.open_field(path)


def test_an_existing_output_is_kept_without_overwrite(rain, tmp_path):
    for name in ("a.nc", "a.zarr"):
        write(rain(), tmp_path / name)
        with pytest.raises(InputError, match="--overwrite"):
            write(rain(seed=1), tmp_path / name)
        write(rain(seed=1), tmp_path / name, overwrite=True)
        np.testing.assert_array_equal(files.open_field(tmp_path / name).values, rain(seed=1)["rain"].values)
    with pytest.raises(InputError, match=r"must end in \.nc or \.zarr"):
        write(rain(), tmp_path / "a.grib")
    with pytest.raises(InputError, match="does not exist"):
        write(rain(), tmp_path / "no" / "a.nc")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nc", "a.zarr"]


@pytest.mark.parametrize("name", ["a.nc", "a.zarr"])
def test_a_full_disk_leaves_nothing(rain, tmp_path, name, monkeypatch):
    def full(self, store, *args, **kwargs):
        if name == "a.zarr":
            store.mkdir()
        (store if name == "a.nc" else store / "zarr.json").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf" if name == "a.nc" else "to_zarr", full)
    with pytest.raises(InputError, match=r"could not be written: the disk is full"):
        write(rain(), tmp_path / name)
    assert not (tmp_path / name).exists()
    assert not list(tmp_path.iterdir())


def test_chunks_that_do_not_end_where_the_stores_do_are_no_news(tmp_path, field, recwarn):
    field(3, 40, 56).to_dataset().to_netcdf(
        tmp_path / "a.nc", engine="netcdf4", encoding={"rain": {"chunksizes": (1, 7, 9)}}
    )
    opened = files.open_store(tmp_path / "a.nc", {"lat": 10, "lon": 10})
    assert opened["rain"].chunks is not None and not [str(one.message) for one in recwarn]
