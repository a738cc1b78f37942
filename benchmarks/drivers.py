"""Real drivers: coarse and fine of different sources, several variables, predictors, elevation.

    python benchmarks/drivers.py DATA --work FOLDER [--parts iberia,france,antilles] [--steps N] [--seeds 0,1,2]

DATA is a folder with the pair_*, arome_antilles_* and elevation_europe_* files. Every model is trained by the command
that its row names, from a configuration in benchmarks/configs; budgets are optimizer steps. Ensembles are made by
`finescale.downscale` of times or places that training has not seen, and judged by `finescale.verify`. Models, ensembles
and scores stay under --work; nothing is made twice. Written as they come: benchmarks/results/drivers.json and .md.

iberia      NCEP's daily rain and temperature, winters 1983-1997, to E-OBS; judged on 1998-2002
france      ARPEGE to AROME, one day hour by hour; judged on the last hours; both modes
antilles    six variables of AROME from their own block means; judged east of 57 W
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from protocol import fit_command, fitted, processor, rounded

import finescale
from finescale.config.build import load

MEMBERS = 8
RESULTS = Path(__file__).parent / "results"
CONFIGS = Path(__file__).parent / "configs"
Section = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """One pair of sources.

    Attributes:
        fine: the file of the truth.
        test: the range of the truth that is judged.
        coarse: files of the other source; none where conditions are block means of the truth.
        systems: settings over the configuration, by name.
        own: systems that are told block means of the truth, not the other source's values.
    """

    fine: str
    test: dict[str, list[Any]]
    coarse: tuple[str, ...]
    systems: dict[str, dict[str, Any]]
    own: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    files: dict[str, Any] = field(default_factory=dict)


ONE = "variables"
PARTS = {
    "iberia": Part(
        "pair_iberia_eobs_djf.nc",
        {"time": ["1997-06-01", None]},
        ("pair_iberia_ncep_djf.nc", "pair_iberia_ncep_predictors_djf.nc"),
        {
            "both variables": {},
            "without predictors": {"data.predictors": None},
            "without elevation": {"data.static": None},
            "rain alone": {"variables": {"pr": {}}},
            "temperature alone": {"variables": {"tas": {"transform": "standardize", "constraint": "additive"}}},
        },
    ),
    "france": Part(
        "pair_france_se_arome_20180501.nc",
        {"time": ["2018-05-01T17:30", None]},
        ("pair_france_se_arpege_20180501.nc",),
        {
            "direct": {"data.mode": "direct"},
            "perfect prognosis": {},
            "perfect prognosis, told block means": {},
            "told block means, without predictors": {"data.coarse": None, "data.predictors": None},
        },
        ("perfect prognosis, told block means", "told block means, without predictors"),
    ),
    "antilles": Part("arome_antilles_20221112.nc", {"lon": [-57, None]}, (), {"six variables": {}}, ("six variables",)),
}


def settings_of(part: str, system: str, args: argparse.Namespace, seed: int) -> tuple[Path, dict[str, Any]]:
    """The configuration of a part, and what its system sets besides; files with their folder."""
    import yaml

    path = CONFIGS / f"{part}.yaml"
    config = yaml.safe_load(path.read_text())
    changes = dict(PARTS[part].systems[system]) | {"train.seed": seed}
    for key in ("path", "coarse", "static"):
        value = changes.get(f"data.{key}", config["data"].get(key))
        if value is not None:
            names = [str(args.data / name) for name in ([value] if isinstance(value, str) else value)]
            changes[f"data.{key}"] = names if isinstance(value, list) else names[0]
    if args.steps:
        changes["train.steps"] = args.steps
    return path, changes
