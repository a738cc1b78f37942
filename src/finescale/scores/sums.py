"""Scores of whole data sets, added up over times.

A series scored in parts gives the scores of the whole: `Sums` holds the sums of what `finescale.scores.table` lists,
`Sums.add` takes the next times, `Sums.scores` applies the formulas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from finescale.errors import InputError
from finescale.scores import table
from finescale.scores.cells import Array, Frame, Step, joint
from finescale.scores.conservation import Residuals
from finescale.scores.record import Statistic
from finescale.scores.settings import Settings


@dataclass
class Sums:
    """Statistics of one system summed over the times added so far.

    ``Sums(settings)``, then ``add`` once per part in the order of time, then ``scores``. State: ``totals`` (name ->
    sum), ``series`` (name -> the terms of each time, for bootstraps), ``residuals``, ``members``, ``times``, ``cells``
    and ``previous``: the last frame, which makes a pair with the first of the next part.

    Example:
        >>> import numpy as np
        >>> truth = np.random.default_rng(0).gamma(0.5, 2.0, (6, 16, 16))
        >>> members = np.random.default_rng(1).gamma(0.5, 2.0, (4, 6, 16, 16))
        >>> from finescale.verify import Settings, Sums
        >>> whole, parts = (Sums(Settings(full=False)) for _ in range(2))
        >>> whole.add(members, truth)
        >>> for some in (slice(0, 2), slice(2, 6)):
        ...     parts.add(members[:, some], truth[some])
        >>> bool(abs(whole.scores()["crps"] - parts.scores()["crps"]) < 1e-12)
        True
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
        """Add times: members (M, T, H, W), truth (T, H, W), coarse (t, h, w), of each member (M, t, h, w), or None.

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
    ) -> Iterator[Step]:
        for t in range(truth.shape[0]):
            frame = Frame(*joint(members[:, t], truth[t], self.settings.area), (self.settings.seed, self.times))
            if made is not None:
                frame.share(made[t])
            yield Step(self.previous if follows[t] else None, frame)
            self.previous, self.times = frame, self.times + 1

    def _terms(self, step: Step) -> tuple[dict[str, Array], int]:
        parts: dict[str, Array] = {}
        wanted = self.statistics()
        of_cells = [one for one in wanted if one.over == "cells"]
        for cells in step.new.chunks():
            for one in of_cells:
                value = one.terms(cells, self.settings)
                parts[one.name] = one.merge(parts[one.name], value) if one.name in parts else value
        for one in wanted:
            if one.over != "cells":
                parts[one.name] = one.terms(step if one.over == "step" else step.new, self.settings)
        return parts, int(np.count_nonzero(step.new.w))

    def _merge(self, parts: Mapping[str, Array]) -> None:
        for one in self.statistics():
            name, value = one.name, parts[one.name]
            self.totals[name] = one.merge(self.totals[name], value) if name in self.totals else value
            if one.series:
                self.series.setdefault(name, []).append(value)

    def statistics(self) -> list[Statistic]:
        """The statistics that this system has."""
        return [one for one in table.STATISTICS if one.wanted(self.settings) and (self.members > 1 or not one.several)]

    def apply(self, totals: Mapping[str, Array]) -> dict[str, Array]:
        """All scores that summed terms give; leading axes (bootstrap draws) are kept."""
        found: dict[str, Array] = {}
        for one in self.statistics():
            if one.name in totals:
                found |= one.formula(totals[one.name], self.members, self.settings)
        return found

    def scores(self) -> dict[str, Any]:
        """All scores so far: floats, and lists for those by threshold, scale, wavenumber, rank or time; NaN where
        undefined.

        Raises:
            InputError: if no valid cell has been added.
        """
        if self.cells == 0:
            raise InputError("there is nothing to score: no cell is valid in both the ensemble and the truth")
        result: dict[str, Any] = {name: np.asarray(v).tolist() for name, v in self.apply(self.totals).items()}
        for one in table.STATISTICS:
            for score in one.scores:
                if score.by_time and one.name in self.series:
                    found = one.formula(np.asarray(self.series[one.name]), self.members, self.settings)
                    result[f"{score.key}_by_time"] = found[score.key].tolist()
                if score.alone and one.several and self.members == 1:
                    result[score.key] = [] if score.dims else float("nan")
        if self.residuals.cells is not None:
            result["conservation_residual"] = self.residuals.value()
            result["residual_by_interval"] = list(self.residuals.intervals)
        result |= {f"{name}s": values for name, values in table.axes(self.settings).items()}
        return result | {"members": self.members, "times": self.times, "cells": self.cells}
