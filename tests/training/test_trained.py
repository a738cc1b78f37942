"""A model remembers what it was trained on, and verification says when the truth is among it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml

import finescale
from finescale.cli import main
from finescale.data.extent import ATTRIBUTE
from finescale.data.files import open_store
from finescale.data.writing import write

LATER = '{time: ["2020-06-01T08:00", null]}'
"""The times that are kept aside: 4 of 12."""


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve hours, the last four of which are to be kept aside; x from 0 to .64, y from 59.525 to 60.005."""
    values = np.random.default_rng(0).gamma(2, 1, (12, 48, 64)).astype(np.float32)
    coords = {
        "time": np.datetime64("2020-06-01", "ns") + np.arange(12) * np.timedelta64(1, "h"),
        "lat": ("lat", 60 - np.arange(48) * 0.01, {"units": "degrees_north"}),
        "lon": ("lon", np.arange(64) * 0.01, {"units": "degrees_east"}),
    }
    da = xr.DataArray(values, coords, ("time", "lat", "lon"), name="rain", attrs={"units": "mm h-1"})
    path = tmp_path_factory.mktemp("year") / "year.nc"
    write(da.to_dataset(), path)
    return path


@pytest.fixture(scope="module")
def fitted(year: Path, config: Callable[..., Any]) -> Path:
    """A model of the first eight hours, by the command."""
    folder = year.parent
    settings = config(year, steps=2)
    settings.pop("variables")
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    earlier = 'data.train={time: [null, "2020-06-01T08:00"], lon: [0.16, null]}'
    assert main(["fit", str(folder / "config.yaml"), "-o", str(folder / "model"), "--set", earlier]) == 0
    return folder / "model"


def told(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((folder / "config.yaml").read_text())["trained"]
    return found


def test_a_model_remembers_and_says_so(
    fitted: Path, year: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (one,) = told(fitted)
    assert one["files"] == ["year.nc"] and one["variable"] == "rain" and one["crs"] == "latlon"
    assert one["time"] == [["2020-06-01T00:00:00.000", "2020-06-01T07:00:00.000"]]
    assert one["x"] == pytest.approx([0.155, 0.635]) and one["y"] == pytest.approx([59.525, 60.005])
    assert str(tmp_path) not in (fitted / "config.yaml").read_text().split("trained:")[1]
    line = "rain of year.nc; 2020-06-01T00:00 to 2020-06-01T07:00; lat 59.525 to 60.005; lon 0.155 to 0.635"
    capsys.readouterr()
    assert main(["info", str(fitted)]) == 0
    assert f"trained on: {line}" in capsys.readouterr().out
    assert f"- Trained on: {line}" in (fitted / "README.md").read_text()
    # …also after it has been loaded and saved, and its student too, which saw other data besides.
    finescale.load(fitted).save(tmp_path / "again")
    assert told(tmp_path / "again") == [one]
    words = ["--set", "train.steps=2", "--set", "data.train={time: [null, null], lon: [0.16, null]}"]
    assert main(["fit", "--distill", str(fitted), "-o", str(tmp_path / "student"), *words]) == 0
    (student,) = told(tmp_path / "student")
    assert student["time"] == [*one["time"], ["2020-06-01T00:00:00.000", "2020-06-01T11:00:00.000"]]


@pytest.mark.parametrize(
    ("ranges", "says"),
    [('{time: [null, "2020-06-01T08:00"], lon: [0.16, null]}', "8 of 8 times and all cells"), (LATER, "")],
    ids=["training data", "kept aside"],
)
def test_verify_says_when_the_truth_is_training_data(
    fitted: Path, year: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ranges: str, says: str
) -> None:
    coarse, ensemble, out = tmp_path / "coarse.nc", tmp_path / "ensemble.nc", tmp_path / "scores"
    assert main(["coarsen", str(year), "-o", str(coarse), "--factor", "1x4", "--select", ranges]) == 0
    assert main(["downscale", str(fitted), str(coarse), "-o", str(ensemble), "--members", "2"]) == 0
    assert json.loads(open_store(ensemble).attrs[ATTRIBUTE]) == told(fitted)
    capsys.readouterr()
    assert main(["verify", str(ensemble), str(year), "-o", str(out), "--baselines", "none"]) == 0
    lines = capsys.readouterr().err.splitlines()
    stored, page = json.loads((out / "scores.json").read_text()), (out / "report.html").read_text()
    if not says:
        assert not lines and stored["trained_on"] == {} and "training data" not in page
        return
    (sentence,) = (one["says"] for one in stored["trained_on"].values())
    assert says in sentence and "(year.nc): these are no scores of skill on new data" in sentence
    assert lines == [f"finescale: warning: {sentence}"]
    assert f'<p class="seen">{sentence}</p>'.replace("'", "&#39;") in page


def test_in_part_or_not_at_all(fitted: Path, year: Path) -> None:
    for ranges, says in {
        (
            ("lon", 0.32, None),
        ): "8 of 12 times and all cells of the truth are in the model's training data (year.nc): in",
        (): "8 of 12 times and 75 % of the cells of the truth are in",
        (("lon", None, 0.16),): "",
    }.items():
        part = {name: ends for name, *ends in ranges}
        ensemble = finescale.downscale(fitted, finescale.coarsen(year, "1x4", select=part), members=1)
        assert ensemble is not None
        notes = finescale.verify.score(ensemble, open_store(year)).attrs["notes"]
        assert says in notes if says else "training data" not in notes


def test_longitudes_gaps_and_missing_times(year: Path, config: Callable[..., Any], tmp_path: Path) -> None:
    """The same cells west of Greenwich or from 0 to 360; hours left out of training; a truth that does not say when."""
    with xr.open_dataset(year, engine="netcdf4") as ds:
        ds = ds.load()
    west = ds.assign_coords(lon=ds.lon - 20)
    write(west.isel(time=[0, 1, 2, 6, 7, 8]), tmp_path / "west.nc")
    settings = config(tmp_path / "west.nc", steps=2)
    model = finescale.fit(settings, tmp_path / "model")
    assert [first[11:16] + last[11:16] for first, last in told(tmp_path / "model")[0]["time"]] == [
        "00:0002:00",
        "06:0008:00",
    ]
    round_ = ds.assign_coords(lon=ds.lon + 340)
    ensemble = model.downscale(finescale.coarsen(round_, "1x4"), members=2)
    notes = finescale.verify.score(ensemble, round_).attrs["notes"]
    assert "6 of 12 times and all cells of the truth are in the model's training data (west.nc)" in notes
    between = ensemble.isel(time=slice(3, 6))
    assert "training data" not in finescale.verify.score(between, round_).attrs["notes"]
    unknown = finescale.verify.score(
        ensemble.drop_vars(["time", "time_bnds"], errors="ignore"), round_.drop_vars("time")
    )
    assert "12 of 12 times and all cells of the truth" in unknown.attrs["notes"]
    assert "as far as their coordinates tell" in unknown.attrs["notes"]


def test_other_systems_and_what_is_no_json(fitted: Path, year: Path) -> None:
    coarse = finescale.coarsen(year, "1x4")
    ours = finescale.downscale(fitted, coarse, members=2)
    assert ours is not None
    damaged = ours.assign_attrs({ATTRIBUTE: "[{"})
    notes = finescale.verify.score(damaged, open_store(year), against={"theirs": ours}).attrs["notes"]
    assert "are in the training data of theirs (year.nc)" in notes and "the model's" not in notes
    assert "does not say what a model was trained on" in notes
    # A model without the section claims nothing, and carries on nothing of its input's.
    model = finescale.load(fitted)
    model.config.pop("trained")
    assert ATTRIBUTE not in model.downscale(coarse.assign_attrs({ATTRIBUTE: "[]"}), members=1).attrs


def test_resuming_takes_the_same_data_alone(
    year: Path, config: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(year)
    settings.pop("variables")
    settings["train"] |= {"checkpoint": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    arguments = ["fit", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "model")]
    code = (
        "import os\nfrom finescale.cli import main\nfrom finescale.training import loop\nsave = loop.save_checkpoint\n"
        "def once(*given):\n    save(*given)\n    os.kill(os.getpid(), 9)\nloop.save_checkpoint = once\n"
        f"main({arguments})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == -signal.SIGKILL
    with xr.open_dataset(year, engine="netcdf4") as ds:
        whole = ds.load()
    write(whole.isel(time=slice(0, 6)), year, overwrite=True)
    capsys.readouterr()
    assert main(arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("finescale:")]
    assert "begun with data of other times or cells" in line and "--overwrite" in line
    write(whole, year, overwrite=True)
    assert main(arguments) == 0
    assert told(tmp_path / "model")[0]["time"] == [["2020-06-01T00:00:00.000", "2020-06-01T11:00:00.000"]]


def test_ranges_that_are_none_are_refused(year: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, words in {
        "time": "must be ranges of coordinates",
        "{time: 2020}": "must be ranges of coordinates",
        "{when: [1, 2]}": "no coordinate 'when'",
        "{lon: [5, 6]}": "no cell has lon from 5 to 6",
        "{lon: [5]}": "must be two values",
        "[": "--select is not readable YAML",
    }.items():
        assert main(["coarsen", str(year), "-o", str(tmp_path / "c.nc"), "--factor", "1x4", "--select", given]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line and not (tmp_path / "c.nc").exists()
