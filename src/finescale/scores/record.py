"""What a score is: the two records from which everything that is said of scores is read.

A `Statistic` is added up, by cells, frames or steps in time; its formula turns the sum into scores, and a `Score` says
of each of them what it is called, what is best, its units and dimensions, and where it is shown. Sums, intervals,
Datasets, scores.json, scores.csv and the report's tables read these records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from finescale.scores.cells import Array
from finescale.scores.settings import Settings

FIELD = "field"
"""Units of a score that has the field's own."""
Group = Literal[
    "Cell by cell", "Spread and calibration", "Events", "Fields", "Distribution", "Time", "Conservation",
    "Variables together",
]  # fmt: skip
GROUPS: tuple[Group, ...] = get_args(Group)
"""Headings of the report's table, in their order there."""
Found = dict[str, Array]


@dataclass(frozen=True)
class Score:
    """A score, or a curve that belongs to scores.

    Attributes:
        key: its name in results, Datasets and scores.json.
        title: its name for people; empty where it is in files only, such as a spectrum.
        best: "low", "high", a number, "truth" (the truth's own value, ``<key>_truth``) or "expected" (what a reliable
            ensemble of that size has, ``<key>_expected``: it is not compared); None where nothing is.
        group: heading in the report's table.
        meaning: what it says, in a sentence or two.
        units: `FIELD`, "1" or others.
        dims: names of its dimensions; none for a number. "count", "point" and "rank" differ in length between ensembles
            of different sizes.
        truth: whether ``<key>_truth`` stands beside it though it is not the best value.
        by_time: whether ``<key>_by_time``, the score of each time, stands beside it.
        several: whether it says nothing of one member, and is left out of the report.
        alone: whether results of one member have it too, as NaN or an empty list, where its statistic has none.
        table: whether the report's table has it; scores.json has all.
        style: how its number is written in tables.
        relation: what stands before the threshold in the table.
        rounding: differences up to this are rounding; 0 for a share of the value.
    """

    key: str
    title: str = ""
    best: str | float | None = None
    group: Group | None = None
    meaning: str = ""
    units: str = "1"
    dims: tuple[str, ...] = ()
    truth: bool = False
    by_time: bool = False
    several: bool = False
    alone: bool = False
    table: bool = True
    style: Literal["plain", "percent", "thousandths", "tenths", "signed"] = "plain"
    relation: str = "≥ "
    rounding: float = 0.0

    def records(self) -> tuple[Score, ...]:
        """This one and what stands beside it."""
        truth, expected = self.truth or self.best == "truth", self.best == "expected"
        plain = replace(self, title="", best=None, group=None, meaning="")
        found = [self]
        found += [replace(plain, key=f"{self.key}_truth")] if truth else []
        found += [replace(plain, key=f"{self.key}_expected")] if expected else []
        found += [replace(plain, key=f"{self.key}_by_time", dims=("time", *self.dims))] if self.by_time else []
        return tuple(found)

    def units_in(self, field: str) -> str:
        """Its units where those of the field are ``field``."""
        return field if self.units == FIELD else self.units


@dataclass(frozen=True)
class Statistic:
    """Something added up, and the scores that follow from it.

    Attributes:
        name: key of its sum.
        terms: (Cells, Frame or Step, Settings) -> array to be added.
        formula: (sum (…, shape of terms), members, Settings) -> scores (…) by key. Leading axes are draws of a
            bootstrap, or times.
        scores: what the formula gives.
        over: what ``terms`` takes: chunks of cells, whole frames or steps from a frame to the next.
        wanted: whether a study with these settings has it.
        several: whether there is none for one member.
        series: whether the terms of each time are kept, which a bootstrap needs.
        merge: how terms are put together; a bootstrap needs ``np.add``.
    """

    name: str
    terms: Callable[[Any, Settings], Array]
    formula: Callable[[Array, int, Settings], Found]
    scores: tuple[Score, ...]
    over: Literal["cells", "frame", "step"] = "cells"
    wanted: Callable[[Settings], bool] = lambda settings: True
    several: bool = False
    series: bool = True
    merge: np.ufunc = np.add
