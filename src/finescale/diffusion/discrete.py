"""Variance-preserving processes of discrete steps, in sigma (see `finescale.diffusion.schedule`)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from finescale.diffusion.schedule import Schedule, stratified
from finescale.errors import InputError
from finescale.ranges import Steps

Spacing = Literal["trailing", "leading"]


class DiscreteVP(Schedule):
    """Base of variance-preserving processes of T discrete steps, ᾱ_t = Π_{s<=t} (1 − β_s), t = 1 ... T.

    Sampling visits N evenly spaced t, then 0: from T on, t = T, T − T/N, ..., T/N (trailing: the first level is the
    noisiest one); or down to 1, t = T − T/N + 1, ..., T/N + 1, 1 (leading: so did Ho et al. and Song et al., whose
    samples never saw the noisiest T/N − 1 levels).

    Args:
        T: number of discrete steps.
        spacing: which of the two.

    Raises:
        InputError: in `sigmas` unless 1 <= steps <= T.
    """

    def __init__(self, T: int, spacing: Spacing = "trailing") -> None:
        self.T, self.spacing = T, spacing

    @property
    def log_alphas(self) -> Tensor:
        """ln ᾱ_1 ... ln ᾱ_T, (T,) float64."""
        raise NotImplementedError

    @property
    def alphas(self) -> Tensor:
        """ᾱ_1 ... ᾱ_T, (T,) float64."""
        return self.log_alphas.exp()

    @property
    def levels(self) -> Tensor:
        """sigma_1 ... sigma_T, (T,) float64, rising."""
        # 1/ᾱ − 1 without the difference of nearly equal numbers.
        return torch.expm1(-self.log_alphas).sqrt()

    def sigmas(self, steps: int) -> Tensor:
        if not 1 <= steps <= self.T:
            raise InputError(f"steps must be 1 to {self.T}, the schedule's discrete steps, not {steps}")
        if self.spacing == "trailing":
            times = [round(self.T * (steps - i) / steps) for i in range(steps)]
        else:
            times = [1 + self.T // steps * i for i in reversed(range(steps))]
        return torch.cat([self.levels[torch.tensor(times) - 1], torch.zeros(1, dtype=torch.float64)])


class VP(DiscreteVP):
    """Linear β (Ho et al. 2020).

    β_max is the noise amplitude of arXiv 2604.21903. ᾱ_T is 6e-3 at β_max = .01, 5e-4 at .015, 4e-5 at .02: at .01 the
    noisiest latent still holds sqrt(ᾱ_T) = 8 % of the clean one, so that samples started from noise alone are biased.

    Args:
        beta_max: β_T.
        beta_min: β_1.
        T: number of discrete steps.
        spacing: of the steps that sampling visits, see `DiscreteVP`.

    Raises:
        ValueError: unless 0 < beta_min <= beta_max < 1 and T >= 1.
    """

    def __init__(
        self, beta_max: float = 0.02, beta_min: float = 1e-4, T: Steps = 1000, spacing: Spacing = "trailing"
    ) -> None:
        if not 0 < beta_min <= beta_max < 1 or T < 1:
            raise ValueError(
                f"the VP schedule needs 0 < beta_min <= beta_max < 1 and T >= 1, not {beta_min}, {beta_max} and {T}"
            )
        super().__init__(T, spacing)
        self.beta_max, self.beta_min = beta_max, beta_min
        self.sigma_max = float(self.levels[-1])

    @property
    def log_alphas(self) -> Tensor:
        return torch.log1p(-torch.linspace(self.beta_min, self.beta_max, self.T, dtype=torch.float64)).cumsum(0)


class VPCosine(DiscreteVP):
    """Cosine ᾱ (Nichol & Dhariwal 2021, eq. 17), the schedule of arXiv 2605.03399:

        f(t) = cos²(π/2 · (t/T + s)/(1 + s)),      β_t = min(1 − f(t)/f(t − 1), clip)

    f(T) = 0, so that the clip alone keeps ᾱ_T above 0: at T = 1000 and clip .999, ᾱ_T is 2.4e-9 and sigma_T 20 000,
    where sigma_{T−1} is 640, sigma_{T−9} 71 and sigma_{T−19} 34. ln ᾱ is summed in float64; under noise of 20 000 a
    latent of unit variance keeps three digits in float32. A network that predicts the noise keeps fewer: the clean
    latent has sigma times its error (see `finescale.diffusion.denoiser`). With it, take `spacing: leading`, which
    starts 100 steps at sigma_{T−9}; where the network predicts the clean latent, either is sound.

    Args:
        s: offset that keeps β_1 from being tiny.
        T: number of discrete steps.
        clip: largest β.
        spacing: of the steps that sampling visits, see `DiscreteVP`.

    Raises:
        ValueError: unless s >= 0, T >= 1 and 0 < clip < 1.
    """

    def __init__(self, s: float = 0.008, T: Steps = 1000, clip: float = 0.999, spacing: Spacing = "trailing") -> None:
        if s < 0 or T < 1 or not 0 < clip < 1:
            raise ValueError(f"the cosine schedule needs s >= 0, T >= 1 and 0 < clip < 1, not {s}, {T} and {clip}")
        super().__init__(T, spacing)
        self.s, self.clip = s, clip
        self.sigma_max = float(self.levels[-1])

    @property
    def log_alphas(self) -> Tensor:
        t = torch.arange(self.T + 1, dtype=torch.float64) / self.T
        log_f = 2 * torch.cos(math.pi / 2 * (t + self.s) / (1 + self.s)).log()
        # ln(1 − β) of both arguments of the minimum.
        return log_f.diff().clamp_min(math.log1p(-self.clip)).cumsum(0)


class ScheduleNoise:
    """Uniform over the discrete levels of a schedule, t ~ U{1 ... T}: the training of Ho et al. 2020.

    Args:
        schedule: whose levels.
    """

    def __init__(self, schedule: DiscreteVP) -> None:
        self.levels = schedule.levels.float()

    def sample(self, batch: int, generator: torch.Generator) -> Tensor:
        """(batch,) noise levels; stratified, so that every batch covers the whole distribution."""
        count = len(self.levels)
        return self.levels[(stratified(batch, generator) * count).long().clamp_max(count - 1)]
