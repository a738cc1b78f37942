"""The table of scores: records say what results hold, and one more of them is a score everywhere."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from finescale.grids.factor import Factor
from finescale.scores import table
from finescale.scores.cells import Array, Cells, dot, ratio
from finescale.scores.record import FIELD, GROUPS, Score, Statistic
from finescale.verify import Settings, Sums, compare, intervals, score, verify
from finescale.verify.scorecard import FIRST, SHORTEST

COUNTS = ("members", "times", "cells")


def rain(members: int, times: int = 6) -> tuple[Array, Array]:
    """Members (M, T, 12, 16) about a truth (T, 12, 16)."""
    rng = np.random.default_rng(3)
    truth = rng.gamma(0.5, 4.0, (times, 12, 16))
    return np.maximum(truth + rng.normal(0, 1.0, (members, *truth.shape)), 0.0), truth


@pytest.mark.parametrize("members", [1, 4])
@pytest.mark.parametrize(
    "settings",
    [
        Settings(factor=Factor(2, 4)),
        Settings((281.0,), dry=None, factor=Factor(1, 4), full=False),
        Settings((), dry=None, data_range=(0.0, 40.0)),
    ],
    ids=["rain", "temperature", "nothing of events"],
)
def test_records_say_which_results_there_are_and_their_dimensions(members: int, settings: Settings) -> None:
    x, y = rain(members)
    sums = Sums(settings)
    sums.add(x, y, None if settings.factor is None else y[:: settings.factor.time, ::4, ::4])
    found, records = sums.scores(), table.scores()
    axes = {f"{name}s": values for name, values in table.axes(settings).items()}
    assert found.keys() - records.keys() == {*axes, *COUNTS} and {key: found[key] for key in axes} == axes
    for key in found.keys() & records.keys():
        if np.size(found[key]):  # a list without a threshold, or of one member, is empty
            assert np.ndim(found[key]) == len(records[key].dims), key
    for one in sums.statistics():
        given = one.formula(sums.totals[one.name], members, settings).keys()
        told = {record.key for s in one.scores for record in s.records() if record.dims[:1] != ("time",)}
        assert given <= told if one.over == "step" else given == told, one.name


def test_scores_with_a_title_say_all_that_tables_need() -> None:
    records = table.scores()
    titled = {key: one for key, one in records.items() if one.title}
    assert len({one.title for one in titled.values()}) == len(titled)
    assert all(one.group in GROUPS and one.meaning and one.best is not None for one in titled.values())
    assert titled.keys() - table.best().keys() == {"coverage", "coverage_wet"} and table.best().keys() <= titled.keys()
    assert {*FIRST, *SHORTEST} <= {key for key, one in titled.items() if one.table}
    keys = [record.key for one in table.STATISTICS for s in one.scores for record in s.records()]
    assert len(keys) == len(set(keys)) and len({one.name for one in table.STATISTICS}) == len(table.STATISTICS)


def cubic_terms(cells: Cells, settings: Settings) -> Array:
    return np.array([dot(cells.w, np.abs(cells.error) ** 3), cells.w.sum()])


CUBIC = Statistic(
    "cubic",
    cubic_terms,
    lambda terms, members, settings: {"cubic_error": ratio(terms[..., 0], terms[..., 1]) ** (1 / 3)},
    (
        Score(
            "cubic_error",
            "Root mean cube error",
            "low",
            "Cell by cell",
            "∛⟨|x̄ − y|³⟩: large errors count for even more.",
            units=FIELD,
            by_time=True,
        ),
    ),
)


def test_a_new_score_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "STATISTICS", (*table.STATISTICS, CUBIC))
    x, y = rain(3)
    time = np.datetime64("2024-06-01", "ns") + np.arange(len(y)) * np.timedelta64(600, "s")
    coords = {
        "time": time,
        "y": ("y", 1000.0 * np.arange(12), {"units": "m"}),
        "x": ("x", 1000.0 * np.arange(16), {"units": "m"}),
    }
    attrs = {"units": "mm/h"}
    truth = xr.DataArray(y, coords, ("time", "y", "x"), name="rain_rate", attrs=attrs)
    ensemble = xr.DataArray(x, coords, ("realization", *truth.dims), name="rain_rate", attrs=attrs)
    paths = tmp_path / "ensemble.zarr", tmp_path / "truth.zarr"
    for path, da in zip(paths, (ensemble, truth), strict=True):
        da.to_dataset().assign_attrs(finescale_factor="1x4").to_zarr(path, consolidated=False)
    verify(*paths, tmp_path / "out", baselines=("nearest",))

    cubes = np.abs(x.mean(axis=0) - y) ** 3
    expected = float(np.cbrt(cubes.mean()))
    stored = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    assert stored["systems"]["ensemble"]["cubic_error"] == pytest.approx(expected)
    assert stored["systems"]["ensemble"]["cubic_error_by_time"] == pytest.approx(np.cbrt(cubes.mean(axis=(1, 2))))
    assert stored["definitions"]["cubic_error"] == {
        "name": "Root mean cube error",
        "best": "low",
        "units": "mm/h",
        "meaning": "∛⟨|x̄ − y|³⟩: large errors count for even more.",
    }
    low, high = stored["intervals"]["ensemble"]["cubic_error"]
    assert low < expected < high and stored["comparisons"]["nearest"]["cubic_error"]["difference"] < 0

    rows = csv.DictReader((tmp_path / "out" / "scores.csv").open(encoding="utf-8"))
    (row,) = (r for r in rows if (r["system"], r["score"]) == ("ensemble", "cubic_error"))
    assert float(row["value"]) == pytest.approx(expected) and row["units"] == "mm/h" and float(row["low"]) == low

    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    line = page[page.index('<tr><th scope="row">Root mean cube error') :].split("</tr>")[0]
    assert f'<td class="best">{expected:.3f}' in line and "lower is better" in line and "mm/h" in line
    assert "<dt>Root mean cube error</dt><dd>∛⟨|x̄ − y|³⟩: large errors count for even more.</dd>" in page

    ds = score(ensemble, truth, factor="1x4", baselines=("nearest",))
    assert float(ds.cubic_error.sel(system="ensemble")) == pytest.approx(expected)
    assert ds.cubic_error.attrs["units"] == "mm/h" and ds.cubic_error_interval.dims == ("system", "bound")
    assert ds.cubic_error_by_time.dims == ("system", "time")


def test_compare_takes_what_is_best_from_the_table() -> None:
    x, y = rain(3)
    systems = [Sums() for _ in range(2)]
    for one, members in zip(systems, (x, x + 0.5), strict=True):
        one.add(members, y)
    found = compare(*systems)
    assert found.keys() == table.best().keys() & (set(intervals(systems[0])))
