"""Several variables through the door: a report of each, their scores together, and what does not fit."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from finescale.cli import main
from finescale.data.files import open_store
from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.scores import across
from finescale.scores.joint_sums import JointSums
from finescale.scores.settings import Settings
from finescale.verify import score, verify
from finescale.verify.align import align
from finescale.verify.evaluate import settings_for
from finescale.verify.joint import joint
from finescale.verify.variables import folders

TIMES, SHAPE, MEMBERS = 6, (8, 12), 3
DIMS = ("time", "y", "x")
WIND, FOLDER = "u <b>10 m", "u__b_10_m"
"""A name that is no folder's, and no page's."""
ATTRS: dict[str, dict[str, str]] = {
    "pr": {"units": "mm h-1", "standard_name": "precipitation_flux"},
    WIND: {"units": "m s-1", "standard_name": "eastward_wind"},
    "tas": {"units": "K", "standard_name": "air_temperature"},
}

HEIGHT = xr.DataArray(np.arange(96.0).reshape(SHAPE), dims=("y", "x"))


def coordinates(step: int = 3600) -> dict[str, Any]:
    return {
        "time": np.datetime64("2024-06-01", "ns") + np.arange(TIMES) * np.timedelta64(step, "s"),
        "y": ("y", 1000.0 * np.arange(SHAPE[0]), {"units": "m"}),
        "x": ("x", 1000.0 * np.arange(SHAPE[1]), {"units": "m"}),
    }


def coarsened(ds: xr.Dataset) -> xr.Dataset:
    found = ds.coarsen(y=4, x=4).mean(keep_attrs=True)  # type: ignore[attr-defined]
    for dim in ("y", "x"):
        found[dim].attrs = ds[dim].attrs
    return found


def made(names: tuple[str, ...] = ("pr", WIND)) -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    """Ensemble, truth and coarse field; members are the truth with errors of their own, and its block means."""
    rng = np.random.default_rng(7)
    fields = {
        "pr": rng.gamma(0.5, 4.0, (TIMES, *SHAPE)),
        WIND: 3 + 4 * rng.normal(size=(TIMES, *SHAPE)),
        "tas": 285 + 5 * rng.normal(size=(TIMES, *SHAPE)),
    }
    truth = xr.Dataset({n: (DIMS, fields[n], ATTRS[n]) for n in names}, coordinates())
    members = {}
    for name in names:
        error = rng.normal(0, 0.5, (MEMBERS, TIMES, SHAPE[0] // 4, 4, SHAPE[1] // 4, 4))
        error -= error.mean(axis=(3, 5), keepdims=True)
        members[name] = ("realization", *DIMS), fields[name] + error.reshape(MEMBERS, TIMES, *SHAPE), ATTRS[name]
    return xr.Dataset(members, coordinates(), {"finescale_factor": "1x4"}), truth, coarsened(truth)


def stored(folder: Path, **given: xr.Dataset) -> dict[str, Path]:
    for name, ds in given.items():
        ds.to_netcdf(folder / f"{name}.nc")
    return {name: folder / f"{name}.nc" for name in given}


def run(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    return (code, *capfd.readouterr())


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``finescale verify`` of two variables and of one of the two; an ensemble that lacks one stands beside them."""
    folder = tmp_path_factory.mktemp("several")
    ensemble, truth, coarse = made()
    shuffled = ensemble.assign({WIND: ensemble[WIND].roll(realization=1)})
    stored(
        folder,
        ensemble=ensemble.assign(elevation=HEIGHT),
        truth=truth.assign(extra=truth.pr, elevation=HEIGHT),
        coarse=coarse,
        shuffled=shuffled,
    )
    stored(folder, half=ensemble[["pr"]])
    words = [str(folder / name) for name in ("ensemble.nc", "truth.nc")]
    more = ["--coarse", str(folder / "coarse.nc"), "--baselines", "nearest", "--block", "2"]
    rivals = [part for name in ("shuffled", "half") for part in ("--against", str(folder / f"{name}.nc"))]
    assert main(["verify", *words, "-o", str(folder / "out"), *more, *rivals]) == 0
    alone = [*words, "-o", str(folder / "alone"), *more, "--against", str(folder / "shuffled.nc"), "--variable", WIND]
    assert main(["verify", *alone]) == 0
    return folder


def test_each_variable_is_scored_as_it_is_alone(report: Path) -> None:
    together = json.loads((report / "out" / "scores.json").read_text())
    assert list(together["variables"]) == ["pr", WIND] and together["folders"] == {"pr": "pr", WIND: FOLDER}
    alone = json.loads((report / "alone" / "scores.json").read_text())
    own = together["variables"][WIND]
    assert own["notes"].pop() == f"Half has no variable {WIND}."
    # Which residual a file states does not depend on the variable; "half" states none.
    assert own == alone
    assert list(together["variables"]["pr"]["systems"]) == ["ensemble", "shuffled", "half", "nearest"]
    assert together["notes"] == ["Not scored, as the ensemble lacks them: extra."]
    for name in ("report.html", "scores.csv", "overview.png", "figures/maps.png", "figures/spectra.svg"):
        assert (report / "out" / FOLDER / name).is_file() and (report / "alone" / name).is_file()
    assert (report / "out" / FOLDER / "scores.csv").read_bytes() == (report / "alone" / "scores.csv").read_bytes()


def test_the_section_joint_has_scores_intervals_and_comparisons(report: Path) -> None:
    found = json.loads((report / "out" / "scores.json").read_text())["joint"]
    assert found["variables"] == ["pr", WIND] and found["pairs"] == [["pr", WIND]] and found["block_cells"] == [4, 4]
    assert list(found["systems"]) == ["ensemble", "shuffled", "nearest"]
    assert found["notes"] == ["half has not all of the variables and is left out."]
    ensemble, truth, _ = made()
    x, y = (np.stack([ds[name].values for name in ("pr", WIND)], axis=k) for ds, k in ((ensemble, 1), (truth, 0)))
    told = found["standardised_by"]
    for name, values in zip(("pr", WIND), y, strict=True):
        assert told[name]["mean"] == pytest.approx(values.mean()) and told[name]["std"] == pytest.approx(values.std())
    sums = JointSums(Settings(factor=Factor(1, 4)), y.mean(axis=(1, 2, 3)), y.std(axis=(1, 2, 3)))
    sums.add(x, y)
    expected = sums.scores()
    for key in across.scores():
        assert found["systems"]["ensemble"][key] == pytest.approx(expected[key], rel=1e-9)
        if key in found["definitions"]:
            low, high = found["intervals"]["ensemble"][key]
            assert np.all(np.asarray(low) < expected[key]) and np.all(expected[key] < np.asarray(high))
    assert found["bootstrap"]["block"] == 2
    assert found["comparisons"]["nearest"]["joint_energy_score"]["significant"]
    assert found["definitions"].keys() == {key for key, one in across.scores().items() if one.title}


def test_first_page_links_to_each_variable_with_its_verdict(report: Path) -> None:
    page = (report / "out" / "report.html").read_text(encoding="utf-8")
    links = re.findall(r'href="([^"]*report.html)"', page)
    assert set(links) == {"pr/report.html", f"{FOLDER}/report.html"}
    shown, folded = page.split("<details>")[:2]
    assert "Energy score of a cell" in shown and "Correlation, pr" not in shown
    assert "Pair by pair" in folded and "Correlation, pr" in folded
    assert all((report / "out" / link).is_file() for link in links)
    found = json.loads((report / "out" / "scores.json").read_text())
    shown = html.unescape(page)
    assert found["joint"]["verdict"] in shown
    for one in found["variables"].values():
        assert one["verdict"]["closeness"]["says"] in shown
        assert all(f"<b>{line['head']}.</b>" in shown for line in one["verdict"].values())
    value = found["joint"]["systems"]["ensemble"]["joint_energy_score"]
    assert "Energy score of a cell<small>" in page and f">{value:.3f}<" in page
    assert f"Correlation, pr and {WIND}" in shown and "u <b>" not in page and "<script" not in page
    assert "http" not in re.sub(r"data:[a-z+/]+;base64,[A-Za-z0-9+/=]+", "", page)


def test_the_table_of_all_names_the_variable(report: Path) -> None:
    rows = list(csv.DictReader((report / "out" / "scores.csv").open(encoding="utf-8")))
    told = json.loads((report / "out" / "scores.json").read_text())
    found = {(r["variable"], r["system"], r["score"]): r for r in rows if not r["threshold"]}
    assert {r["variable"] for r in rows} == {"pr", WIND, f"pr & {WIND}"}
    assert float(found[WIND, "nearest", "crps"]["value"]) == told["variables"][WIND]["systems"]["nearest"]["crps"]
    energy = found[f"pr & {WIND}", "shuffled", "joint_energy_score"]
    assert float(energy["value"]) == told["joint"]["systems"]["shuffled"]["joint_energy_score"]
    assert float(energy["low"]) <= float(energy["value"]) <= float(energy["high"])


def test_a_later_report_of_one_variable_leaves_nothing_of_the_others(report: Path, tmp_path: Path) -> None:
    """Wherever one variable is all that both files have: it is scored as one."""
    shutil.copytree(report / "out", tmp_path / "out")
    (tmp_path / "out" / "pr" / "mine.txt").write_text("mine")
    found = verify(report / "ensemble.nc", report / "truth.nc", tmp_path / "out", report=False, overwrite=True)
    left = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    alone = {f"{folder}/scores.{end}" for folder in found["folders"].values() for end in ("json", "csv")}
    assert left == {"scores.json", "scores.csv", "pr/mine.txt"} | alone
    found = verify(report / "half.nc", report / "truth.nc", tmp_path / "out", baselines=(), overwrite=True)
    assert found["variable"] == "pr" and "joint" not in found
    assert f"Not scored, as the ensemble lacks them: {WIND}, extra, elevation." in found["notes"]
    left = {p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert {str(p) for p in left if p.parts[0] != "figures"} == {
        "pr/mine.txt", "scores.json", "scores.csv", "report.html", "overview.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["..", ".", "-o"], ["variable", "variable_", "o"]),
        (["a/b", "a_b", "A_b"], ["a_b", "a_b_", "A_b__"]),
        (["figures", "scores"], ["figures_", "scores"]),
        (["température", "x" * 300], ["temp_rature", "x" * 80]),
    ],
)
def test_folders_are_named_by_what_any_disk_takes(names: list[str], expected: list[str]) -> None:
    assert folders(names) == dict(zip(names, expected, strict=True))


@pytest.mark.parametrize(
    ("change", "words", "says"),
    [
        ({WIND: "u10", "pr": "rain"}, (), "have no variable in common"),
        ({}, ("--thresholds", "1"), "give --variable too"),
        ({}, ("--variable", "sea"), "no variable 'sea'"),
        ({}, ("--block", "99"), "bootstrap block"),
        ({}, ("--baselines", "magic"), "no baseline 'magic'"),
    ],
)
def test_refused_in_one_line(
    change: dict[str, str], words: tuple[str, ...], says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ensemble, truth, _ = made()
    paths = stored(tmp_path, ensemble=ensemble, truth=truth.rename(change))
    code, out, err = run(capfd, "verify", paths["ensemble"], paths["truth"], "-o", tmp_path / "out", *words)
    assert code == 2 and not out and says in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["constant", "times", "cells"])
def test_what_cannot_be_scored_together_is_said(kind: str) -> None:
    ensemble, truth, _ = made(("pr", "tas", WIND))
    fine = {name: (ensemble[name], truth[name]) for name in ensemble}
    if kind == "constant":
        fine["tas"] = (ensemble.tas, (0 * truth.tas + 280.0).assign_attrs(truth.tas.attrs))
        says = "tas does not vary in the truth and is left out."
    elif kind == "times":
        fine["tas"] = (ensemble.tas, truth.tas[2:])
        says = "tas has other times than pr and is left out."
    else:
        fine["tas"] = (ensemble.tas[..., 4:], truth.tas[..., 4:])
        says = "tas is on other cells than pr and is left out."
    aligned = {str(name): align(*pair, factor="1x4") for name, pair in fine.items()}
    settings, used = {name: settings_for(one) for name, one in aligned.items()}, dict.fromkeys(aligned, ("nearest",))
    found = joint(aligned, settings, used)
    assert found["variables"] == ["pr", WIND] and found["notes"] == [says]
    del aligned[WIND]
    assert joint(aligned, settings, used) == {"notes": [says]}


def test_masks_that_differ_leave_the_cells_that_all_have() -> None:
    """A truth without sea, an ensemble without a lake, another without an island: each system on the same cells."""
    ensemble, truth, _ = (ds.tas for ds in made(("tas",)))
    other = (ensemble + 0.5).assign_attrs(ensemble.attrs)
    land, lake, island = (xr.DataArray(np.ones(SHAPE, bool), dims=("y", "x")) for _ in range(3))
    land[:2, :3], lake[5, 5:7], island[7, 0] = False, False, False
    given = ensemble.where(lake), truth.where(land)
    found = score(*given, factor="1x4", baselines=("nearest",), against={"other": other.where(island)})
    assert found.attrs["cells"] == TIMES * (96 - 6 - 2 - 1)
    lost = "54 of 576 values (cells by times) are scored in no system: 36 are missing in the truth and 18 more in an"
    assert lost in found.attrs["notes"]
    seen = (land & lake & island).values
    means = truth.where(land).coarsen(y=4, x=4).mean().values  # type: ignore[attr-defined]
    blocks = means.repeat(4, axis=1).repeat(4, axis=2)
    for system, values in (("ensemble", ensemble.values), ("other", other.values), ("nearest", blocks[None])):
        errors = np.abs(values.mean(axis=0) - truth.values)[:, seen]
        assert float(found.mae.sel(system=system)) == pytest.approx(errors.mean(), rel=1e-9)
    whole = score(ensemble, truth, factor="1x4", baselines=("nearest",))
    assert "scored in no system" not in whole.attrs["notes"]


@pytest.mark.parametrize("members", ["own", "lost", "none"])
def test_members_of_several_coarse_members(members: str, tmp_path: Path) -> None:
    """2 coarse members × 2: each member is held against the one it is made of."""
    rng = np.random.default_rng(3)
    _, truth, low = made(("tas",))
    coarse = xr.concat([low - 1.0, low + 1.0], "realization").assign_coords(realization=[10, 20])
    coarse.tas.attrs = ATTRS["tas"]
    for dim in ("y", "x"):
        coarse[dim].attrs = truth[dim].attrs
    fine = coarse.tas.transpose("realization", *DIMS).values.repeat(4, axis=2).repeat(4, axis=3)
    detail = rng.normal(size=(4, TIMES, 2, 4, 3, 4))
    detail -= detail.mean(axis=(3, 5), keepdims=True)
    values = fine[[0, 0, 1, 1]] + detail.reshape(4, TIMES, *SHAPE)
    ensemble = xr.Dataset({"tas": (("realization", *DIMS), values, ATTRS["tas"])}, coordinates())
    ensemble = ensemble.assign_coords(realization=np.arange(4))
    if members != "none":
        inputs = [10, 10, 20, 20] if members == "own" else [10, 10, 20, 30]
        ensemble = ensemble.assign_coords(input_realization=("realization", inputs))
    if members != "own":
        says = "names the coarse member 30" if members == "lost" else "has no coordinate input_realization"
        with pytest.raises(InputError, match=says):
            score(ensemble, truth, coarse)
        return
    one = score(ensemble.isel(realization=slice(2)).assign_coords(input_realization=10), truth, coarse)
    assert float(one.conservation_residual.sel(system="ensemble")) < 1e-12
    ensemble = open_store(stored(tmp_path, ensemble=ensemble)["ensemble"])
    found = score(ensemble, truth, coarse, baselines=("nearest",))
    assert float(found.conservation_residual.sel(system="ensemble")) < 1e-12
    assert "The ensemble's 4 members are made of 2 coarse members." in found.attrs["notes"]
    assert "Totals differ" not in found.attrs["notes"]
    # The mean of both coarse members is the truth's block mean.
    assert float(found.bias.sel(system="nearest")) == pytest.approx(0, abs=1e-9)


def test_totals_that_are_not_kept_are_said_and_no_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ensemble, truth, coarse = made(("tas",))
    assert "Totals differ" not in score(ensemble, truth, coarse).attrs["notes"]
    moved = ensemble.copy(deep=True)
    moved["tas"] = moved.tas + 0.5 + xr.DataArray([-1.0, 0.0, 1.0], dims="realization")
    moved.tas.attrs = ensemble.tas.attrs
    paths = stored(tmp_path, moved=moved, truth=truth, coarse=coarse)
    words = ("--coarse", paths["coarse"], "--baselines", "none")
    assert run(capfd, "verify", paths["moved"], paths["truth"], "-o", tmp_path / "out", *words)[0] == 0
    found = json.loads((tmp_path / "out" / "scores.json").read_text())["totals"]
    assert found["bias"] == pytest.approx(0.5) and found["mean_difference"] == pytest.approx((0.5 + 0.5 + 1.5) / 3)
    assert found["coarse_mean"] == pytest.approx(float(coarse.tas.mean()))
    says = "block means lie 0.5 °C above the coarse field on average and 0.833 °C from it"
    assert says in found["says"] and says in html.unescape((tmp_path / "out" / "report.html").read_text())


@pytest.mark.parametrize("units", ["mm/day", "mm", "kg m-2 s-1"])
def test_wet_days_and_dry_spells_of_daily_rain(units: str) -> None:
    """By hand, of three cells and six days."""
    wet = np.array([[1, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0]]).T.reshape(6, 1, 3)
    amount = np.where(wet, 1.0, 0.99) / (86400 if units == "kg m-2 s-1" else 1)
    days, hours = ({"time": coordinates(step)["time"], "y": [0.0, 1.0], "x": [0.0, 1.0, 2.0]} for step in (86400, 3600))
    values = np.repeat(amount, 2, axis=1).astype(np.float32)
    attrs = {"units": units}
    truth = xr.DataArray(values, days, ("time", "y", "x"), name="rain", attrs=attrs)
    ensemble = xr.concat([truth, 0 * truth, 2 * truth], "realization").assign_attrs(attrs)
    found = score(ensemble, truth).sel(system="ensemble")
    assert float(found.wet_day_frequency_truth) == pytest.approx(6 / 18)
    assert float(found.wet_day_frequency) == pytest.approx((6 / 18 + 0 + 1) / 3)
    assert float(found.dry_spell_length_truth) == pytest.approx(12 / 4)
    # Each member's dry days and spells together: 12 in 4, 18 in 3, none.
    assert float(found.dry_spell_length) == pytest.approx(30 / 7) and found.dry_spell_length.attrs["units"] == "d"
    hourly = score(ensemble.assign_coords(time=hours["time"]), truth.assign_coords(time=hours["time"]))
    assert "wet_day_frequency" not in hourly and "wet_fraction" in hourly
