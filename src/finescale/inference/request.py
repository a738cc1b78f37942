"""What is asked of a prediction, and what that needs of a model."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import xarray as xr

from finescale.data.packing import Precision
from finescale.errors import InputError, Notice, brief
from finescale.grids.durations import parse_duration
from finescale.grids.factor import Factor, Factors
from finescale.grids.windows import Triple
from finescale.model.batch import Ensemble, Inputs, Members
from finescale.model.calibrated import LARGEST, Calibrated
from finescale.model.masks import Masks
from finescale.model.remembers import Remembers
from finescale.model.uncertainty import Marginals

MEMBERS = 16
"""Members unless a number is asked for."""
LATENTS = 64
"""Latents that a variance from members is estimated from where no members are asked for."""

ORDERS = ("time,realization,y,x", "realization,time,y,x")
"""Of the dimensions of an output."""
RANGES = {"members": (0, 100_000), "seed": (0, 2**63 - 1), "steps": (1, 100_000), "batch": (1, 10**9)}
"""Least and most of what is counted."""


class Model(Protocol):
    """What prediction needs of a model, such as `finescale.downscaler.Downscaler`; lengths in coarse cells."""

    @property
    def factor(self) -> Factor: ...
    @property
    def factors(self) -> Factors: ...
    @property
    def remembers(self) -> Remembers: ...
    @property
    def masks(self) -> Masks: ...
    @property
    def calibrated(self) -> Calibrated: ...
    @property
    def variables(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def predictors(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def neighbours(self) -> int: ...
    @property
    def moving(self) -> bool: ...
    @property
    def frames_together(self) -> int: ...
    @property
    def direct(self) -> bool: ...
    @property
    def static(self) -> Sequence[str]: ...
    @property
    def trained(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def conserves(self) -> Sequence[bool]: ...
    @property
    def deterministic(self) -> bool: ...
    @property
    def linear(self) -> bool: ...
    @property
    def usual_smoothness(self) -> float | None: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def called(self) -> str: ...
    @property
    def multiple(self) -> Triple: ...
    @property
    def window(self) -> Triple: ...
    @property
    def halo(self) -> Triple: ...
    @property
    def context(self) -> int: ...
    @property
    def across(self) -> int: ...

    def at(self, factor: Factor, force: bool = False) -> Self: ...
    def conserving(self, wanted: bool) -> Self: ...
    def told(self, smoothness: float) -> Self: ...
    def check_carried(self) -> None: ...
    def at_once(self, cells: int) -> int: ...
    def check_plane(self, height: int, width: int) -> None: ...
    def sample(self, given: Inputs, members: Members) -> Ensemble: ...
    def marginals(self, given: Inputs, members: Members, source: str, *, fields: bool) -> Marginals: ...
    def evaluations(self, steps: int | None) -> int: ...
    def variance_source(self, source: str, members: int) -> str: ...
    def variance_comment(self, source: str, members: int) -> str: ...


@dataclass(frozen=True)
class Request:
    """What is asked of a prediction; None leaves the choice to the model.

    Attributes:
        members: how many, 16 unless given; 0 for their mean instead, with ``variance``. A deterministic model has one
            field.
        seed: members of one seed are the same in every run.
        steps: sampler steps.
        variance: write the standard deviation besides, and quantiles where the transform is not linear: True, or where
            it is from (auto, head, members, denoiser).
        window: coarse cells (t, y, x) of a window's core; smaller needs less memory. None for the model's own, with as
            many frames as a smooth constraint can look at together.
        halo: coarse cells read around the core.
        batch: (window, member) pairs sampled at once; by default as many as pay.
        variable: the variable, where the input has several.
        factor: the factor, for a model that serves several.
        to: instead, the resolution to reach, as `finescale.grids.resolution.factor_to` reads it.
        force: take a factor outside the trained range, or an input that is unlike the training data.
        static: files of the static fields that the model was trained with.
        onto: a file on the fine grid that is wanted: the coarse fields are brought to its blocks, conservatively.
        mask: a file with a field on the fine grid, above 0 where cells are valid; the others are missing in the output.
        precision: how exactly values are written, ``"0.01"`` for steps of so much in their units, ``"3digits"`` for
            significant digits; None for single precision.
        order: of an output's dimensions: "time, realization, y, x" or "realization, time, y, x".
        conserve: put fields through the model's constraint, or do not; None for what the model was trained for.
        smoothness: how smooth fine fields are, for a model that is told: the exponent ζ of their structure function
            (`finescale.operators.structure`); None for what was calibrated, or that of the training data, interpolated
            where fine cells are smaller.
        lifetime: how long what members differ by lives while it moves with the coarse field, ``"15min"``: after that
            time 1/π of it is left (`finescale.diffusion.carried`). ``"none"`` for frames of their own; None for what
            was calibrated, or such frames.

    Example:
        >>> from finescale.inference.request import Request
        >>> Request(members=8, seed=1).members
        8
    """

    members: int | None = None
    seed: int = 0
    steps: int | None = None
    variance: bool | str = False
    window: Triple | None = None
    halo: Triple | None = None
    batch: int | None = None
    variable: str | None = None
    factor: Factor | str | None = None
    to: str | None = None
    force: bool = False
    static: str | Path | Sequence[str | Path] | None = None
    onto: str | Path | xr.Dataset | xr.DataArray | None = None
    mask: str | Path | xr.Dataset | xr.DataArray | None = None
    conserve: bool | None = None
    precision: str | float | None = None
    order: str = ORDERS[0]
    smoothness: float | None = None
    lifetime: str | float | None = None

    def __post_init__(self) -> None:
        if self.members == 0 and self.variance is False:
            raise InputError("members is 0: ask for at least 1, or for their mean and standard deviation (--variance)")
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not _whole(value, least, most):
                raise InputError(f"{name} is {brief(value)}, but must be a whole number from {least} to {most}")
        for name, least in (("window", 1), ("halo", 0)):
            cells = getattr(self, name)
            if cells is not None and (len(cells) != 3 or not all(_whole(n, least, 10**9) for n in cells)):
                raise InputError(f"{name} is {brief(cells)}, but must be three whole numbers (t, y, x) from {least} on")
        if self._order not in ORDERS:
            raise InputError(f"--order is {brief(self.order)}, but must be {' or '.join(map(repr, ORDERS))}")
        if self.smoothness is not None and not 0 <= self.smoothness <= LARGEST:
            raise InputError(f"smoothness is {brief(self.smoothness)}, but must be a number from 0 to {LARGEST}")
        if self.lifetime not in (None, "none"):
            parse_duration(self.lifetime, "lifetime")
        self.rounding  # noqa: B018  (says what is wrong with it)
        if self.factor is not None and self.to is not None:
            raise InputError("give either a factor or a resolution to reach, not both")
        if self.onto is not None and self.to is not None:
            raise InputError("--onto names the fine grid already: leave --to out")

    def of(self, model: Model) -> Request:
        """The request with the number of members that the model draws."""
        if self.members is None:
            return replace(self, members=1 if model.deterministic else MEMBERS)
        if self.members > 1 and model.deterministic:
            warnings.warn("the model is deterministic: one field is made, not an ensemble", Notice, stacklevel=3)
            return replace(self, members=1)
        return self

    @property
    def rounding(self) -> Precision | None:
        """How exactly values are written; None for single precision.

        Raises:
            InputError: for words that say neither steps nor digits.
        """
        return None if self.precision is None else Precision.parse(self.precision)

    @property
    def members_first(self) -> bool:
        """Whether an output's first dimension is that of its members."""
        return self._order == ORDERS[1]

    @property
    def _order(self) -> str:
        return ",".join(re.findall(r"\w+", str(self.order)))

    @property
    def count(self) -> int:
        """Members of the output."""
        return MEMBERS if self.members is None else self.members

    @property
    def latents(self) -> int:
        """Latents that a variance from members is estimated from: those of the members, if there are several."""
        return self.count if self.count > 1 else LATENTS


def _whole(value: object, least: int, most: int) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return bool(least <= value <= most and int(value) == value)
