"""The report and its files: figures, tables, marks, escaping; colours, coastlines, regridding, spread against error."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from finescale.cli import main
from finescale.data.regrid import overlap, regrid
from finescale.errors import InputError
from finescale.grids.grid import Grid
from finescale.plots import canvas, coast, colours, diagnostics, probability
from finescale.scores.cells import cell_sums
from finescale.scores.spread_error import spread_error_formula, spread_error_terms
from finescale.scores.table import scores
from finescale.verify import Settings, Sums, compare, intervals, score, verify
from finescale.verify.scorecard import short

TIMES = 12


def fields(members: int = 4) -> tuple[xr.DataArray, xr.DataArray]:
    """Ensemble with errors of standard deviation 0.3, and truth, on 16 x 24 cells of 1 km."""
    rng = np.random.default_rng(5)
    truth = rng.gamma(0.4, 4.0, (TIMES, 4, 6)).repeat(4, axis=1).repeat(4, axis=2) * rng.gamma(
        3.0, 0.3, (TIMES, 16, 24)
    )
    coords = {
        "time": np.datetime64("2024-06-01T00:00", "ns") + np.arange(TIMES) * np.timedelta64(600, "s"),
        "y": ("y", 1000.0 * np.arange(16), {"units": "m"}),
        "x": ("x", 1000.0 * np.arange(24), {"units": "m"}),
    }
    kwargs: Any = {"name": "rain_rate", "attrs": {"units": "mm/h"}}
    true = xr.DataArray(truth, coords, ("time", "y", "x"), **kwargs)
    noise = np.maximum(truth + rng.normal(0, 0.3, (members, *truth.shape)), 0.0)
    return xr.DataArray(noise, coords, ("realization", "time", "y", "x"), **kwargs), true


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole report, of files whose attributes are hostile."""
    folder = tmp_path_factory.mktemp("report")
    ensemble, truth = fields()
    name, evil = "<script>alert(1)", {"long_name": "$\\frac<b>rain</b>", "units": "mm/h"}
    attrs = {
        "finescale_factor": "1x4",
        "finescale_conservation_residual": 2.5e-7,
        "finescale_conservation_residual_before": 0.75,
    }
    for store, da in (("_ens<i>$x", ensemble), ("truth", truth)):
        ds = da.to_dataset(name=name).assign_attrs(attrs)
        ds[name].attrs = evil
        ds.to_zarr(folder / f"{store}.zarr", consolidated=False)
    paths = folder / "_ens<i>$x.zarr", folder / "truth.zarr"
    verify(*paths, folder / "out", against={"_b<i>$x": paths[0]}, baselines=("nearest", "climatology"), block=2)
    return folder / "out"


def test_page_stands_alone_and_escapes_what_files_say(report: Path) -> None:
    page = (report / "report.html").read_text(encoding="utf-8")
    for kind, data in re.findall(r"data:image/([a-z+]+);base64,([A-Za-z0-9+/=]+)", page):
        size, picture = len(base64.b64decode(data)), io.BytesIO(base64.b64decode(data))
        # Every picture keeps to its limit: 2 MB an animation, 150 kB a figure or one byte a dot.
        assert size <= 2_000_000 if kind == "gif" else size <= 150_000 or Image.open(picture).mode == "P"
    bare = re.sub(r"data:[a-z+/]+;base64,[A-Za-z0-9+/=]+", "DATA", page)
    assert "http" not in bare and "<script" not in bare and "&lt;script&gt;alert(1)" in bare
    assert "<i>$x" not in bare and "_b&lt;i&gt;$x" in bare
    assert set(re.findall(r'(?:src|srcset|href)="([^"]*)"', bare)) == {"DATA", "data:,"}
    alts = re.findall(r'<img [^>]*alt="([^"]*)"', bare)
    assert len(alts) == bare.count("<img") >= 15 and all(alts)
    assert "url(" not in bare and "@import" not in bare
    ids = {e.title for e in scores().values() if f"<dt>{e.title}</dt>" in bare}
    assert {"CRPS", "Spread–skill", "Coverage", "Border ratio"} - ids == {"Border ratio"}
    assert "conservation residual of 2.5e-07; before the constraint it was 7.5e-01" in bare


def test_all_figures_are_files_too(report: Path) -> None:
    made = {p.name for p in (report / "figures").iterdir()}
    names = {
        "maps",
        "places",
        "exceedance",
        "conservation",
        "spectra",
        "quantiles",
        "ranks",
        "pit",
        "spread_error",
        "coverage",
        "crps_by_time",
    }
    names |= {f"{kind}{end}" for kind in ("fss", "reliability", "roc") for end in ("", "_high")}
    assert made == {"animation.gif"} | {f"{n}.{end}" for n in names for end in ("png", "svg")}
    for name in names:
        root = ElementTree.parse(report / "figures" / f"{name}.svg").getroot()
        assert not [e for e in root.iter() if e.tag.endswith("script")]
        assert Image.open(report / "figures" / f"{name}.png").size[0] > 400
    gif = Image.open(report / "figures" / "animation.gif")
    assert gif.n_frames == TIMES


def test_tables_agree_with_each_other_and_with_the_scores(report: Path) -> None:
    stored = json.loads((report / "scores.json").read_text(encoding="utf-8"))
    assert list(stored["systems"]) == ["ensemble", "_b<i>$x", "nearest", "climatology"]
    assert stored["bootstrap"] == {"block": 2, "draws": 1000, "level": 0.95}
    ensemble, truth = fields()
    sums = Sums(Settings())
    sums.add(ensemble.values.astype(np.float64), truth.values)
    low, high = intervals(sums, 2)["mae"]
    assert stored["intervals"]["ensemble"]["mae"] == pytest.approx([float(low), float(high)])
    lines = list(csv.DictReader((report / "scores.csv").open(encoding="utf-8")))
    rows = {(r["system"], r["score"], r["threshold"], r["scale_cells"], r["coverage_level"]): r for r in lines}
    assert float(rows["ensemble", "mae", "", "", ""]["low"]) == pytest.approx(float(low))
    fss = rows["nearest", "fss", "1.0", "5", ""]
    assert float(fss["value"]) == stored["systems"]["nearest"]["fss"][1][1] and fss["units"] == "1"
    assert rows["nearest", "crps", "", "", ""]["significant"] == "yes"
    assert rows["_b<i>$x", "crps", "", "", ""]["significant"] == "no"
    assert ("ensemble", "coverage", "", "", "0.5") in rows and not [r for r in lines if r["score"] == "spectrum"]
    compared = stored["comparisons"]["nearest"]["crps"]
    difference = stored["systems"]["ensemble"]["crps"] - stored["systems"]["nearest"]["crps"]
    assert compared["difference"] == pytest.approx(difference) and compared["high"] < 0


def test_marks_say_which_system_is_surely_worse(report: Path) -> None:
    stored = json.loads((report / "scores.json").read_text(encoding="utf-8"))
    row = short(stored)[0]
    ours, twin, nearest, climate = row["cells"]
    assert row["name"] == "CRPS" and ours["best"] and twin["best"] and not nearest["best"]
    assert [c["mark"] for c in (ours, twin, nearest, climate)] == ["", "", "worse", "worse"]
    assert ours["range"] and not nearest["range"]
    flipped = stored | {"comparisons": {"nearest": {"crps": {"difference": 1.0, "significant": True}}}}
    assert short(flipped)[0]["cells"][2]["mark"] == "better"
    # The truth at other times has the truth's spectrum: that is no merit.
    spectral = next(r for r in short(stored) if r["name"] == "Spectral distance")
    assert stored["systems"]["climatology"]["log_spectral_distance"] < 1e-6 and not spectral["cells"][3]["best"]


def test_what_the_table_shows_as_equal_has_no_mark(report: Path) -> None:
    stored = json.loads((report / "scores.json").read_text(encoding="utf-8"))
    surely = {"nearest": {"crps": {"difference": -1e-7, "significant": True}}}
    ours = stored["systems"]["ensemble"]["crps"]
    for other, mark in ((ours + 1e-7, ""), (ours * 1.1, "worse")):
        systems = stored["systems"] | {"nearest": stored["systems"]["nearest"] | {"crps": other}}
        cells = short(stored | {"systems": systems, "comparisons": surely})[0]["cells"]
        assert cells[2]["mark"] == mark


def test_the_first_view_is_short_and_the_rest_is_folded(report: Path) -> None:
    page = re.sub(r"data:[a-z+/]+;base64,[A-Za-z0-9+/=]+", "", (report / "report.html").read_text(encoding="utf-8"))
    stored = json.loads((report / "scores.json").read_text(encoding="utf-8"))
    shown, *folded = page.split("<details>")
    assert shown.count("<figure") <= 5 and shown.index("verdict") < shown.index("<table>")
    for words in ("Quantiles", "PIT", "ROC", "All scores", "Notes"):
        assert words not in shown and any(words in part for part in folded)
    assert "Coverage of wet cells" in shown and "around the cells where the truth was" in shown
    assert [line["head"] for line in stored["verdict"].values()] == [
        html.unescape(head).removesuffix(".") for head in re.findall(r"<li><b>(.*?)</b>", shown)
    ]
    assert shown.count("<li>") == 4


def test_overwriting_removes_figures_of_before_and_nothing_else(tmp_path: Path) -> None:
    ensemble, truth = fields(members=1)
    for name, da in (("ensemble", ensemble), ("truth", truth)):
        da.isel(time=slice(0, 1)).to_dataset().to_zarr(tmp_path / f"{name}.zarr", consolidated=False)
    folder = tmp_path / "out" / "figures"
    folder.mkdir(parents=True)
    for name in ("ranks.png", "mine.png"):
        (folder / name).write_bytes(b"")
    paths = tmp_path / "ensemble.zarr", tmp_path / "truth.zarr"
    with pytest.raises(InputError, match="block has 3 times"):
        verify(*paths, tmp_path / "out", block=3)
    result = verify(*paths, tmp_path / "out")
    made = {p.stem for p in folder.iterdir()}
    assert made == {"mine", "maps", "places", "spectra", "quantiles", "fss", "fss_high"}
    assert result["intervals"] == result["comparisons"] == result["bootstrap"] == {}


def test_scores_alone_are_those_of_the_report_and_nothing_is_left_of_it(report: Path, tmp_path: Path) -> None:
    shutil.copytree(report, tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("mine")
    files = [str(report.parent / name) for name in ("_ens<i>$x.zarr", "truth.zarr")]
    words = ["verify", *files, "--baselines", "nearest"]
    assert main([*words, "-o", str(tmp_path / "out"), "--no-report"]) == 2
    assert main([*words, "-o", str(tmp_path / "out"), "--no-report", "--overwrite"]) == 0
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left == {"mine.txt", "scores.json", "scores.csv"}
    alone, whole = (json.loads((folder / "scores.json").read_text()) for folder in (tmp_path / "out", report))
    assert alone["systems"]["ensemble"] == whole["systems"]["ensemble"] and alone["verdict"].keys()


def test_spread_against_error_by_hand() -> None:
    # Members ±1 about 0 and ±4 about 0: s² = 2 and 32, in bins [2, 4) and [32, 64); errors 1 and 2; weights 3 and 1.
    x = np.array([[[[1.0, 4.0]]], [[[-1.0, -4.0]]]])
    y, w = np.array([[[1.0, -2.0]]]), np.array([[3.0, 1.0]])
    found = spread_error_formula(cell_sums(spread_error_terms, x, y, w), 2)
    kept = np.flatnonzero(found["bin_weight"] > 0)
    assert np.diff(kept).tolist() == [4]
    np.testing.assert_allclose(found["spread_by_bin"][kept], np.sqrt(1.5 * np.array([2.0, 32.0])))
    np.testing.assert_allclose(found["error_by_bin"][kept], [1.0, 2.0])
    np.testing.assert_allclose(found["bin_weight"][kept], [0.75, 0.25])
    dry = spread_error_formula(cell_sums(spread_error_terms, np.zeros((2, 1, 1, 2)), y), 2)
    assert dry["bin_weight"][0] == 1.0 and dry["spread_by_bin"][0] == 0.0


def test_error_colours_are_uniform_and_white_in_the_middle() -> None:
    from skimage.color import rgb2lab

    rgb = colours.diverging(101)(np.arange(101))[:, :3]
    lab = rgb2lab(rgb[None])[0]
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    for half in (steps[:50], steps[50:]):
        assert np.ptp(half) < 0.15 * half.mean()
    assert lab[50, 0] > 96 and abs(lab[0, 0] - lab[-1, 0]) < 1.5 and lab[0, 2] < -30 and lab[-1, 2] > 30


def test_coastlines_come_with_the_package() -> None:
    near = coast.lines((-2.0, 2.0, 49.0, 53.0))
    assert near and all(line[:, 1].max() >= 49 and line[:, 1].min() <= 53 for line in near)
    dover = np.array([1.31, 51.12])
    assert min(np.hypot(*(line - dover).T).min() for line in near) < 0.1
    # The same coast in longitudes from 0 to 360, and less of it on a map of the whole world.
    turned = coast.lines((358.0, 362.0, 49.0, 53.0))
    assert min(np.hypot(*(line - dover - [360, 0]).T).min() for line in turned) < 0.1
    whole = coast.lines((-180.0, 180.0, -90.0, 90.0))
    assert sum(map(len, whole)) < 0.5 * sum(map(len, coast.coastlines()))
    assert all(np.abs(np.diff(line[:, 0])).max() < 20 for line in whole)  # none across the map
    assert coast.FILE.stat().st_size < 300_000


def test_regridding_is_conservative_and_knows_missing_cells() -> None:
    np.testing.assert_allclose(overlap(np.array([0.0, 1, 2, 3]), np.array([3.0, 1.5, 0.0])), [[0, 0.5, 1], [1, 0.5, 0]])
    y, x = 40 + 0.5 * np.arange(20), 0.5 * np.arange(30)
    old = xr.DataArray(
        np.random.default_rng(0).random((2, 20, 30)),
        {"lat": ("lat", y, {"units": "degrees_north"}), "lon": ("lon", x, {"units": "degrees_east"})},
        ("time", "lat", "lon"),
    )
    new = xr.DataArray(
        np.zeros((1, 8, 10)),
        {
            "lat": ("lat", 39.75 + 0.625 + 1.25 * np.arange(8), {"units": "degrees_north"}),
            "lon": ("lon", -0.25 + 0.75 + 1.5 * np.arange(10), {"units": "degrees_east"}),
        },
        ("time", "lat", "lon"),
    )
    result = regrid(old, new)
    edges = 39.75 + 0.5 * np.arange(21), 39.75 + 1.25 * np.arange(9)
    columns = np.linspace(-0.25, 14.75, 31), np.linspace(-0.25, 14.75, 11)
    pairs = zip(edges, columns, strict=True)
    sphere = [Grid(np.arange(2.0), north, east, "latlon").cell_area for north, east in pairs]
    for before, after in zip(old.values, result.values, strict=True):
        assert (after * sphere[1]).sum() / sphere[1].sum() == pytest.approx(
            (before * sphere[0]).sum() / sphere[0].sum()
        )
    holed = old.copy()
    holed[0, :3, :3] = np.nan
    assert np.isnan(regrid(holed, new)[0, 0, 0]) and np.isfinite(regrid(holed, new)[0, 0, 1:]).all()
    with pytest.raises(InputError, match="no common area"):
        regrid(old, new.assign_coords(lat=new.lat - 60))


def test_a_truth_on_other_cells_is_regridded_where_allowed() -> None:
    from finescale.verify.align import align

    ensemble, truth = fields()
    low = truth.coarsen(y=2, x=2).mean()
    with pytest.raises(InputError, match="give --regrid"):
        score(ensemble, low)
    case = align(ensemble, low, regrid=True)
    expected = low.values.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(case.truth.values, expected)
    assert any("regridded" in note for note in case.notes)


def test_curves_return_axes_and_draw_where_they_are_told() -> None:
    from matplotlib.figure import Figure

    row = Figure().subplots(1, 2)
    ax = probability.roc({"A": [0, 0.5, 1], "_b$": [0, 0.7, 1]}, {"A": [0, 0.2, 1], "_b$": [0, 0.1, 1]}, ax=row[1])
    assert ax is row[1] and not row[0].lines
    assert {t.get_text() for t in ax.get_legend().get_texts()} == {"chance", "A", r"b\$"}
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), [0, 0.2, 1])
    # A system without values keeps its colour for the next one.
    skill = diagnostics.fss([1, 5], {"A": [], "B": [0.2, 0.4]}, length="km", base_rate=0.2)
    assert skill.lines[0].get_color() == canvas.COLOURS[1] and "km" in skill.get_xlabel()
    assert skill.lines[1].get_ydata()[0] == pytest.approx(0.6)
    seen = probability.reliability({"A": [0.0, 0.5, np.nan]}, {"A": [0.8, 0.2, 0.0]})
    np.testing.assert_array_equal(seen.lines[1].get_xydata(), [[0, 0], [0.5, 0.5]])
    assert seen.lines[2].get_ydata()[0] == pytest.approx(0.1)


def test_comparison_needs_the_same_times() -> None:
    sums = [Sums(Settings()) for _ in range(2)]
    for one, times in zip(sums, (6, 7), strict=True):
        one.add(np.ones((2, times, 4, 4)), np.ones((times, 4, 4)))
    with pytest.raises(InputError, match="6 and 7"):
        compare(*sums)
