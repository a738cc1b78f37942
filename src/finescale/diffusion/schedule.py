"""Noise levels of sampling and of training.

Everything is written in sigma, the standard deviation of the noise added to a clean latent of unit variance
(Karras et al. 2022, "EDM"). A variance-preserving process with cumulative ᾱ is the same thing at
sigma = sqrt((1 − ᾱ)/ᾱ).
"""

from __future__ import annotations

import torch
from torch import Tensor


class Schedule:
    """Which noise levels a sampler visits."""

    def sigmas(self, steps: int) -> Tensor:
        """(steps + 1,) float64 noise levels, falling from sigma_max to exactly 0."""
        raise NotImplementedError


class EDM(Schedule):
    """sigma_i = (sigma_max^(1/ρ) + i/(N−1) (sigma_min^(1/ρ) − sigma_max^(1/ρ)))^ρ, then 0 (Karras et al. 2022, eq. 5).

    Args:
        sigma_max: first noise level, in standard deviations of the latent; at it the latent must be pure noise.
        sigma_min: last noise level before 0.
        rho: how strongly steps gather at small noise.
    """

    def __init__(self, sigma_max: float = 80.0, sigma_min: float = 0.002, rho: float = 7.0) -> None:
        if not 0 < sigma_min < sigma_max:
            raise ValueError(f"the schedule needs 0 < sigma_min < sigma_max, not {sigma_min} and {sigma_max}")
        self.sigma_max, self.sigma_min, self.rho = sigma_max, sigma_min, rho

    def sigmas(self, steps: int) -> Tensor:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        return torch.cat([(high + ramp * (low - high)) ** self.rho, torch.zeros(1, dtype=torch.float64)])


class TrainingNoise:
    """ln sigma ~ N(mean, std²), the noise levels of training (Karras et al. 2022, table 1).

    Args:
        mean: P_mean.
        std: P_std.
    """

    def __init__(self, mean: float = -1.2, std: float = 1.2) -> None:
        self.mean, self.std = mean, std

    def sample(self, batch: int, generator: torch.Generator) -> Tensor:
        """(batch,) noise levels; stratified, so that every batch covers the whole distribution."""
        offset = torch.rand(1, generator=generator)
        uniform = ((torch.arange(batch) + offset) / batch).clamp(1e-4, 1 - 1e-4)
        normal = torch.special.ndtri(uniform[torch.randperm(batch, generator=generator)])
        return (self.mean + self.std * normal).exp()
