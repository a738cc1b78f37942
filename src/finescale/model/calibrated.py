"""What `finescale calibrate` has measured on fine fields of the user's own: the section ``calibrated`` of a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field

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
            makes of no noise.
        lifetime: seconds that the detail of fine fields lives while it moves (`finescale.diffusion.carried`); None for
            frames of their own.
        path: the fine fields they were measured on.
    """

    smoothness: Exponent | None = None
    spread: Spread = 1.0
    lifetime: Annotated[float, Field(gt=0, le=1e9)] | None = None
    path: str | None = None

    def plain(self) -> dict[str, Any]:
        """As a configuration has it."""
        return {key: value for key, value in asdict(self).items() if value is not None}
