"""The four lines on top of the report: what they say of ensembles whose virtues and faults are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from finescale.verify import verify
from finescale.verify.figures import Picture

TIMES, SHAPE = 6, (24, 32)


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their figures, which take most of the time."""
    blank = Picture("maps", "maps", {"png": b""}, "nothing", "nothing")
    monkeypatch.setattr("finescale.verify.figures_places.pictures", lambda *given: iter([blank]))
    monkeypatch.setattr("finescale.verify.figures.curves", lambda *given: iter([]))


def made(folder: Path, spread: float = 1.0, moved: float = 0.0, members: int = 6, **attrs: Any) -> dict[str, Any]:
    """What `verify` finds of members that differ ``spread`` times as much as they should, each ``moved`` by so much."""
    rng = np.random.default_rng(4)
    coords = {
        "time": np.datetime64("2024-06-01", "ns") + np.arange(TIMES) * np.timedelta64(3600, "s"),
        "y": ("y", 1000.0 * np.arange(SHAPE[0]), {"units": "m"}),
        "x": ("x", 1000.0 * np.arange(SHAPE[1]), {"units": "m"}),
    }
    mean = 285 + 4 * rng.normal(size=(TIMES, *SHAPE))
    errors = rng.normal(size=(members + 1, TIMES, SHAPE[0] // 4, 4, SHAPE[1] // 4, 4))
    errors -= errors.mean(axis=(3, 5), keepdims=True)  # block means stay
    errors = errors.reshape(members + 1, TIMES, *SHAPE)
    kind: Any = {"name": "tas", "attrs": {"units": "K", "standard_name": "air_temperature"}}
    truth = xr.DataArray(mean + errors[0], coords, ("time", "y", "x"), **kind)
    values = mean + spread * errors[1:] + moved
    ensemble = xr.DataArray(values, coords, ("realization", "time", "y", "x"), **kind)
    coarse = truth.coarsen(y=4, x=4).mean()  # type: ignore[attr-defined]
    for dim in ("y", "x"):
        coarse[dim].attrs = truth[dim].attrs
    files = {"ensemble": ensemble.to_dataset().assign_attrs(finescale_factor="1x4", **attrs), "truth": truth}
    for name, one in (files | {"coarse": coarse.assign_attrs(truth.attrs)}).items():
        one.to_netcdf(folder / f"{name}.nc")
    paths = (folder / f"{name}.nc" for name in ("ensemble", "truth"))
    return verify(*paths, folder / "out", folder / "coarse.nc", ("nearest", "noise"), report=False)


@pytest.mark.parametrize(
    ("spread", "head"),
    [
        (1.0, "Spread right"),
        (0.93, "Spread a little too small: surer than it should be"),
        (0.5, "Spread too small: surer than it should be"),
        (2.0, "Spread too large: less sure than it could be"),
    ],
)
def test_the_spread_is_right_or_wrong_in_a_direction_with_what_to_do(spread: float, head: str, tmp_path: Path) -> None:
    found = made(tmp_path, spread, finescale_model="f00d", finescale_seed=7, source="finescale 0.1.0, model f00d")
    line = found["verdict"]["spread"]
    assert line["head"] == head and f"{found['systems']['ensemble']['spread_skill']:.2f} times" in line["says"]
    do = (
        ""
        if head == "Spread right"
        else "To widen it: finescale calibrate"
        if spread < 1
        else "To narrow it: finescale"
    )
    assert do in line["says"] and (do or "calibrate" not in line["says"])
    assert found["made_by"] == {"model": "f00d", "seed": 7, "says": found["made_by"]["says"]}
    assert found["made_by"]["says"].startswith(
        "Made by finescale 0.1.0, model f00d, seed 7. The file does not say what"
    )


def test_closer_than_noise_with_the_interval_of_the_pairs_and_totals_kept(tmp_path: Path) -> None:
    found = made(tmp_path)
    ours, noise = (found["systems"][name]["crps"] for name in ("ensemble", "noise"))
    close, compared = found["verdict"]["closeness"], found["comparisons"]["noise"]["crps"]
    assert close["head"] == "Closer to the truth than Bicubic + noise" and ours < noise
    ends = sorted(-100 * compared[end] / noise for end in ("low", "high"))
    assert (
        f"{100 * (1 - ours / noise):.0f} % below Bicubic + noise's ({ends[0]:.0f} to {ends[1]:.0f} %)" in close["says"]
    )
    assert found["verdict"]["totals"]["head"] == "Totals kept"
    assert found["verdict"]["extremes"]["head"] == "Extremes right"
    # Another program's ensemble: no command of ours mends it.
    assert "calibrate" not in found["verdict"]["spread"]["says"] and found["made_by"]["model"] is None


def test_faults_are_said_and_a_single_field_has_no_spread(tmp_path: Path) -> None:
    found = made(tmp_path, moved=3.0, members=1)["verdict"]
    assert found["spread"]["head"] == "No spread" and found["totals"]["head"] == "Totals not kept"
    assert "lie 3 °C above the coarse field" in found["totals"]["says"]
    assert found["closeness"]["head"] == "No closer than Bicubic + noise"


def test_extremes_that_are_too_strong_are_named_in_degrees(tmp_path: Path) -> None:
    found = made(tmp_path, spread=6.0)
    line, ours = found["verdict"]["extremes"], found["systems"]["ensemble"]
    assert line["head"] == "Extremes too strong"
    assert f"at {ours['p999'] - 273.15:.1f} °C, in the truth at {ours['p999_truth'] - 273.15:.1f};" in line["says"]


def test_the_truth_among_the_training_data_is_said_first(tmp_path: Path) -> None:
    trained = '[{"files":["mine.nc"],"variable":"tas","time":[["2024-06-01T00:00","2024-07-01T00:00"]],'
    trained += '"y":[-500,30000],"x":[-500,40000],"crs":""}]'
    kept = trained.replace("2024", "1999")
    with pytest.warns(UserWarning, match="no scores of skill on new data"):
        seen = made(tmp_path, finescale_model="f00d", finescale_trained_on=trained)
    assert "The truth is among the data" in seen["made_by"]["says"] and seen["trained_on"]["ensemble"]["share"] == 1
    (tmp_path / "other").mkdir()
    new = made(tmp_path / "other", finescale_model="f00d", finescale_trained_on=kept)
    assert "The truth is not among the data that it was trained on (mine.nc)." in new["made_by"]["says"]
