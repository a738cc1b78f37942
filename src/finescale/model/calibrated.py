"""What `finescale calibrate` has measured on fine fields of the user's own: the section ``calibrated`` of a model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field

from finescale.grids.factor import Factor

LARGEST = 4
"""Exponent that may be told; that of a smooth field is 2."""
Exponent = Annotated[float, Field(ge=0, le=LARGEST)]
Spread = Annotated[float, Field(gt=0, le=10)]
Blur = Annotated[float, Field(ge=0, le=10)]


@dataclass(frozen=True)
class Calibrated:
    """How a model is put to use elsewhere than where it was trained.

    Attributes:
        smoothness: exponent ζ of the structure function of fine fields, which the networks are told
            (`finescale.model.conditions`); None for that of the training data.
        spread: what deviations of members from their centre are multiplied by, in the latent: z → m + spread (z − m).
            The centre m is 0 for diffusion, whose residual is about the conditional mean, and for a generator what it
            makes of no noise. Of a model of several factors, by the factors at which it was measured.
        blur: standard deviation in fine cells of a Gaussian that members are smoothed by, in units and before they are
            constrained a last time (`finescale.operators.blur`); 0 for none. Of several factors as ``spread``.
        lifetime: seconds that the detail of fine fields lives while it moves (`finescale.diffusion.carried`); None for
            frames of their own.
        least: amount, of the first variable and in its units, below which fine fields have next to none, and members
            then none (`finescale.constraints.emptied`); None for what the model makes, and for what is no amount.
        path: the fine fields they were measured on.
    """

    smoothness: Exponent | None = None
    spread: Spread | dict[str, Spread] = 1.0
    blur: Blur | dict[str, Blur] = 0.0
    lifetime: Annotated[float, Field(gt=0, le=1e9)] | None = None
    least: Annotated[float, Field(gt=0, lt=1e9)] | None = None
    path: str | None = None

    def __post_init__(self) -> None:
        """Refuse factors that are none.

        Raises:
            InputError: saying which.
        """
        for measured in (self.spread, self.blur):
            for name in measured if isinstance(measured, dict) else ():
                Factor.parse(name)

    def spread_at(self, factor: Factor) -> float:
        """The spread of a factor: that measured at it, or else Π s_i^w_i of those measured at others (`weights`)."""
        if isinstance(self.spread, float | int):
            return float(self.spread)
        return math.prod(self.spread[name] ** weight for name, weight in weights(self.spread, factor).items())

    def blur_at(self, factor: Factor) -> float:
        """The blur of a factor: that measured at it, or else Σ w_i b_i of those measured at others (`weights`)."""
        if isinstance(self.blur, float | int):
            return float(self.blur)
        return sum(self.blur[name] * weight for name, weight in weights(self.blur, factor).items())

    def plain(self) -> dict[str, Any]:
        """As a configuration has it."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def weights(measured: Iterable[str], factor: Factor) -> dict[str, float]:
    """How much each of the measured factors says of another: 1 in all.

    w_i ~ 1 / d_i², with d the distance of the logarithms of factors in time, y and x: the inverse-distance weighting of
    Shepard (1968), which keeps between the largest and the least. The one it was measured at has all.
    """
    found: dict[str, float] = {}
    for name in measured:
        apart = sum(math.log(a / b) ** 2 for a, b in zip(factor, Factor.parse(name), strict=True))
        if not apart:
            return {name: 1.0}
        found[name] = 1 / apart
    return {name: weight / sum(found.values()) for name, weight in found.items()}
