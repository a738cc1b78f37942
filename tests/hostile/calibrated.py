"""Hostile calibrations: fields, words and models that `calibrate` cannot use, and sections that it did not write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml
from tests.hostile import made
from tests.hostile.cases import Case

SECTIONS: dict[str, tuple[Any, str]] = {
    "a number": (5, "calibrated"),
    "a list": ([1], "calibrated"),
    "another key": ({"spred": 1}, "spread"),
    "a text": ({"spread": "wide"}, "calibrated.spread"),
    "a negative blur": ({"blur": -1}, "calibrated.blur"),
    "a spread of no factor": ({"spread": {"8": 1.0}}, "calibrated"),
    "spreads of which one is none": ({"spread": {"1x8": 0}}, "calibrated.spread"),
    "no spread": ({"spread": 0}, "calibrated.spread"),
    "a negative spread": ({"spread": -1}, "calibrated.spread"),
    "an infinite spread": ({"spread": float("inf")}, "calibrated.spread"),
    "a spread that is no number": ({"spread": float("nan")}, "calibrated.spread"),
    "no least amount": ({"least": 0}, "calibrated.least"),
    "a least amount in words": ({"least": "0.2 mm/h"}, "calibrated.least"),
    "a negative lifetime": ({"lifetime": -5}, "calibrated.lifetime"),
    "a lifetime in words": ({"lifetime": "15min"}, "calibrated.lifetime"),
    "a smoothness beyond all fields": ({"smoothness": 9}, "calibrated.smoothness"),
}
"""Of a model's configuration, and what is said of them."""


def cases(folder: Path) -> list[Case]:
    data = {"data": {"path": "x.nc", "crop": 8, "min_wet": 0, "min_valid": 0.5}}
    model = made.model(folder / "model", **data)
    one = made.model(folder / "one", denoiser="none", **data)
    fine = made.stored(made.rain(3, 16, 24), folder / "fine.nc")
    dry, other = made.rain(3, 16, 24), made.rain(3, 16, 24).rename(rain="wind")
    made.stored(dry.assign(rain=dry.rain.where(False)), folder / "void.nc")
    made.stored(dry.assign(rain=(0 * dry.rain).assign_attrs(dry.rain.attrs)), folder / "dry.nc")
    made.stored(other.assign(gust=other.wind), folder / "other.nc")
    made.stored(made.rain(3, 4, 4), folder / "small.nc")
    made.stored(made.rain(3, 16, 24, units="K"), folder / "kelvin.nc")
    made.stored(dry.assign(rain=xr.full_like(dry.rain, np.inf)), folder / "inf.nc")
    refused: dict[str, tuple[list[str], str]] = {
        "no such file": (["model", "none.nc"], "none.nc"),
        "no such model": (["none", "fine.nc"], "none"),
        "a file for a model": (["fine.nc", "fine.nc"], "fine.nc"),
        "a model without an ensemble": (["one", "fine.nc"], "one field"),
        "nothing known": (["model", "void.nc"], "crop"),
        "no rain at all": (["model", "dry.nc"], "do not differ"),
        "other variables": (["model", "other.nc"], "rain"),
        "smaller than a crop": (["model", "small.nc"], "smaller than the training crop"),
        "other units": (["model", "kelvin.nc"], "K"),
        "infinite": (["model", "inf.nc"], "inf"),
        "another factor": (["model", "fine.nc", "--factor", "1x3"], "1x4"),
        "no factor": (["model", "fine.nc", "--factor", "x"], "x"),
        "no crops": (["model", "fine.nc", "--crops", "0"], "crops"),
        "crops that are no number": (["model", "fine.nc", "--crops", "few"], "crops"),
        "negative crops": (["model", "fine.nc", "--crops", "-4"], "crops"),
        "a selection of nothing": (["model", "fine.nc", "--select", "{lon: [99, 100]}"], "no cell has lon"),
        "a selection that is none": (["model", "fine.nc", "--select", "5"], "must be ranges of coordinates"),
        "a folder that is there": (["model", "fine.nc", "-o", "one"], "exists"),
        "a file for the output": (["model", "fine.nc", "-o", "fine.nc"], "exists"),
        "a folder in a file": (["model", "fine.nc", "-o", "fine.nc/x"], "fine.nc"),
        "nothing": ([], "MODEL"),
        "no fields": (["model"], "FINE"),
    }
    found = [
        Case(f"calibrate: {name}", ["calibrate", *words], says=(says,), keeps=(model, one, fine))
        for name, (words, says) in refused.items()
    ]
    found += [
        Case(
            f"--smoothness {value}", ["downscale", "model", "fine.nc", "-o", "e.nc", f"--smoothness={value}"], says=says
        )
        for value, says in {
            "1": ("trained without a smoothness",),
            "-1": ("smoothness",),
            "9": ("smoothness",),
            "nan": ("smoothness",),
            "smooth": ("smoothness",),
        }.items()
    ]
    for number, (name, (section, says)) in enumerate(SECTIONS.items()):
        wrong = made.model(folder / f"model{number}", **data)
        settings = yaml.safe_load((wrong / "config.yaml").read_text())
        (wrong / "config.yaml").write_text(yaml.safe_dump(settings | {"calibrated": section}))
        words = ["downscale", wrong.name, "fine.nc", "-o", "e.nc", "--members", "1"]
        found.append(Case(f"calibrated: {name}", words, says=(f"model{number}/config.yaml", says), keeps=(wrong,)))
    return found
