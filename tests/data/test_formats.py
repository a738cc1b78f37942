"""Files of radars, models and cameras, made here as their services make them, through the commands that read them."""

from __future__ import annotations

import gzip
from pathlib import Path

import netCDF4
import numpy as np
import pytest

import finescale
from finescale.cli import main
from finescale.data.files import open_field, open_store
from finescale.errors import InputError, Notice


def odim(path: Path, quantity: str = "RATE", kind: str = "COMP", cells: int = 6, **changes) -> Path:
    """A composite of 4 x 6 cells of 2 km: numbers 0 … 23 of which 0 is undetected and 23 no data."""
    said = {
        "what": {"object": kind, "date": "20240102", "time": "030000"},
        "where": {
            "projdef": "",
            "xscale": 2000.0,
            "yscale": 2000.0,
            "xsize": 6,
            "ysize": 4,
            "LL_lon": 1.0,
            "LL_lat": 50.0,
        },
        "dataset1/what": {"startdate": "20240102", "starttime": "025500", "enddate": "20240102", "endtime": "030000"},
        "dataset1/data1/what": {"quantity": quantity, "gain": 0.5, "offset": -32.0 if quantity == "DBZH" else 0.0}
        | {"nodata": 23.0, "undetect": 0.0},
    }
    with netCDF4.Dataset(path, "w") as file:
        file.Conventions = "ODIM_H5/V2_4"
        for group, attrs in said.items():
            node = file.createGroup(group)
            for key, value in (attrs | changes.get(group.replace("/", "_"), {})).items():
                if value is not None:
                    node.setncattr(key, value)
        data = file["dataset1/data1"]
        data.createDimension("y", 4)
        data.createDimension("x", cells)
        data.createVariable("data", "u1", ("y", "x"))[:] = np.arange(4 * cells).reshape(4, cells)
    return path


class TestODIM:
    @pytest.mark.filterwarnings("ignore:.*y and x begin at 0")
    def test_a_composite_is_decoded(self, tmp_path):
        da = open_field(odim(tmp_path / "rate.h5"))
        expected = np.arange(24, dtype=np.float32).reshape(4, 6) / 2
        expected[-1, -1] = np.nan
        np.testing.assert_array_equal(da.values[0], expected)
        assert da.name == "RATE" and da.attrs["units"] == "mm h-1" and da.chunks is not None
        assert str(da["time"].values[0])[:16] == "2024-01-02T03:00"
        assert da["y"].values[0] > da["y"].values[-1] and abs(float(da["x"].diff("x")[0])) == 2000.0
        ends = [str(da[f"time__{side}"].values[0])[11:16] for side in ("lower", "upper")]
        assert ends == ["02:55", "03:00"]

    @pytest.mark.filterwarnings("ignore:.*y and x begin at 0")
    def test_reflectivity_stays_what_it_is_until_asked(self, tmp_path):
        path = odim(tmp_path / "dbz.h5", "DBZH")
        with pytest.warns(Notice, match=r"DBZH is reflectivity in dBZ and is left so; .*dbz\.h5\?zr=200,1\.6 makes"):
            da = open_field(path)
        assert da.attrs["units"] == "dBZ" and da.values[0, 0, 0] == -32
        rate = open_field(f"{path}?zr=200,1.6")
        dbz = np.arange(24).reshape(4, 6) / 2 - 32
        expected = (10 ** (dbz / 10) / 200) ** (1 / 1.6)
        expected[0, 0], expected[-1, -1] = 0.0, np.nan  # without an echo no rain at all
        np.testing.assert_allclose(rate.values[0], expected, rtol=1e-5)
        assert rate.attrs["units"] == "mm h-1" and "Z = 200 R^1.6" in rate.attrs["long_name"]

    @pytest.mark.filterwarnings("ignore:.*y and x begin at 0")
    def test_through_the_commands(self, tmp_path, capfd):
        path = odim(tmp_path / "rate.h5")
        assert main(["coarsen", str(path), "-o", str(tmp_path / "c.nc"), "--factor", "1x2"]) == 0
        assert open_store(tmp_path / "c.nc")["RATE"].shape == (1, 2, 3)
        assert main(["info", f"{path}?units=mm d-1"]) == 0
        assert "RATE [mm d-1]" in capfd.readouterr().out

    @pytest.mark.filterwarnings("ignore:.*y and x begin at 0")
    def test_files_of_one_time_each(self, tmp_path):
        for minute in (0, 5, 10):
            change = {"endtime": f"03{minute:02}00", "starttime": f"0{(175 + minute) // 60}{(175 + minute) % 60:02}00"}
            odim(tmp_path / f"radar_{minute:02}.h5", dataset1_what=change)
        da = open_field(tmp_path / "radar_*.h5")
        assert da.shape == (3, 4, 6) and float(np.diff(da["time"].values)[0] / np.timedelta64(1, "m")) == 5

    @pytest.mark.filterwarnings("ignore:.*y and x begin at 0")
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"kind": "PVOL"}, "holds PVOL, no image on a grid"),
            ({"where": {"LL_lon": None}}, "does not say where it lies"),
            ({"dataset1_data1_what": {"quantity": None}}, "names no quantity"),
            ({"cells": 5}, r"has \(4, 5\) cells, not \(4, 6\)"),
        ],
    )
    def test_what_is_not_whole(self, tmp_path, changes, words):
        with pytest.raises(InputError, match=words):
            open_store(odim(tmp_path / "a.h5", **changes))


class TestPictures:
    @pytest.fixture
    def photograph(self, tmp_path):
        from PIL import Image

        values = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "photograph.png")
        Image.fromarray(values[..., 0]).save(tmp_path / "grey.png")
        return tmp_path / "photograph.png", values.astype(np.float32)

    def test_are_three_variables_and_their_luminance(self, photograph):
        path, values = photograph
        ds = open_store(path)
        for number, name in enumerate(("red", "green", "blue")):
            np.testing.assert_array_equal(ds[name].values, values[..., number])
        expected = values @ np.array([0.299, 0.587, 0.114])
        np.testing.assert_allclose(open_field(path, "luminance").values[0], expected, rtol=1e-6)
        assert list(open_store(path.with_name("grey.png")).data_vars) == ["luminance"]

    def test_are_coarsened_and_trained_on(self, photograph, config, tmp_path):
        path, values = photograph
        means = finescale.coarsen(path, "1x4", tmp_path / "c.nc", variable="green")["green"].values[0]
        np.testing.assert_allclose(means, values[..., 1].reshape(6, 4, 8, 4).mean((1, 3)), rtol=1e-6)
        settings = config(path, steps=2)
        settings["data"] |= {"path": str(tmp_path / "*.png"), "variable": "luminance"}
        model = finescale.fit(settings | {"variables": {"luminance": {"units": "1"}}}, tmp_path / "model")
        assert [one["files"] for one in model.config["trained"]] == [["grey.png", "photograph.png"]]

    def test_follow_each_other_in_no_time(self, photograph):
        with pytest.raises(InputError, match=r"grey\.png has no times, .*rain_\{time:%Y%m%d%H%M\}\.tif"):
            finescale.coarsen(photograph[0].with_name("*.png"), "1x4")


class TestCompressed:
    def test_by_gzip_is_read_as_what_it_holds(self, rain, tmp_path):
        rain().to_netcdf(tmp_path / "rain.nc", engine="netcdf4")
        (tmp_path / "rain.nc.gz").write_bytes(gzip.compress((tmp_path / "rain.nc").read_bytes()))
        np.testing.assert_array_equal(open_field(tmp_path / "rain.nc.gz").values, rain()["rain"].values)
        marked = rain()
        marked["rain"].values[2, :4, :4] = -999
        marked.to_netcdf(tmp_path / "marked.nc", engine="netcdf4")
        (tmp_path / "marked.nc.gz").write_bytes(gzip.compress((tmp_path / "marked.nc").read_bytes()))
        with pytest.raises(InputError, match=rf"{tmp_path}/marked\.nc\.gz: .* read marked\.nc\.gz\?missing=-999"):
            open_field(tmp_path / "marked.nc.gz").load()
        cut = (tmp_path / "rain.nc.gz").read_bytes()[:-200]
        (tmp_path / "cut.nc.gz").write_bytes(cut)
        with pytest.raises(InputError, match=r"cut\.nc\.gz cannot be read: it may be truncated"):
            open_field(tmp_path / "cut.nc.gz")


class TestMarks:
    def test_that_the_file_does_not_declare(self, rain, tmp_path):
        ds = rain()
        ds["rain"].values[2, :4, :4] = -999
        ds["rain"].values[2, 5, :] = -99
        ds.to_netcdf(tmp_path / "marked.nc", engine="netcdf4")
        with pytest.raises(InputError, match=r"holds -999 .* or read marked\.nc\?missing=-999"):
            open_field(tmp_path / "marked.nc").load()
        values = open_field(f"{tmp_path / 'marked.nc'}?missing=-999&undetect=-99").values
        assert np.isnan(values[2, :4, :4]).all() and (values[2, 5, :] == 0).all()
        assert np.isfinite(values[3]).all()


class TestGeoTIFF:
    def tif(self, path: Path, values: np.ndarray, **tags: str) -> Path:
        rasterio = pytest.importorskip("rasterio")
        pytest.importorskip("rioxarray")
        place = rasterio.transform.from_origin(1e5, 7e6, 1000.0, 1000.0)
        shape = {"height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": str(values.dtype)}
        with rasterio.open(path, "w", driver="GTiff", crs="EPSG:2154", transform=place, **shape) as file:
            file.write(values, 1)
            file.update_tags(**tags)
        return path

    def test_a_stack_with_times_in_their_names(self, tmp_path):
        for hour in range(3):
            self.tif(tmp_path / f"COMEPHORE_20200101{hour:02}_RR.tif", np.full((4, 6), hour, dtype=np.float32))
        da = open_field(tmp_path / "COMEPHORE_*.tif")
        assert da.shape == (3, 4, 6) and da.values[:, 0, 0].tolist() == [0, 1, 2]
        assert str(da["time"].values[-1])[:13] == "2020-01-01T02"
        finescale.coarsen(tmp_path / "COMEPHORE_*.tif", "3x2", tmp_path / "c.nc")
        out = open_store(tmp_path / "c.nc")["band"]
        assert out.attrs["grid_mapping"] == "spatial_ref" and float(out.max()) == 1.0

    def test_a_pattern_where_names_are_not_guessed(self, tmp_path):
        for day in (1, 2):
            self.tif(tmp_path / f"rain-{day:02}.06.2021.tif", np.full((4, 6), day, dtype=np.float32))
        with pytest.raises(InputError, match="has no times"):
            open_field(tmp_path / "rain-*.tif")
        da = open_field(tmp_path / "rain-{time:%d.%m.%Y}.tif")
        assert [str(t)[:10] for t in da["time"].values] == ["2021-06-01", "2021-06-02"]

    def test_tags_of_a_radar(self, tmp_path):
        tags = '<GDALMetadata><Item name="Quantity" unit="dBZ">Reflectivity</Item><Item name="Gain">0.5</Item>' + (
            '<Item name="Offset">-32</Item><Item name="Nodata">255</Item><Item name="Undetect">0</Item></GDALMetadata>'
        )
        values = np.array([[0, 64, 255], [84, 104, 124]], dtype=np.uint8)
        path = self.tif(tmp_path / "202001010000.tif", values, GDAL_METADATA=tags)
        with pytest.warns(Notice, match="zr=200,1.6"):
            np.testing.assert_array_equal(open_field(path).values[0], [[-32, 0, np.nan], [10, 20, 30]])
        rate = open_field(f"{path}?zr=200,1.6").values[0]
        np.testing.assert_allclose(rate[1], [0.1537, 0.6483, 2.7344], rtol=1e-3)
        assert rate[0, 0] == 0 and np.isnan(rate[0, 2])

    def test_damaged_numbers_that_tags_decode(self, tmp_path, capfd):
        rasterio = pytest.importorskip("rasterio")
        path = tmp_path / "202001010000.tif"
        shape = {"height": 32, "width": 32, "count": 1, "dtype": "uint8", "compress": "deflate"}
        with rasterio.open(path, "w", driver="GTiff", **shape) as file:
            file.write(np.arange(1024, dtype=np.uint8).reshape(32, 32), 1)
            file.update_tags(Gain="0.5", Offset="-32", Nodata="255")
        whole = path.read_bytes()
        at = whole.index(b"\x78", 8)
        path.write_bytes(whole[:at] + bytes(255 - byte for byte in whole[at : at + 40]) + whole[at + 40 :])
        assert main(["coarsen", str(path), "-o", str(tmp_path / "c.nc"), "--factor", "1x2"]) == 2
        err = capfd.readouterr().err
        assert err.count("\n") == 1 and "cannot be read" in err and "may be truncated or damaged" in err


class TestGRIB:
    def message(self, codes, file, **keys):
        handle = codes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
        grid = {
            "Ni": 8, "Nj": 6, "latitudeOfFirstGridPointInDegrees": 50, "latitudeOfLastGridPointInDegrees": 45,
            "longitudeOfFirstGridPointInDegrees": 0, "longitudeOfLastGridPointInDegrees": 7,
            "iDirectionIncrementInDegrees": 1, "jDirectionIncrementInDegrees": 1, "dataDate": 20200101, "dataTime": 0,
        }  # fmt: skip
        value = keys.pop("value", 1.0)
        count = keys.pop("count", 48)
        for key, one in (grid | keys).items():
            codes.codes_set(handle, key, one)
        codes.codes_set_values(handle, np.full(count, value))
        codes.codes_write(handle, file)
        codes.codes_release(handle)

    @pytest.fixture
    def made(self, tmp_path):
        codes = pytest.importorskip("eccodes")
        pytest.importorskip("cfgrib")
        path = tmp_path / "model.grib2"

        def write(messages):
            with path.open("wb") as file:
                for keys in messages:
                    self.message(codes, file, **keys)
            return path

        return write

    def rain(self, start, end, **keys):
        steps = {"productDefinitionTemplateNumber": 8, "shortName": "tp", "stepType": "accum"}
        return steps | {"stepRange": f"{start}-{end}", "value": float(end - start)} | keys

    def test_intervals_to_one_time_are_named(self, made):
        path = made([self.rain(0, 12), self.rain(11, 12)])
        with pytest.raises(
            InputError, match=r"tp more than once .* of the intervals 0-12, 11-12 .*\?shortName=tp&step"
        ):
            open_store(path)
        assert float(open_field(f"{path}?stepRange=11-12").max()) == 1.0
        assert float(open_field(f"{path}?shortName=tp&stepRange=0-12").max()) == 12.0

    def test_variables_at_several_heights_are_one_dataset(self, made):
        wind = {"shortName": "10u", "stepRange": "1"}
        path = made([wind, {"shortName": "2t", "stepRange": "1", "value": 280.0}, self.rain(0, 1)])
        assert {"u10", "t2m", "tp"} == set(open_store(path).data_vars)
        assert float(open_field(path, "t2m").max()) == 280.0

    def test_several_grids_are_listed(self, made):
        path = made([self.rain(0, 1), self.rain(1, 2, Ni=4, longitudeOfLastGridPointInDegrees=3, count=24)])
        with pytest.raises(InputError, match=r"several grids: .*Nx=8.*, .*Nx=4.*name one: model\.grib2\?"):
            open_store(path)
        assert open_field(f"{path}?Nx=4").shape[-1] == 4

    def test_accumulations_since_the_start_become_rates(self, made):
        path = made([self.rain(0, hours, value=float(hours**2)) for hours in (1, 2, 3)])
        rates = open_field(f"{path}?units=m h-1")  # the sample is in m
        np.testing.assert_allclose(rates.values[:, 0, 0], [1, 3, 5])
        lower = [str(t)[11:13] for t in rates["valid_time__lower"].values]
        assert lower == ["00", "01", "02"] and "time: mean" in rates.attrs["cell_methods"]

    def test_keys_that_select_nothing(self, made):
        path = made([self.rain(0, 1)])
        with pytest.raises(InputError, match="no GRIB message with shortName=2t; its shortName is tp"):
            open_store(f"{path}?shortName=2t")
        with pytest.raises(InputError, match="messages have no key 'shortNam'; did you mean 'shortName'"):
            open_store(f"{path}?shortNam=tp")

    def test_a_section_without_a_length(self, made, tmp_path):
        path = made([self.rain(0, 1)])
        whole = bytearray(path.read_bytes())
        at = whole.index(b"\x00\x00\x00\x15\x05")  # section 5 of 21 bytes, by its length
        whole[at : at + 4] = bytes(4)
        path.write_bytes(whole)
        with pytest.raises(InputError, match=r"model\.grib2 cannot be read: .*section 5 of its GRIB message 1 has not"):
            open_store(path)

    def test_compressed(self, made, tmp_path):
        path = made([self.rain(0, 1)])
        (tmp_path / "model.grib2.gz").write_bytes(gzip.compress(path.read_bytes()))
        np.testing.assert_array_equal(open_field(tmp_path / "model.grib2.gz").values, open_field(path).values)
