"""What paths name: settings after a question mark, globs, times in names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from finescale.data.named import Settings, entries, names, title
from finescale.data.stamps import time_of
from finescale.errors import InputError


def test_settings_stand_after_a_question_mark():
    (entry,) = entries("a/model.grib?shortName=tp&typeOfLevel=surface&zr=300,1.4&units=mm h-1&missing=-1,-2")
    keys = {"shortName": "tp", "typeOfLevel": "surface"}
    assert entry.path == Path("a/model.grib")
    assert entry.settings == Settings((300.0, 1.4), "mm h-1", (-1.0, -2.0), None, keys)
    assert names("a/model.grib?units=mm/h") == ("model.grib",)
    assert title(["a.nc", "b.nc", "c.nc"]) == "a.nc and 2 more"


def test_a_file_of_that_very_name_goes_first(tmp_path):
    for name in ("rain?a=1.nc", "rain[1].nc", "rain1.nc"):
        (tmp_path / name).touch()
        assert [entry.path.name for entry in entries(tmp_path / name)] == [name]


def test_a_question_mark_of_a_glob_stays_one(tmp_path):
    for name in ("a1.nc", "a2.nc", "a10.nc"):
        (tmp_path / name).touch()
    found = entries(f"{tmp_path}/a?.nc?units=mm")
    assert [entry.path.name for entry in found] == ["a1.nc", "a2.nc"] and found[0].settings.units == "mm"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("zr=200", "zr=200 is not understood: write a and b"),
        ("zr=-1,2", "write a and b of Z = a R"),
        ("zr=a,b", "write a and b of Z = a R"),
        ("missing=none", "missing=none is not understood: write numbers"),
        ("Units=mm", "Units is not understood; did you mean 'units'"),
    ],
)
def test_settings_that_are_not_understood(query, words):
    with pytest.raises(InputError, match=words):
        entries(f"rain.nc?{query}")


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("201609281620_FINUTM.tif", "2016-09-28T16:20"),
        ("PRECIP_20220101_1200.tif", "2022-01-01T12:00"),
        ("COMEPHORE_2020010112_RR.tif", "2020-01-01T12:00"),
        ("2024-10-08T120000Z-rainfall.tif", "2024-10-08T12:00"),
        ("rain_2020-02-30.tif", None),
        ("img_001_SRF_4_HR.png", None),
        ("from_20200101_to_20200102.tif", None),
        ("elevation_30m.tif", None),
        ("tile_20200101123.tif", None),
    ],
)
def test_times_are_guessed_where_there_is_one(name, time):
    expected = None if time is None else np.datetime64(time, "ns")
    assert time_of(Path(name)) == expected


def test_times_by_a_pattern():
    assert time_of(Path("r_010203.tif"), "r_{time:%y%m%d}.tif") == np.datetime64("2001-02-03", "ns")
    assert time_of(Path("x9_2001032.tif"), "x?_{time:%Y%j}.*") == np.datetime64("2001-02-01", "ns")
    for stamp, words in {
        "r_{time:%Y%m%d}.tif": "does not hold a time as",
        "r_{time:%m%d}.tif": "is written %Y, which is not understood",
        "r_{time:%Q%Y}.tif": "is written %Q, which is not understood",
    }.items():
        with pytest.raises(InputError, match=words):
            time_of(Path("r_01.tif"), stamp)
    with pytest.raises(InputError, match=r"does not say how times are written: once \{time:"):
        entries("r_{time}.tif")
