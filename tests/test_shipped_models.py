"""The models that come with the package: whole, small, at every factor, and better than what needs no model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import finescale
from finescale.cli import main
from finescale.config import shipped
from finescale.config.shipped import About
from finescale.data import samples
from finescale.verify import score

NAMES = sorted(path.name for path in shipped.MODELS.iterdir() if (path / "config.yaml").is_file())


@pytest.fixture(scope="module")
def radar() -> xr.DataArray:
    return samples.radar()["precipitation_rate"]


def test_there_are_some() -> None:
    assert NAMES == ["rain", "sst"]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_small_says_what_it_is_and_is_whole(name: str) -> None:
    folder = shipped.MODELS / name
    about = About.of(folder)
    assert about is not None and all((about.summary, about.data, about.licence, about.scores))
    assert set(about.sha256) == set(shipped.FILES)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12e6
    config = (folder / "config.yaml").read_text()
    assert not re.search(r"[:\s]/\w", config)  # no path of a machine
    model = finescale.load(name)
    assert model.fingerprint and name in shipped.names()
    card = (folder / "README.md").read_text()
    assert about.data[:20] in card and "must not" in card


@pytest.mark.parametrize("factor", ["1x2", "1x8", "3x10", "6x25"])
def test_rain_is_made_at_any_factor(radar: xr.DataArray, factor: str) -> None:
    fine = radar[:12, :200, :200]
    coarse = finescale.coarsen(fine, factor)
    made = finescale.downscale("rain", coarse, members=2, factor=factor, progress=False)
    assert made is not None
    assert made["precipitation_rate"].sizes["time"] == 12 and made["precipitation_rate"].sizes["lat"] == 200
    assert float(made.attrs["finescale_conservation_residual"]) < 1e-5
    again = finescale.coarsen(made["precipitation_rate"].isel(realization=0), factor)["precipitation_rate"]
    np.testing.assert_allclose(again.values, coarse["precipitation_rate"].values, rtol=1e-3, atol=1e-3)


def test_rain_is_nearer_to_radar_than_what_needs_no_model(radar: xr.DataArray) -> None:
    """On a region that it has not seen; the others are those of `finescale verify`."""
    coarse = finescale.coarsen(radar[:6], "1x8")
    made = finescale.downscale("rain", coarse, members=6, factor="1x8", progress=False)
    assert made is not None
    crps = score(made, radar[:6], coarse, baselines=("rainfarm", "noise"))["crps"]
    ours, farm, noise = (float(crps.sel(system=name)) for name in ("ensemble", "rainfarm", "noise"))
    assert ours < 0.9 * farm and ours < 0.95 * noise


def test_temperature_is_made_with_its_deviation(tmp_path: Path) -> None:
    y, x = np.mgrid[:24, :24]
    values = 15 + 3 * np.sin(y / 5) + 2 * np.cos(x / 4) + np.zeros((3, 1, 1))
    coords = {"time": np.datetime64("2012-01-01", "ns") + np.arange(3) * np.timedelta64(1, "D"),
              "lat": ("lat", -44 + 0.25 * np.arange(24), {"units": "degrees_north"}),
              "lon": ("lon", 147 + 0.25 * np.arange(24), {"units": "degrees_east"})}  # fmt: skip
    attrs = {"units": "degree_Celsius", "standard_name": "sea_surface_temperature"}
    fine = xr.DataArray(values.astype(np.float32), dims=("time", "lat", "lon"), coords=coords, name="sst", attrs=attrs)
    finescale.coarsen(fine, "1x4", tmp_path / "coarse.nc")
    words = ["downscale", "sst", str(tmp_path / "coarse.nc"), "-o", str(tmp_path / "fine.nc"), "--factor", "1x4"]
    assert main([*words, "--members", "2", "--variance"]) == 0
    with xr.open_dataset(tmp_path / "fine.nc") as made:
        assert float(abs(made["sst"].mean("realization") - fine).mean()) < 0.5
        assert 0 < float(made["sst_std"].mean()) < 2


def test_the_real_demo_scores_rain_on_radar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--real", "-o", str(tmp_path / "demo")]) == 0
    said = capsys.readouterr().out
    assert "finescale downscale rain" in said and "finescale fit" not in said.split("Next,")[0]
    systems = json.loads((tmp_path / "demo" / "scores" / "scores.json").read_text())["systems"]
    assert systems["ensemble"]["crps"] < min(systems[name]["crps"] for name in ("bicubic", "noise", "rainfarm"))
    assert (tmp_path / "demo" / "scores" / "report.html").is_file()
