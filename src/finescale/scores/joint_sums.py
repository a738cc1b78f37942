"""Scores of several variables together, added up over times, and what they are standardised by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from finescale.errors import InputError
from finescale.scores import across
from finescale.scores.cells import Array, ratio
from finescale.scores.settings import Settings


@dataclass
class JointSums:
    """Statistics of one system's variables together, summed over the times added so far.

    Attributes:
        settings: factor and areas; what else it says is of single variables.
        mean: μ (V,) of the truth.
        std: σ (V,) of the truth.
    """

    settings: Settings
    mean: ArrayLike
    std: ArrayLike
    totals: dict[str, Array] = field(default_factory=dict)
    series: dict[str, list[Array]] = field(default_factory=dict)
    members: int = 0
    times: int = 0
    cells: int = 0

    def add(self, members: ArrayLike, truth: ArrayLike, pool: ThreadPoolExecutor | None = None) -> None:
        """Add times: members (M, V, T, H, W), truth (V, T, H, W), in the units of μ and σ; NaN where missing.

        Raises:
            InputError: for shapes that do not fit, or another number of members than before.
        """
        x, y = np.asarray(members), np.asarray(truth)
        if x.ndim != 5 or x.shape[1:] != y.shape or len(y) != np.size(self.mean):
            raise InputError(
                f"members must be (M, V, T, H, W) and truth (V, T, H, W), but they are {x.shape} and {y.shape}"
            )
        if self.members not in (0, len(x)):
            raise InputError(f"a part has {len(x)} members, but the parts before had {self.members}")
        self.members = len(x)
        steps = (self._frame(x[:, :, t], y[:, t]) for t in range(y.shape[1]))
        # In order of time, whichever thread was first.
        for parts, valid in (map if pool is None else pool.map)(self._terms, steps):
            for name, value in parts.items():
                self.totals[name] = self.totals[name] + value if name in self.totals else value
                self.series.setdefault(name, []).append(value)
            self.times, self.cells = self.times + 1, self.cells + valid

    def _frame(self, x: Array, y: Array) -> across.Joint:
        mean, std = (np.asarray(v, dtype=np.float64)[:, None, None] for v in (self.mean, self.std))
        valid = np.isfinite(y).all(axis=0) & np.isfinite(x).all(axis=(0, 1))
        area = 1.0 if self.settings.area is None else self.settings.area
        members, truth = (np.where(valid, (v - mean) / std, 0.0) for v in (x, y))
        return across.Joint(members, truth, np.broadcast_to(area, valid.shape) * valid, across.block_of(self.settings))

    def _terms(self, frame: across.Joint) -> tuple[dict[str, Array], int]:
        return {one.name: one.terms(frame, self.settings) for one in across.STATISTICS}, int(np.count_nonzero(frame.w))

    def apply(self, totals: Mapping[str, Array]) -> dict[str, Array]:
        """All scores that summed terms give; leading axes (bootstrap draws) are kept."""
        found: dict[str, Array] = {}
        for one in across.STATISTICS:
            found |= one.formula(totals[one.name], self.members, self.settings)
        return found

    def scores(self) -> dict[str, Any]:
        """All scores so far, floats and lists by pair; NaN where undefined.

        Raises:
            InputError: if no cell has been added at which all variables are valid.
        """
        if self.cells == 0:
            raise InputError("there is nothing to score: no cell is valid in all variables of ensemble and truth")
        found: dict[str, Any] = {name: np.asarray(v).tolist() for name, v in self.apply(self.totals).items()}
        return found | {"members": self.members, "times": self.times, "cells": self.cells}


def moments(parts: Callable[[], Any], weights: ArrayLike | None = None) -> tuple[Array, Array]:
    """μ and σ (V,) of fields (V, T, H, W) given in parts, over cells and times at which all are valid.

    Args:
        parts: gives the parts anew; they are gone through twice, as the square of a mean would lose digits.
        weights: areas (H, W).
    """
    area = 1.0 if weights is None else np.asarray(weights, dtype=np.float64)

    def mean_of(power: int, about: Any) -> Array:
        total: Any = 0.0
        weight = 0.0
        for part in parts():
            valid = np.isfinite(part).all(axis=0)
            w = np.broadcast_to(area, valid.shape) * valid
            total = total + (w * np.where(valid, part - about, 0.0) ** power).sum(axis=(1, 2, 3))
            weight += float(w.sum())
        return ratio(total, weight)

    mean = mean_of(1, 0.0)
    return mean, np.sqrt(mean_of(2, mean[:, None, None, None]))
