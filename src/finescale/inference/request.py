"""What is asked of a prediction, and what that needs of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr
from torch import Tensor

from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.grids.windows import Triple
from finescale.model.uncertainty import LEVELS, Spread
from finescale.transforms.base import Transform

LATENTS = 64
"""Latents that a variance from members is estimated from where no members are asked for."""


class Model(Protocol):
    """What prediction needs of a model, such as `finescale.downscaler.Downscaler`; lengths in coarse cells."""

    @property
    def factor(self) -> Factor: ...
    @property
    def variable(self) -> Mapping[str, str]: ...
    @property
    def multiple(self) -> Triple: ...
    @property
    def window(self) -> Triple: ...
    @property
    def halo(self) -> Triple: ...
    @property
    def context(self) -> int: ...

    def at(self, factor: Factor, force: bool = False) -> Model: ...
    def at_once(self, cells: int) -> int: ...

    def sample(
        self,
        coarse: Tensor,
        *,
        members: int,
        seed: int,
        first_member: int = 0,
        steps: int | None = None,
        origin: Triple | Sequence[Triple] = (0, 0, 0),
        area: Tensor | None = None,
        static: Tensor | None = None,
        gaps: list[float] | None = None,
    ) -> Tensor: ...


class Uncertain(Model, Protocol):
    """What the spread needs of a model besides."""

    @property
    def transform(self) -> Transform: ...

    def spread(
        self,
        coarse: Tensor,
        source: str,
        *,
        members: int,
        seed: int,
        steps: int | None = None,
        origin: Triple | Sequence[Triple] = (0, 0, 0),
        area: Tensor | None = None,
        static: Tensor | None = None,
        fields: list[Tensor] | None = None,
        gaps: list[float] | None = None,
    ) -> Spread: ...
    def spread_source(self, source: str, members: int) -> str: ...
    def spread_comment(self, source: str, members: int) -> str: ...


@dataclass(frozen=True)
class Settings:
    """What is asked of a prediction; None leaves the choice to the model.

    Attributes:
        members: how many; 0 for their mean instead, with a variance.
        seed: members of one seed are the same in every run.
        steps: sampler steps.
        window: coarse cells of a window's core.
        halo: coarse cells read around it.
        batch: (window, member) pairs sampled at once.
        variance: source of the standard deviation that is written besides (auto, head, members, denoiser); None for
            none.
    """

    members: int = 16
    seed: int = 0
    steps: int | None = None
    window: Triple | None = None
    halo: Triple | None = None
    batch: int | None = None
    variance: str | None = None

    @property
    def latents(self) -> int:
        """Latents that a variance from members is estimated from: those of the members, if there are several."""
        return self.members if self.members > 1 else LATENTS

    def __post_init__(self) -> None:
        if self.members == 0 and self.variance is None:
            raise InputError("members is 0: ask for at least 1, or for their mean and standard deviation (--variance)")
        for name, least in (("members", 0), ("seed", 0), ("steps", 1), ("batch", 1)):
            value = getattr(self, name)
            if value is not None and (int(value) != value or value < least):
                raise InputError(f"{name} is {value!r}, but must be a whole number of at least {least}")


@dataclass(frozen=True)
class Spreading:
    """The standard deviation, and quantiles where the transform is not linear, as variables of the output.

    Attributes:
        model: a downscaler.
        source: where the variance is from: head, members or denoiser.
        members: latents that a variance from members is estimated from.
    """

    model: Uncertain
    source: str
    members: int

    def of(self, given: Mapping[str, Any]) -> Spread:
        """The spread of a window, ``given`` as `finescale.downscaler.Downscaler.sample` takes it."""
        return self.model.spread(source=self.source, members=self.members, **given)

    @property
    def quantiles(self) -> bool:
        """Whether quantiles say more than mean and standard deviation."""
        return not self.model.transform.linear

    def leading(self, name: str) -> dict[str, dict[str, int]]:
        """Of every variable the dimensions before (time, y, x), and their lengths."""
        found: dict[str, dict[str, int]] = {f"{name}_std": {}}
        return found | ({f"{name}_quantile": {"quantile": len(LEVELS)}} if self.quantiles else {})

    @property
    def coords(self) -> dict[str, xr.Variable]:
        """Coordinates besides those of the members."""
        levels = xr.Variable("quantile", np.array(LEVELS), {"long_name": "probability not to be exceeded"})
        return {"quantile": levels} if self.quantiles else {}

    def described(self, name: str, attrs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Attributes of the variable ``name`` and of those that go with it."""
        comment = self.model.spread_comment(self.source, self.members)
        long = attrs.get("long_name", name)
        methods = f"{attrs.get('cell_methods', '')} realization: standard_deviation".strip()
        # CF has no standard names for these.
        own = {key: value for key, value in attrs.items() if key not in ("standard_name", "ancillary_variables")}
        extra = {
            f"{name}_std": own
            | {"long_name": f"standard deviation of {long}", "cell_methods": methods, "comment": comment},
            f"{name}_quantile": own | {"long_name": f"quantiles of {long}", "comment": comment},
        }
        found = {key: extra[key] for key in self.leading(name)}
        return {name: {**attrs, "ancillary_variables": " ".join(found)}} | found
