"""Noise levels of sampling and of training.

Everything is written in sigma, the standard deviation of the noise added to a clean latent of unit variance
(Karras et al. 2022, "EDM"). A variance-preserving process with cumulative ᾱ is the same thing at

    sigma = sqrt((1 − ᾱ)/ᾱ),      z_vp = sqrt(ᾱ) x + sqrt(1 − ᾱ) noise = z / sqrt(1 + sigma²) = c_in z.

A network under EDM preconditioning with sigma_data = 1 (`finescale.diffusion.denoiser`) is then v-prediction
(Salimans & Ho 2022), v = sqrt(ᾱ) noise − sqrt(1 − ᾱ) x, up to the sign: c_skip z = sqrt(ᾱ) z_vp and
c_out = sqrt(1 − ᾱ), so D = sqrt(ᾱ) z_vp − sqrt(1 − ᾱ) v with v = −F, and the loss of F is the squared error of v.
"""

from __future__ import annotations

from typing import Annotated, Protocol

import torch
from pydantic import Field
from torch import Tensor

from finescale.ranges import Positive

Power = Annotated[float, Field(ge=1, le=100)]
LogLevel = Annotated[float, Field(ge=-20, le=20)]
Spread = Annotated[float, Field(ge=0, le=10)]


class Schedule:
    """Which noise levels a sampler visits."""

    sigma_max: float

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

    def __init__(self, sigma_max: Positive = 80.0, sigma_min: Positive = 0.002, rho: Power = 7.0) -> None:
        if not 0 < sigma_min < sigma_max:
            raise ValueError(f"the schedule needs 0 < sigma_min < sigma_max, not {sigma_min} and {sigma_max}")
        self.sigma_max, self.sigma_min, self.rho = sigma_max, sigma_min, rho

    def sigmas(self, steps: int) -> Tensor:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        return torch.cat([(high + ramp * (low - high)) ** self.rho, torch.zeros(1, dtype=torch.float64)])


class VPSDE(Schedule):
    """Variance-preserving process in continuous time with linear β (Song et al. 2021, the VP-SDE of arXiv 2507.01354):

        β(t) = beta_min + t (beta_max − beta_min),      ᾱ(t) = exp(−∫β) = exp(−t beta_min − ½ t² (beta_max − beta_min))

    and sigma(t) = sqrt(1/ᾱ − 1), t in [0, 1]. Sampling visits evenly spaced t from 1 to t_min, then 0.

    Args:
        beta_min: β(0); 0.1 and 20 are those of Song et al. 2021, for the paper's are not known.
        beta_max: β(1).
        t_min: last time before 0, and the first one of training.

    Raises:
        ValueError: unless 0 < beta_min <= beta_max and 0 < t_min < 1; in `sigmas` unless steps >= 1.
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, t_min: float = 1e-3) -> None:
        if not 0 < beta_min <= beta_max or not 0 < t_min < 1:
            raise ValueError(
                "the VP-SDE schedule needs 0 < beta_min <= beta_max and 0 < t_min < 1, "
                f"not {beta_min}, {beta_max} and {t_min}"
            )
        self.beta_min, self.beta_max, self.t_min = beta_min, beta_max, t_min
        self.sigma_max = float(self.level(torch.ones(1, dtype=torch.float64)))

    def level(self, t: Tensor) -> Tensor:
        """sigma(t), float64."""
        t = t.double()
        # 1/ᾱ − 1 without the difference of nearly equal numbers.
        return torch.expm1(self.beta_min * t + (self.beta_max - self.beta_min) * t.square() / 2).sqrt()

    def sigmas(self, steps: int) -> Tensor:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        times = torch.linspace(1, self.t_min, steps, dtype=torch.float64)
        return torch.cat([self.level(times), torch.zeros(1, dtype=torch.float64)])


class NoiseLevels(Protocol):
    """Noise levels of training."""

    def sample(self, batch: int, generator: torch.Generator) -> Tensor:
        """(batch,) noise levels; stratified, so that every batch covers the whole distribution."""
        ...


def stratified(batch: int, generator: torch.Generator) -> Tensor:
    """(batch,) uniform numbers in [0, 1], one in each of ``batch`` equal intervals, in random order."""
    offset = torch.rand(1, generator=generator)
    uniform = (torch.arange(batch) + offset) / batch
    return uniform[torch.randperm(batch, generator=generator)]


class TrainingNoise:
    """ln sigma ~ N(mean, std²), the noise levels of training (Karras et al. 2022, table 1).

    Args:
        mean: P_mean.
        std: P_std.
    """

    def __init__(self, mean: LogLevel = -1.2, std: Spread = 1.2) -> None:
        self.mean, self.std = mean, std

    def sample(self, batch: int, generator: torch.Generator) -> Tensor:
        """(batch,) noise levels; stratified, so that every batch covers the whole distribution."""
        normal = torch.special.ndtri(stratified(batch, generator).clamp(1e-4, 1 - 1e-4))
        return (self.mean + self.std * normal).exp()


class TimeNoise:
    """sigma(t) of uniform times t ~ U[t_min, 1] of a VP-SDE: the training of Song et al. 2021.

    Args:
        schedule: whose sigma(t).
    """

    def __init__(self, schedule: VPSDE) -> None:
        self.schedule = schedule

    def sample(self, batch: int, generator: torch.Generator) -> Tensor:
        """(batch,) noise levels; stratified, so that every batch covers the whole distribution."""
        first = self.schedule.t_min
        return self.schedule.level(first + (1 - first) * stratified(batch, generator)).float()
