"""Models of several variables, of another source's values and of predictors, as `fit` trains them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import finescale
from finescale.cli import main
from finescale.config.load import load
from finescale.data.writing import write
from finescale.errors import InputError, Notice
from finescale.model.batch import Inputs, Members
from finescale.operators.coarsen import Coarsen

VARIABLES: dict[str, Any] = {
    "rain": None,
    "t2m": {"transform": "standardize", "constraint": "additive"},
    "u10": {"transform": "standardize", "constraint": "none", "units": "km h-1"},
}


@pytest.fixture
def weather(data: Path, tmp_path: Path) -> Path:
    """Rain, temperature and wind on one grid."""
    with xr.open_dataset(data) as ds:
        ds = ds.load()
    rng = np.random.default_rng(5)
    ds["t2m"] = ds.rain.copy(data=rng.normal(280, 5, ds.rain.shape).astype("float32")).assign_attrs(units="K")
    ds["u10"] = ds.rain.copy(data=rng.normal(0, 3, ds.rain.shape).astype("float32")).assign_attrs(units="m s-1")
    write(ds, tmp_path / "weather.nc")
    return tmp_path / "weather.nc"


@pytest.fixture
def reanalysis(weather: Path, tmp_path: Path) -> Path:
    """Another source: coarser, on a grid of its own, a degree and more wider, with other names and units."""
    with xr.open_dataset(weather) as ds:
        times = ds.time.values
    lat, lon = np.arange(59.0, 60.6, 0.06), np.arange(-0.5, 1.3, 0.07)
    rng = np.random.default_rng(6)
    shape = (len(times), len(lat), len(lon))
    coords = {
        "time": times,
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", lon + 360, {"units": "degrees_east"}),
    }
    fields = {
        "pr": (rng.gamma(0.5, 2e-4, shape), {"units": "kg m-2 s-1"}),
        "t2m": (rng.normal(7, 5, shape), {"units": "degC"}),
        "msl": (rng.normal(1013, 8, shape), {"units": "hPa"}),
    }
    ds = xr.Dataset({name: (("time", "lat", "lon"), v.astype("float32"), a) for name, (v, a) in fields.items()}, coords)
    write(ds, tmp_path / "reanalysis.nc")
    return tmp_path / "reanalysis.nc"


def inputs(model: Any, **more: Any) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, len(model.variables), 1, 4, 6, generator=generator) * 3
    return Inputs(coarse, **more)


def test_each_variable_has_its_own_transform_constraint_and_units(config, weather: Path, tmp_path: Path) -> None:
    settings = config(weather) | {"variables": VARIABLES}
    finescale.fit(settings, tmp_path / "model")
    model = load(tmp_path / "model", "cpu")
    assert list(model.variables) == ["rain", "t2m", "u10"]
    assert [one["units"] for one in model.variables.values()] == ["mm h-1", "K", "km h-1"]
    given = inputs(model)
    members = model.sample(given, Members(range(2)))
    assert members.fields.shape == (2, 2, 3, 1, 16, 24)
    gaps = (Coarsen(model.factor)(members.fields) - given.coarse[:, None]).abs().amax((0, 1, 3, 4, 5))
    assert gaps[0] < 1e-5 and gaps[1] < 1e-4, "rain and temperature conserve"
    assert gaps[2] > 1e-2, "wind is left as it was drawn"
    assert (members.fields[:, :, 0] >= 0).all() and "rain in mm h-1, t2m in K, u10 in km h-1" in repr(model)
    with xr.open_dataset(weather) as ds:
        standard = model.transform.parts[2].parts[0]
        assert float(standard.std) == pytest.approx(3.6 * float(ds.u10.std()), rel=0.05), "statistics in km/h"


def test_one_variable_is_as_it_was(config, weather: Path, data: Path, tmp_path: Path) -> None:
    """Named in the section variables or alone in its file: the same weights."""
    finescale.fit(config(data) | {"variables": None}, tmp_path / "alone")
    finescale.fit(
        config(weather) | {"variables": {"rain": {"transform": config(data)["transform"]}}}, tmp_path / "named"
    )
    alone, named = load(tmp_path / "alone", "cpu").state_dict(), load(tmp_path / "named", "cpu").state_dict()
    assert all(torch.equal(alone[name], named[name]) for name in alone)


def test_datasets_train_as_their_files_do(config, data: Path, tmp_path: Path) -> None:
    settings = config(data)
    filed = finescale.fit(settings, tmp_path / "filed")
    settings["data"].pop("path")
    with xr.open_dataset(data) as ds:
        given = finescale.fit(settings, tmp_path / "given", data=ds.load())
        finescale.fit(settings, tmp_path / "several", data=[ds.isel(time=slice(2)), data])
    first, second = filed.state_dict(), given.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert "the dataset" in (tmp_path / "given" / "README.md").read_text()
    with pytest.raises(InputError, match="the dataset has no variable 'rain'"):
        finescale.fit(settings, tmp_path / "wrong", data=ds.rename(rain="snow"))
    with pytest.raises(InputError, match=r"data\.path is missing"):
        finescale.fit(settings, tmp_path / "none")


def test_predictors_reach_the_networks(config, weather: Path, reanalysis: Path, tmp_path: Path) -> None:
    settings = config(weather)
    settings["data"] |= {"coarse": str(reanalysis), "predictors": ["msl", "hour"]}
    code = main(["fit", str(_saved(settings, tmp_path)), "-o", str(tmp_path / "model")])
    assert code == 0
    model = load(tmp_path / "model", "cpu")
    assert model.predictors == {"msl": {"units": "hPa"}, "hour": {}}
    assert float(model.conditions.predictor_mean[0]) == pytest.approx(1013, abs=4)
    low, high = (torch.full((2, 3, 1, 4, 6), value) for value in (990.0, 1030.0))
    drawn = [model.sample(inputs(model, predictors=values), Members()).fields for values in (low, high)]
    assert not torch.equal(*drawn)
    with pytest.raises(InputError, match=r"takes 3 predictors \['msl', 'sin hour', 'cos hour'\], not 0"):
        model.sample(inputs(model), Members())


def test_direct_takes_the_other_sources_own_values(config, weather: Path, reanalysis: Path, tmp_path: Path) -> None:
    settings = config(weather) | {"variables": {"rain": {"coarse": "pr"}, "t2m": VARIABLES["t2m"]}}
    settings["data"] |= {"coarse": str(reanalysis), "mode": "direct"}
    model = finescale.fit(settings, tmp_path / "model")
    given = inputs(model)
    free, kept = (one.sample(given, Members()).fields[:, 0] for one in (model, model.conserving(True)))
    means = Coarsen(model.factor)
    assert (means(free) - given.coarse).abs().max() > 1e-2, "its totals are its own"
    torch.testing.assert_close(means(kept), given.coarse, rtol=1e-4, atol=1e-4)
    again = load(tmp_path / "model", "cpu")
    assert torch.equal(again.sample(given, Members()).fields[:, 0], free)


def _saved(settings: dict[str, Any], folder: Path) -> Path:
    import yaml

    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder / "config.yaml"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"coarse": "C", "predictors": ["mls"]}, "data.predictors names 'mls'.*did you mean 'msl'"),
        ({"coarse": "C"}, "data.coarse gives nothing"),
        ({"mode": "direct"}, "needs data.coarse"),
        ({"coarse": "C", "mode": "direct"}, "has no variable rain: .*variables.rain.coarse=NAME"),
        ({"predictors": ["msl"]}, "data.coarse has no variable"),
        ({"coarse": "LATE", "predictors": ["msl"]}, "has no msl at any time of rain"),
        ({"coarse": "FAR", "predictors": ["msl"]}, "has no msl where rain lies"),
        ({"coarse": "DAYS", "predictors": ["msl"]}, "calendar"),
    ],
)
def test_what_does_not_belong_together_is_told_first(
    config, data: Path, reanalysis: Path, tmp_path: Path, changes: dict[str, Any], says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with xr.open_dataset(reanalysis) as ds:
        ds = ds.load()
    write(ds.assign_coords(time=ds.time + np.timedelta64(9, "D")), tmp_path / "late.nc")
    write(ds.assign_coords(lat=ds.lat - 40), tmp_path / "far.nc")
    write(ds.convert_calendar("360_day", align_on="date", use_cftime=True), tmp_path / "days.nc")
    names = {"C": reanalysis, "LATE": tmp_path / "late.nc", "FAR": tmp_path / "far.nc", "DAYS": tmp_path / "days.nc"}
    settings = config(data)
    settings["data"] |= {
        key: str(names.get(value, value)) if key == "coarse" else value for key, value in changes.items()
    }
    import re

    assert main(["fit", str(_saved(settings, tmp_path)), "-o", str(tmp_path / "model")]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and re.search(says, err), err
    assert not (tmp_path / "model").exists()


def test_gaps_are_said(config, data: Path, reanalysis: Path, tmp_path: Path) -> None:
    with xr.open_dataset(reanalysis) as ds:
        write(ds.isel(time=slice(2)).load(), tmp_path / "half.nc")
    settings = config(data)
    settings["data"] |= {"coarse": str(tmp_path / "half.nc"), "predictors": ["msl"]}
    with pytest.warns(Notice, match="has no msl at 2 of 4 times of rain"):
        finescale.fit(settings, tmp_path / "model")


def test_variables_that_do_not_fit_are_named(config: Callable[..., Any], weather: Path, tmp_path: Path) -> None:
    for variables, says in (
        ({"rain": None, "snow": None}, "no variable 'snow'"),
        ({"rain": {"unit": "mm"}}, "variables.rain.unit"),
        ({"rain": None, "t2m": {"constraint": "addtive"}}, r"variables\.t2m\.constraint.*did you mean 'additive'"),
        ({"rain": None, "t2m": {"units": "mm h-1"}}, "t2m is in 'K', which cannot be converted to 'mm h-1'"),
        ({"rain": None, "t2m": {"constraint": "softmax"}}, "all variables or of none|denoiser: none"),
    ):
        with pytest.raises(InputError, match=says):
            finescale.fit(config(weather) | {"variables": variables}, tmp_path / "model")
