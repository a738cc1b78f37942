"""The diffusion process of a model: how noise is drawn in training and removed in sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from finescale.diffusion import NoiseLevels, Schedule, TotalVariation
from finescale.samplers.base import Sampler


@dataclass(frozen=True)
class Process:
    """How noise is drawn in training and removed in sampling.

    Attributes:
        schedule: noise levels of sampling.
        noise: noise levels of training.
        sampler: what integrates from noise to a latent.
        steps: its steps.
        constrain: the constraint acts on what sampling ends with, or on the clean estimate of every step besides.
        tv: penalty on the variation of the detail bands in training; None for none.
        persistent: whether noise is correlated along time as the latent is (`finescale.diffusion.persistence`).
    """

    schedule: Schedule
    noise: NoiseLevels
    sampler: Sampler
    steps: int
    constrain: Literal["end", "steps"] = "end"
    tv: TotalVariation | None = None
    persistent: bool = False

    def sigmas(self, steps: int | None = None) -> Tensor:
        """(steps + 1,) noise levels that the sampler visits, the last one 0; None for the model's own steps."""
        return self.sampler.levels_of(self.schedule.sigmas, steps or self.steps)
