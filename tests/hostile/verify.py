"""Hostile selections, and hostile words on what a model was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tests.hostile import made
from tests.hostile.cases import Case

from finescale.data.extent import ATTRIBUTE

ONE: dict[str, Any] = {"files": ["a.nc"], "variable": "rain", "time": None, "y": [0.0, 1.0], "x": [0.0, 1.0], "crs": ""}

SELECTIONS = {
    "": "must be ranges of coordinates",
    "time": "must be ranges of coordinates",
    "5": "must be ranges of coordinates",
    "null": "must be ranges of coordinates",
    "[": "--select is not readable YAML",
    "[1, 2]": "must be ranges of coordinates",
    "{lon: 5}": "must be ranges of coordinates",
    "{time: 2020}": "must be ranges of coordinates",
    "{1: [1, 2]}": "the key 1 is not a text",
    "{lon: {a: 1}}": "must be ranges of coordinates",
    "{lon: []}": "must be two values",
    "{lon: [5]}": "must be two values",
    "{lon: [1, 2, 3]}": "must be two values",
    "{when: [1, 2]}": "no coordinate 'when'",
    "{rain: [1, 2]}": "no coordinate 'rain'",
    "{lon: [a, b]}": "are not numbers",
    "{lon: [[1], [2]]}": "are not numbers",
    "{lon: [.nan, null]}": "lon is nan, but must be a number",
    "{lon: [99, 100]}": "no cell has lon",
    "{lon: [6, 5]}": "no cell has lon",
    "{lat: [.inf, null]}": "no cell has lat",
    "{time: [spring, null]}": "are not dates",
    '{time: ["2020-13-45", null]}': "are not dates",
    '{time: ["2021-01-01", null]}': "no cell has time",
    "{time: [{}, null]}": "are not dates",
}

TRAINED: dict[str, Any] = {
    "a number": 5,
    "a text": "rain",
    "a list of numbers": [5],
    "nothing in it": [{}],
    "a number for files": [ONE | {"files": 5}],
    "an edge alone": [ONE | {"y": [1.0]}],
    "texts for edges": [ONE | {"x": ["a", "b"]}],
    "booleans for edges": [ONE | {"x": [True, False]}],
    "a number for times": [ONE | {"time": 5}],
    "times of two kinds": [ONE | {"time": [[1, "2020"]]}],
    "three ends": [ONE | {"time": [[1, 2, 3]]}],
}

ATTRIBUTES: dict[str, Any] = {
    "no JSON": "[{",
    "deep": "[" * 5000,
    "a number": np.float64(5),
    "a list": np.arange(3),
    "another thing": json.dumps({"a": 1}),
}


def several(folder: Path) -> list[Case]:
    """Files of several variables that do not go together."""
    one = made.rain()
    two = one.assign(wind=one.rain + 1.0)
    two.wind.attrs = {"units": "m s-1"}
    fine = made.stored(two, folder / "two.nc")
    made.stored(two.rename(rain="pr", wind="ff"), folder / "others.nc")
    made.stored(two.assign(wind=two.wind.where(False)), folder / "void.nc")
    made.stored(two.assign(rain=two.rain.where(False)), folder / "dry.nc")
    words = ["verify", "two.nc"]
    refused = {
        "no variable in common": ([*words, "others.nc"], "have no variable in common"),
        "thresholds of two variables": ([*words, "two.nc", "--thresholds", "1"], "give --variable too"),
        "a variable that only one file has": ([*words, "others.nc", "--variable", "rain"], "no variable 'rain'"),
        "a variable without a value": ([*words, "void.nc"], "variable wind: there is nothing to score"),
        "the first variable without a value": ([*words, "dry.nc"], "variable rain: there is nothing to score"),
    }
    return [
        Case(
            f"several variables: {name}",
            [*line, "-o", f"several{k}", "--baselines", "none"],
            says=(says,),
            keeps=(fine,),
        )
        for k, (name, (line, says)) in enumerate(refused.items())
    ]


def cases(folder: Path) -> list[Case]:
    fine = made.stored(made.rain(), folder / "fine.nc")
    found = [
        Case(
            f"--select {text or 'of nothing'}",
            ["coarsen", "fine.nc", "-o", "c.nc", "--factor", "1x4", "--select", text],
            says=(words,),
            keeps=(fine,),
        )
        for text, words in SELECTIONS.items()
    ]  # fmt: skip
    found += several(folder)
    for number, (name, trained) in enumerate(TRAINED.items()):
        model = made.model(folder / f"model{number}")
        settings = yaml.safe_load((model / "config.yaml").read_text())
        (model / "config.yaml").write_text(yaml.safe_dump(settings | {"trained": trained}))
        says = (f"model{number}/config.yaml", "trained")
        found += [
            Case(f"trained: {name}", ["info", model.name], says=says, keeps=(model,)),
            Case(f"trained: {name}", ["downscale", model.name, "fine.nc", "-o", "e.nc"], says=says, keeps=(model,)),
        ]
    for number, (name, value) in enumerate(ATTRIBUTES.items()):
        made.stored(made.rain().assign_attrs({ATTRIBUTE: value}), folder / f"ensemble{number}.nc")
        words = ["verify", f"ensemble{number}.nc", "fine.nc", "-o", f"scores{number}", "--baselines", "none"]
        found.append(Case(f"an ensemble that was trained on {name}", words, code=0, says=("report.html",)))
    return found
