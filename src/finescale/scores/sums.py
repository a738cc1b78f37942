"""Scores of whole data sets, added up over times.

Every score is a formula on sums over cells and times (`finescale.scores.table`), so a series scored in parts gives
the scores of the whole: `Sums` holds the sums, `Sums.add` takes the next times, `Sums.scores` applies the formulas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from finescale.errors import InputError
from finescale.scores import distribution, ranks, temporal
from finescale.scores.cells import Array, Frame, joint
from finescale.scores.conservation import Residuals
from finescale.scores.settings import Settings
from finescale.scores.table import STATISTICS, Statistic


@dataclass
class Sums:
    """Statistics of one system summed over the times added so far.

    ``Sums(settings)``, then ``add`` once per part in the order of time, then ``scores``. State: ``totals`` (name ->
    sum), ``series`` (name -> the terms of each time, for bootstraps), ``residuals``, ``members``, ``times``, ``cells``
    and ``previous``: the last frame, which makes a pair with the first of the next part.
    """

    settings: Settings = field(default_factory=Settings)
    totals: dict[str, Array] = field(default_factory=dict)
    series: dict[str, list[Array]] = field(default_factory=dict)
    residuals: Residuals = field(default_factory=Residuals)
    members: int = 0
    times: int = 0
    cells: int = 0
    previous: Frame | None = None

    def add(
        self,
        members: ArrayLike,
        truth: ArrayLike,
        coarse: ArrayLike | None = None,
        follows: ArrayLike = True,
        pool: ThreadPoolExecutor | None = None,
        made: Sequence[dict[Any, Any]] | None = None,
    ) -> None:
        """Add times: members (M, T, H, W), truth (T, H, W), coarse (t, h, w) or None.

        ``follows`` (T,), or one value for all, says which times follow the one before them. Where one does not (a gap,
        another crop) no change is taken; what lies between must be whole coarse intervals. With a ``pool`` its threads
        take times each. ``made``, a dictionary for each time, keeps what was made of the truth for the systems that
        are scored on the same times after this one (`Frame.of_truth`).

        Raises:
            InputError: for shapes that do not fit, or another number of members than before.
        """
        members, truth = np.asarray(members), np.asarray(truth)
        if members.ndim != 4 or members.shape[1:] != truth.shape:
            raise InputError(
                f"members must be (M, T, H, W) and truth (T, H, W), but they are {members.shape} and {truth.shape}"
            )
        if self.members not in (0, members.shape[0]):
            raise InputError(f"a part has {members.shape[0]} members, but the parts before had {self.members}")
        self.members = members.shape[0]
        after = np.broadcast_to(np.asarray(follows, dtype=bool), truth.shape[:1])
        steps = self._steps(members, truth, after, made)
        # In order of time, whichever thread was first, so that the sums do not depend on the threads.
        for parts, valid in map(self._terms, steps) if pool is None else pool.map(self._terms, steps):
            self._merge(parts)
            self.cells += valid
        if coarse is not None and self.settings.factor is not None:
            self.residuals.add(members, coarse, self.settings.factor, self.settings.area, pool)

    def _steps(
        self, members: Array, truth: Array, follows: Array, made: Sequence[dict[Any, Any]] | None
    ) -> Iterator[tuple[Frame, Frame | None]]:
        """Each frame with the one it follows, or None."""
        for t in range(truth.shape[0]):
            frame = Frame(*joint(members[:, t], truth[t], self.settings.area), (self.settings.seed, self.times))
            if made is not None:
                frame.share(made[t])
            yield frame, self.previous if follows[t] else None
            self.previous, self.times = frame, self.times + 1

    def _terms(self, step: tuple[Frame, Frame | None]) -> tuple[dict[str, Array], int]:
        frame, old = step
        parts: dict[str, Array] = {}
        wanted = self.statistics()
        of_cells = [one for one in wanted if one.cells]
        for cells in frame.blocks():
            for one in of_cells:
                value = one.terms(cells, self.settings)
                parts[one.name] = parts[one.name] + value if one.name in parts else value
        parts |= {one.name: one.terms(frame, self.settings) for one in wanted if not one.cells}
        factor = self.settings.factor
        crosses = factor is not None and frame.key[1] % factor.time == 0
        # A time that follows no other has zeros: its place in the series is kept.
        zeros = np.zeros((2, len(frame.x) + 1, 7))
        parts["pairs"] = zeros if old is None else temporal.step_terms(old, frame, crosses)
        return parts, int(np.count_nonzero(frame.w))

    def _merge(self, parts: Mapping[str, Array]) -> None:
        kept = {one.name: one for one in STATISTICS}
        for name, value in parts.items():
            one = kept.get(name)
            if name not in self.totals:
                self.totals[name] = value
            elif one is not None and one.largest:
                self.totals[name] = np.maximum(self.totals[name], value)
            else:
                self.totals[name] = self.totals[name] + value
            if one is None or (one.by_time and not one.largest):
                self.series.setdefault(name, []).append(value)

    def statistics(self) -> list[Statistic]:
        """The statistics that this system has."""
        return [s for s in STATISTICS if s.wanted(self.settings) and (self.members > 1 or not s.several)]

    def apply(self, totals: Mapping[str, Array]) -> dict[str, Array]:
        """All scores that summed terms give; leading axes (bootstrap draws) are kept."""
        found: dict[str, Array] = {}
        for one in self.statistics():
            if one.name in totals:
                found |= one.formula(totals[one.name], self.members)
        if self.totals["pairs"][..., 0].any():
            found |= temporal.step_formula(totals["pairs"], self.settings.factor)
        return found

    def scores(self) -> dict[str, Any]:
        """All scores so far: floats, and lists for those by threshold, scale, wavenumber, rank or time; NaN where
        undefined.

        Raises:
            InputError: if no valid cell has been added.
        """
        if self.cells == 0:
            raise InputError("there is nothing to score: no cell is valid in both the ensemble and the truth")
        by_time = np.asarray(self.series["crps"])
        result: dict[str, Any] = {name: np.asarray(v).tolist() for name, v in self.apply(self.totals).items()}
        result["crps_by_time"] = next(s for s in STATISTICS if s.name == "crps").formula(by_time, 1)["crps"].tolist()
        if self.members == 1:
            result |= {"rank_histogram": [], "rank_departure": float("nan")}
        if self.residuals.cells is not None:
            result["conservation_residual"] = self.residuals.value()
            result["residual_by_interval"] = list(self.residuals.intervals)
        return result | {
            "thresholds": list(self.settings.thresholds),
            "scales": list(self.settings.scales),
            "coverage_levels": list(ranks.LEVELS),
            "quantile_levels": [float(q) for q in distribution.LEVELS],
            "members": self.members,
            "times": self.times,
            "cells": self.cells,
        }
