"""The gallery runs, cell by cell as the site runs it, and shows figures that say what they show.

Members, steps and fields are made fewer by changes to the text of a script (`SMALLER`); a change that finds nothing to
change is an error, so that none is forgotten when a script is edited.
"""

from __future__ import annotations

import io
import re
import runpy
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib as mpl
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"
SCRIPTS = sorted((DOCS / "gallery").glob("*.py"))
RADAR = 'radar()["precipitation_rate"]'
SMALLER = {
    "plot_01_first_ensemble": {"members=8": "members=2", RADAR: f"{RADAR}[:3, :120, :120]", "time = 6": "time = 1"},
    "plot_02_hyetograph": {"members=32": "members=4"},
    "plot_03_return_levels": {"EVENTS = 40": "EVENTS = 3", "MEMBERS = 8": "MEMBERS = 2"},
    "plot_04_sequence": {"members=4": "members=2", RADAR: f"{RADAR}[3:9, :120, 120:]", "(6, 7, 8)": "(3, 4, 5)"},
    "plot_05_conserve_any_network": {"STEPS = 200": "STEPS = 20"},
    "plot_07_variance": {"STEPS = 400": "STEPS = 5", "120, seed=1": "12, seed=1", "24, seed=2": "4, seed=2"},
    "plot_09_dask_cluster": {RADAR: f"{RADAR}[:4, :120]", "time = 6": "time = 1"},
    "plot_10_grib": {RADAR: f"{RADAR}[:, :120, :120]"},
}
SITE = runpy.run_path(str(DOCS / "site" / "displayed.py"))


def smaller(script: Path) -> str:
    text = script.read_text(encoding="utf-8")
    for old, new in SMALLER.get(script.stem, {}).items():
        assert old in text, f"{script.name} has no {old!r} any more"
        text = text.replace(old, new)
    return text


def run(script: Path) -> tuple[dict[str, Any], list[Figure | Path]]:
    """The script's names at its end, and what its cells showed, in order."""
    names, shown = vars(ModuleType("__main__")), []
    with mpl.rc_context():
        for cell in cells(smaller(script)):
            exec(compile(cell, script.name, "exec"), names)
            shown += dict.fromkeys(one for one in SITE["displayed"](names) if one not in shown)
    return names, shown


def cells(text: str) -> Iterator[str]:
    """The parts of a script that begin with ``# %%``, each after as many empty lines as stand before it."""
    begins = [0, *(found.start() for found in re.finditer(r"^# %%", text, re.MULTILINE)), len(text)]
    for begin, end in pairwise(begins):
        yield "\n" * text.count("\n", 0, begin) + text[begin:end]


def without_units(figure: Figure) -> list[str]:
    """Labels of quantities that say no units, behind them or before (`km east of 5° W`): but for counts and names."""
    labels = [label for ax in figure.axes for label in (ax.get_xlabel(), ax.get_ylabel())]
    counts = ("step", "number of modes", "mm/h", "°C", "1", "standard deviations")
    said = [label for label in labels if label.endswith(")") or label.startswith("km ")]
    return [label for label in labels if label and label not in (*said, *counts)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_page_runs_and_its_figures_say_what_they_show(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names, shown = run(script)
    assert shown and not list(tmp_path.iterdir())
    for one in shown:
        if isinstance(one, Path):
            with Image.open(one) as gif:
                assert gif.n_frames > 1
            continue
        one.savefig(io.BytesIO())
        assert SITE["title"](one) and not without_units(one), (SITE["title"](one), without_units(one))
    CHECKS.get(script.stem, lambda names: None)(names)


def check_conservation(names: dict[str, Any]) -> None:
    wrong = {name: float(names["constraint"].violation(x, names["coarse"][240:])) for name, x in names["made"].items()}
    assert wrong["with"] < 1e-6 < 1e-2 < wrong["without"]


def check_latent(names: dict[str, Any]) -> None:
    latent = names["Hadamard"]()
    x = torch.randn(2, 1, 1, 8, 12)
    latent.fit([x])
    torch.testing.assert_close(latent.decode(latent.encode(x)), x, rtol=1e-4, atol=1e-5)
    unit = torch.eye(16 * 2 * 3).reshape(-1, 16, 1, 2, 3)
    variance = torch.rand(1, 16, 1, 2, 3)
    columns = (latent.decode(unit) - latent.decode(torch.zeros_like(unit))).flatten(1)
    torch.testing.assert_close(latent.decode_variance(variance).flatten(), columns.square().T @ variance.flatten())


def check_cluster(names: dict[str, Any]) -> None:
    """Both made the same members, but for what rounding makes of single cells where arithmetic is another."""
    with xr.open_zarr(names["out"], chunks=None) as written:
        wrong = abs(written - names["alone"])["precipitation_rate"]
        assert names["tasks"] and float(wrong.mean()) < 0.01 * float(written["precipitation_rate"].mean())


CHECKS = {
    "plot_05_conserve_any_network": check_conservation,
    "plot_08_add_a_latent": check_latent,
    "plot_09_dask_cluster": check_cluster,
}


def test_pages_are_numbered_and_have_titles() -> None:
    assert [int(script.stem.split("_")[1]) for script in SCRIPTS] == list(range(1, len(SCRIPTS) + 1))
    for script in SCRIPTS:
        heading, line = script.read_text(encoding="utf-8").splitlines()[1:3]
        assert heading and line == "=" * len(heading), script.name
