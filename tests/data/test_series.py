"""Files that follow each other in time: globs and lists as one field, and what does not belong together."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import finescale
from finescale.cli import main
from finescale.data.files import fields, open_field, open_store
from finescale.data.named import names
from finescale.data.writing import write
from finescale.errors import InputError


@pytest.fixture
def hours(rain, tmp_path):
    """Rain of six times in a file, and in one file each under names that are not in their order."""
    ds = rain(6)
    write(ds, tmp_path / "whole.nc")
    for n in range(6):
        part = ds.isel(time=n) if n % 2 else ds.isel(time=[n])  # without a time dimension, and with one
        write(part, tmp_path / f"hour_{'cabfed'[n]}.nc")
    return tmp_path


@pytest.mark.parametrize("how", ["glob", "list", "both"])
def test_files_of_one_time_each_are_one_field(hours, how):
    each = [hours / f"hour_{letter}.nc" for letter in "fedcba"]
    paths = {"glob": hours / "hour_*.nc", "list": each, "both": [hours / "hour_[abc].nc", *each[:3]]}[how]
    da = open_field(paths)
    xr.testing.assert_equal(da.load(), open_field(hours / "whole.nc").load())
    assert da.attrs == open_field(hours / "whole.nc").attrs
    assert open_field(paths).chunks is not None


def test_commands_take_a_quoted_glob_and_several_files(hours, built, capfd):
    built().save(hours / "model")
    each = [str(hours / f"hour_{letter}.nc") for letter in "abcdef"]
    ways = {"whole": [str(hours / "whole.nc")], "glob": [str(hours / "hour_*.nc")], "files": each}
    for name, words in ways.items():
        assert main(["coarsen", *words, "-o", str(hours / f"{name}.c.nc"), "--factor", "2x4"]) == 0
        assert main(["info", *words]) == 0
        assert "times: 6, 2020-01-01T00:00:00 to 2020-01-01T00:25:00, every 300 s" in capfd.readouterr().out
    for name in ("glob", "files"):
        xr.testing.assert_equal(open_store(hours / f"{name}.c.nc").load(), open_store(hours / "whole.c.nc").load())
    for name in ("whole", "glob"):
        words = ["downscale", str(hours / "model"), *ways[name], "-o", str(hours / f"{name}.e.nc"), "--members", "1"]
        assert main(words) == 0
    one, other = (open_store(hours / f"{name}.e.nc") for name in ("whole", "glob"))
    np.testing.assert_array_equal(one["rain"].values, other["rain"].values)
    words = ["verify", str(hours / "whole.e.nc"), str(hours / "glob.e.nc"), "-o", str(hours / "report"), "--no-report"]
    write(one.isel(realization=0, drop=True).isel(time=slice(0, 3)), hours / "truth_1.nc")
    write(one.isel(realization=0, drop=True).isel(time=slice(3, 6)), hours / "truth_2.nc")
    words[2] = str(hours / "truth_*.nc")
    assert main([*words, "--baselines", "none"]) == 0


def test_the_output_may_not_be_one_of_the_inputs(hours):
    with pytest.raises(InputError, match="is the input itself"):
        finescale.coarsen(str(hours / "hour_*.nc"), "1x4", hours / "hour_c.nc", overwrite=True)


class TestRefused:
    def parts(self, rain, tmp_path, **changes):
        ds = rain(6)
        write(ds.isel(time=slice(0, 3)), tmp_path / "a.nc")
        second = ds.isel(time=slice(changes.pop("start", 3), 6))
        for change in changes.values():
            second = change(second)
        write(second, tmp_path / "b.nc")
        return tmp_path / "?.nc"

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"start": 2}, "a.nc and .*b.nc both have the time 2020-01-01T00:10:00"),
            ({"x": lambda ds: ds.rename(rain="snow")}, "b.nc does not continue .*a.nc: it has the variables snow, not"),
            ({"x": lambda ds: ds.isel(lon=slice(0, 8))}, "rain has 8 cells along lon, not 20"),
            ({"x": lambda ds: ds.assign_coords(lon=ds.lon + 0.05)}, "its cells along lon lie elsewhere"),
            ({"x": lambda ds: ds.assign(rain=ds.rain.assign_attrs(units="mm d-1"))}, "rain is in mm d-1, not mm h-1"),
            ({"x": lambda ds: ds.drop_vars("time")}, "b.nc has no times"),
            (
                {"x": lambda ds: ds.convert_calendar("noleap", use_cftime=True)},
                "calendar noleap, .*a.nc of standard",
            ),
        ],
    )
    def test_in_one_line(self, rain, tmp_path, changes, words):
        with pytest.raises(InputError, match=words) as caught:
            open_store(self.parts(rain, tmp_path, **changes))
        assert "\n" not in str(caught.value)

    def test_times_between_those_of_another(self, rain, tmp_path):
        ds = rain(6)
        write(ds.isel(time=[0, 2, 4]), tmp_path / "a.nc")
        write(ds.isel(time=[1, 3, 5]), tmp_path / "b.nc")
        with pytest.raises(InputError, match=r"overlap at the time 2020-01-01T00:05:00"):
            open_store([tmp_path / "a.nc", tmp_path / "b.nc"])

    def test_a_pattern_that_matches_nothing(self, tmp_path):
        with pytest.raises(InputError, match=r"rain_\*\.nc matches no file"):
            open_store(tmp_path / "rain_*.nc")
        with pytest.raises(InputError, match=r"nowhere does not exist"):
            open_store(tmp_path / "nowhere" / "*.nc")
        with pytest.raises(InputError, match="no file is named"):
            open_store([])


class TestTraining:
    """``data.path``: which files are one field."""

    def test_those_that_follow_each_other_on_the_same_cells(self, rain, tmp_path):
        ds = rain(8)
        other = rain(3, 16, 16)
        pieces = {"a": ds.isel(time=slice(0, 3)), "b": ds.isel(time=slice(3, 5)), "late": ds.isel(time=slice(6, 8))}
        pieces |= {"elsewhere": other, "again": ds.isel(time=slice(0, 2))}
        for name, part in pieces.items():
            write(part, tmp_path / f"{name}.nc")
        paths = [str(tmp_path / f"{name}.nc") for name in ("b", "elsewhere", "a", "late", "again")]
        found = [names(group) for group in fields(paths)]
        assert found == [("a.nc", "b.nc"), ("elsewhere.nc",), ("late.nc",), ("again.nc",)]

    def test_a_model_of_two_halves_is_that_of_the_whole(self, data, config, tmp_path):
        whole = open_store(data)
        for n in range(2):
            write(whole.isel(time=slice(2 * n, 2 * n + 2)), tmp_path / f"half_{n}.nc")
        path = [str(tmp_path / f"half_{n}.nc") for n in (1, 0)]
        settings = config(data, steps=2)
        models = []
        for number, given in enumerate([str(data), path, str(tmp_path / "half_*.nc")]):
            changed = settings | {"data": settings["data"] | {"path": given, "frames": 3}}
            models.append(finescale.fit(changed, tmp_path / f"model{number}"))
        first, *others = (model.state_dict() for model in models)
        for other in others:
            assert all((first[key] == other[key]).all() for key in first)
        assert models[1].config["trained"][0]["files"] == ["half_0.nc", "half_1.nc"]

    @pytest.mark.parametrize("calendar", ["360_day", "noleap"])
    def test_other_calendars_are_parted_by_dates(self, rain, config, tmp_path, calendar):
        ds = rain(60, 16, 16)
        time = xr.date_range("2001-02-01", periods=60, calendar=calendar, use_cftime=True)
        write(ds.assign_coords(time=("time", time)).fillna(0), tmp_path / "days.nc")
        settings = config(tmp_path / "days.nc", steps=2)
        ranges = {"train": {"time": [None, "2001-03-01"]}, "valid": {"time": ["2001-03-01", None]}}
        model = finescale.fit(settings | {"data": settings["data"] | ranges}, tmp_path / "model")
        last = {"360_day": "2001-02-30", "noleap": "2001-02-28"}[calendar]
        assert model.config["trained"][0]["time"] == [["2001-02-01T00:00:00.000", f"{last}T00:00:00.000"]]
