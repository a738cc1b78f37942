"""What `finescale calibrate` has measured on fine fields of the user's own: the section ``calibrated`` of a model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field

from finescale.grids.factor import Factor

LARGEST = 4
"""Exponent that may be told; that of a smooth field is 2."""
Exponent = Annotated[float, Field(ge=0, le=LARGEST)]
Spread = Annotated[float, Field(gt=0, le=10)]


@dataclass(frozen=True)
class Calibrated:
    """How a model is put to use elsewhere than where it was trained.

    Attributes:
        smoothness: exponent ζ of the structure function of fine fields, which the networks are told
            (`finescale.model.conditions`); None for that of the training data.
        spread: what deviations of members from their centre are multiplied by, in the latent: z → m + spread (z − m).
            The centre m is 0 for diffusion, whose residual is about the conditional mean, and for a generator what it
            makes of no noise. Of a model of several factors, by the factors at which it was measured.
        lifetime: seconds that the detail of fine fields lives while it moves (`finescale.diffusion.carried`); None for
            frames of their own.
        path: the fine fields they were measured on.
    """

    smoothness: Exponent | None = None
    spread: Spread | dict[str, Spread] = 1.0
    lifetime: Annotated[float, Field(gt=0, le=1e9)] | None = None
    path: str | None = None

    def __post_init__(self) -> None:
        """Refuse factors that are none.

        Raises:
            InputError: saying which.
        """
        self._measured()

    def spread_at(self, factor: Factor) -> float:
        """The spread of a factor: that measured at it, or else between those measured at others.

        log s = Σ w_i log s_i / Σ w_i, with w_i = 1 / d_i² and d the distance of the logarithms of factors in time, y
        and x: the inverse-distance weighting of Shepard (1968), which keeps between the largest and the least.
        """
        if isinstance(self.spread, float | int):
            return float(self.spread)
        total = weights = 0.0
        for other, spread in self._measured():
            apart = sum(math.log(a / b) ** 2 for a, b in zip(factor, other, strict=True))
            if not apart:
                return spread
            total, weights = total + math.log(spread) / apart, weights + 1 / apart
        return math.exp(total / weights) if weights else 1.0

    def _measured(self) -> list[tuple[Factor, float]]:
        found = self.spread if isinstance(self.spread, dict) else {}
        return [(Factor.parse(key), value) for key, value in found.items()]

    def plain(self) -> dict[str, Any]:
        """As a configuration has it."""
        return {key: value for key, value in asdict(self).items() if value is not None}
