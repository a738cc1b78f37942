"""A model remembers what it was trained on, and is not used on something else without a word."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import finescale
from finescale.cli import main
from finescale.config.load import load
from finescale.data.writing import write
from finescale.downscaler import Downscaler
from finescale.errors import InputError, Notice
from finescale.model.remembers import Remembers, Seen

Models = Callable[..., Downscaler]
Change = Callable[[xr.Dataset], xr.Dataset]


def kelvin(low: float = 280.0, high: float = 290.0, **coords: Any) -> xr.Dataset:
    """Hourly temperatures from ``low`` to ``high`` on 6 x 8 cells of 4 km."""
    values = np.linspace(low, high, 3 * 6 * 8, dtype="float32").reshape(3, 6, 8)
    axes: dict[str, Any] = {
        "time": np.datetime64("2020-06-01", "ns") + np.arange(3) * np.timedelta64(1, "h"),
        "y": ("y", 4.0 * np.arange(6), {"units": "km"}),
        "x": ("x", 4.0 * np.arange(8), {"units": "km"}),
    }
    return xr.Dataset({"tas": (("time", "y", "x"), values, {"units": "K"})}, axes | coords)


@pytest.fixture
def knowing(built: Models) -> Models:
    """``knowing(**changes)``: a model of temperature from 280 to 300 K, of hourly fields of 1 km."""

    def made(**changes: Any) -> Downscaler:
        model = built(
            variables={"tas": {"units": "K"}}, transform="standardize", **({"constraint": "additive"} | changes)
        )
        seen = Seen(280.0, 300.0)
        model.remember(Remembers((1.0, 1.0), "km", (3600.0, 3600.0), {"tas": seen}), [])
        return model

    return made


def test_training_remembers(data: Path, config: Callable[..., dict[str, Any]], tmp_path: Path, capsys: Any) -> None:
    """Spacing, length of frames, range and wet share; they are kept, shown, and agree with what was trained on."""
    (tmp_path / "config.yaml").write_text(json.dumps(config(data)))
    assert main(["fit", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "model")]) == 0
    model = load(tmp_path / "model")
    with xr.open_dataset(data) as ds:
        low, high = float(ds["rain"].min()), float(ds["rain"].max())
    seen = model.remembers.variables["rain"]
    assert (seen.low, seen.high, seen.wet) == (pytest.approx(low), pytest.approx(high), None)
    assert model.remembers.spacing == pytest.approx((1.11195, 1.11195), rel=1e-4) and model.remembers.units == "km"
    assert model.remembers.cadence == (3600.0, 3600.0)
    capsys.readouterr()
    assert main(["info", str(tmp_path / "model")]) == 0
    said = capsys.readouterr().out
    assert "  remembers: fine fields: spacing 1.112 km, every 1 h\n" in said
    assert f"  remembers: rain: {low:.4g} to {high:.4g} mm h-1\n" in said
    coarse = finescale.coarsen(data, "1x4", tmp_path / "coarse.nc")
    out = ["-o", str(tmp_path / "out.nc"), "--members", "1"]
    assert main(["downscale", str(tmp_path / "model"), str(tmp_path / "coarse.nc"), *out]) == 0
    assert capsys.readouterr().err == ""
    # The same values as if they were of a day, and of no units.
    wrong = coarse.assign(rain=(24 * coarse["rain"]).assign_attrs(units=""))
    write(wrong, tmp_path / "wrong.nc")
    words = ["downscale", str(tmp_path / "model"), str(tmp_path / "wrong.nc"), *out, "--overwrite"]
    assert main(words) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 2 and "has no units" in error[0]  # which is said besides
    assert "is unlike what the model was trained on: rain is" in error[1] and "pass --force" in error[1]
    assert main([*words, "--force"]) == 0
    assert "finescale: warning: " in capsys.readouterr().err


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "ds",
    [
        kelvin(),
        kelvin(276.0, 304.0),  # a little beyond
        kelvin(y=("y", 4.4 * np.arange(6), {"units": "km"})),
        kelvin(y=("y", 4000.0 * np.arange(6), {"units": "m"})),
        kelvin(y=np.arange(6), x=np.arange(8)),  # of what is not known nothing is said
        kelvin(time=np.arange(3)),
        kelvin().isel(time=[0]),
        kelvin(time=kelvin()["time"] + np.arange(3) * np.timedelta64(5, "m")),
    ],
    ids=["alike", "range", "spacing", "metres", "no units of cells", "no dates", "one time", "cadence"],
)
def test_nothing_is_said_of_what_is_alike(knowing: Models, ds: xr.Dataset) -> None:
    assert np.isfinite(knowing().downscale(ds, members=1)["tas"]).all()


@pytest.mark.parametrize(
    ("ds", "words", "refused"),
    [
        (kelvin(y=("y", 6.0 * np.arange(6), {"units": "km"})), "its cells are 6 km wide, not 4", False),
        (kelvin(y=("y", 8.0 * np.arange(6), {"units": "km"})), "its cells are 8 km wide, not 4", True),
        (kelvin(y=("y", 2.0 * np.arange(6), {"units": "km"})), "its cells are 2 km wide, not 4", True),
        (
            kelvin(time=kelvin()["time"][0] + 24 * (kelvin()["time"] - kelvin()["time"][0])),
            "frames last 1 d, not 1 h",
            True,
        ),
        (kelvin(270.0, 290.0), "tas is 270 to 290 in the model's units, in training 280 to 300", False),
        (kelvin(280.0, 325.0), "tas is 280 to 325 in the model's units", True),
        (kelvin(7.0, 17.0), "tas is 7 to 17 in the model's units", True),
    ],
)
def test_what_is_unlike_is_said_or_refused(knowing: Models, ds: xr.Dataset, words: str, refused: bool) -> None:
    if refused:
        with pytest.raises(InputError, match=f"{words}.*pass --force"):
            knowing().downscale(ds, members=1)
    with pytest.warns(Notice, match=words):
        out = knowing().downscale(ds, members=1, force=refused)
    assert np.isfinite(out["tas"]).all()


def test_instants_have_no_length(knowing: Models) -> None:
    """…for a model that sees one frame at a time."""
    ds = kelvin(time=kelvin()["time"][0] + 6 * (kelvin()["time"] - kelvin()["time"][0]))
    ds["tas"].attrs["cell_methods"] = "time: point"
    assert knowing().downscale(ds, members=1).sizes["time"] == 3
    with pytest.raises(InputError, match="frames last 6 h, not 1 h"):
        knowing(data={"frames": 3}).downscale(ds, members=1)


def test_frames_further_apart_were_seen_where_time_is_not_refined(knowing: Models) -> None:
    model = knowing(factor={"time": [1, 3], "space": [1, 6]}, latent="pixel")
    model.remember(replace(model.remembers, apart=4), [])
    times = kelvin()["time"]
    ds = kelvin(time=times[0] + 4 * (times - times[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.downscale(ds, members=1, factor="1x4").sizes["time"] == 3
    later = kelvin(time=times[0] + 8 * (times - times[0]))
    with pytest.raises(InputError, match="frames last 8 h, not 1 h to 4 h"):
        model.downscale(later, members=1, factor="1x4")
    with pytest.raises(InputError, match="frames last 4 h, not 2 h"):
        model.downscale(ds, members=1, factor="2x4")
    assert "every 1 h (up to 4 times as long where time is not refined)" in model.remembers.lines({"tas": "K"})[0]


def test_a_model_of_many_factors_makes_cells_of_the_size_that_it_has_seen(knowing: Models) -> None:
    """Fine cells of 1 km and frames of 1 h: what is coarse follows from the factor in use."""
    model = knowing(factor={"time": [1, 3], "space": [1, 6]}, latent="pixel")

    def given(step: float, hours: int) -> xr.Dataset:
        times = kelvin()["time"]
        return kelvin(y=("y", step * np.arange(6), {"units": "km"}), time=times[0] + hours * (times - times[0]))

    assert model.downscale(given(2.0, 1), members=1, factor="1x2").sizes["y"] == 12
    assert model.downscale(given(6.0, 3), members=1, factor="3x6").sizes["y"] == 36
    with pytest.raises(InputError, match="its cells are 6 km wide, not 2"):
        model.downscale(given(6.0, 1), factor="1x2")
    with pytest.raises(InputError, match="its frames last 3 h, not 1 h"):
        model.downscale(given(2.0, 3), factor="1x2")


def test_a_factor_that_is_not_named_is_that_of_cells_as_they_were_seen(knowing: Models) -> None:
    model = knowing(factor={"time": [1, 3], "space": [2, 6]}, latent="pixel")
    times = kelvin()["time"]

    def given(step: float, hours: int, **attrs: str) -> xr.Dataset:
        ds = kelvin(y=("y", step * np.arange(6), {"units": "km"}), time=times[0] + hours * (times - times[0]))
        for one in ds.data_vars.values():
            one.attrs |= attrs
        return ds

    for ds, wanted in (
        (given(4.0, 1), "1x4"),
        (given(4.9, 1), "1x4"),  # cells of 1.2 km rather than of .98
        (given(4.0, 2), "2x4"),
        (given(4.0, 3, cell_methods="time: point"), "1x4"),
    ):
        with pytest.warns(Notice, match=f"the factor is {wanted}"):
            found = model.downscale(ds, members=1)
        assert found.attrs["finescale_factor"] == wanted
    unknown = kelvin().drop_vars("y")
    with pytest.raises(InputError, match="none is chosen: give a factor"):
        model.downscale(unknown, members=1)


def test_drizzle_is_said(built: Models) -> None:
    """Rain in nearly all cells, where training had it in a fifth: of a coarse model, and no other scale."""
    model = built()
    model.remember(Remembers(variables={"rain": Seen(0.0, 50.0, 0.2)}), [])
    ds = (kelvin() - 279.9).rename(tas="rain")
    ds["rain"].attrs["units"] = "mm h-1"
    with pytest.warns(Notice, match="rain is above zero in 100% of cells, in training in 20% at most"):
        model.downscale(ds, members=1)


def test_negative_rain_is_none_and_said(built: Models) -> None:
    """As regridding leaves it: never amplified, and what is conserved is the field without it."""
    ds = (kelvin() - 279.9).rename(tas="rain")
    ds["rain"].attrs["units"] = "mm h-1"
    ds["rain"][1, :2] = -0.2
    ds["rain"][2, 0, 0] = np.nan
    with pytest.warns(Notice, match=r"rain is negative in 16 of 144 cells looked at, -0.2 at least: .* as none"):
        out = built().downscale(ds, members=2)
    assert float(out["rain"].min()) >= 0 and not out["rain"][:, 1, :8].any()
    assert out.attrs["finescale_conservation_residual"] < 1e-5
    same = built().downscale(ds.clip(min=0), members=2)
    np.testing.assert_array_equal(out["rain"], same["rain"])


def test_lazy_reads_no_values(knowing: Models) -> None:
    knowing().downscale(kelvin(7.0, 17.0), members=1, lazy=True)
    with pytest.raises(InputError, match="its cells are 8 km wide"):
        knowing().downscale(kelvin(y=("y", 8.0 * np.arange(6), {"units": "km"})), lazy=True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"spacing": "wide"}, "remembers.spacing"),
        ({"cadence": [1.0]}, "remembers.cadence"),
        ({"colour": 1}, "unknown configuration key remembers.colour"),
        ({"variables": {"tas": {"low": "cold"}}}, "remembers.variables"),
        ({"masks": [{"y": [0, 1, 0], "x": [0, 1, 2]}]}, "remembers.masks"),
        ({"masks": [{"y": [0, 1, 2**20], "x": [0, 1, 2**20]}]}, "cells"),
    ],
)
def test_a_damaged_memory_is_refused(
    knowing: Models, tmp_path: Path, settings: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """…in one line, by `downscale` and by `info`."""
    import yaml

    model = knowing()
    model.save(tmp_path / "model")
    (tmp_path / "model" / "config.yaml").write_text(yaml.safe_dump(model.config | {"remembers": settings}))
    write(kelvin(), tmp_path / "coarse.nc")
    out = ["-o", str(tmp_path / "out.nc")]
    for arguments in (
        ["downscale", str(tmp_path / "model"), str(tmp_path / "coarse.nc"), *out],
        ["info", str(tmp_path / "model")],
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err.splitlines()
        assert (
            len(error) == 1 and words.removeprefix("unknown configuration key ").removeprefix("remembers.") in error[0]
        )
