"""Few-step sampling with a distilled model."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from finescale.errors import InputError
from finescale.ranges import Positive, Steps
from finescale.samplers.base import Denoise, Fresh, Sampler


class Consistency(Sampler):
    """Multistep consistency sampling (Song et al. 2023, algorithm 1); ``denoise`` is the consistency function f.

        z = f(sigma_0 · noise, sigma_0),      z' = f(z + sigma_i · noise_i, sigma_i)      for sigma_1 > sigma_2 > ...

    f leads from any noise level to the end of the probability-flow trajectory, so one step is a sample already; the
    others noise it again and mend what one evaluation blurred. Trajectories end at 0 here (see
    `finescale.diffusion.distillation`), so the noise is sigma_i and not sqrt(sigma_i² − sigma_min²).

    n steps visit the levels 0, N/n, 2N/n, ... of the N that the model was distilled on: the same f serves every n.

    A network that learned f in a short time gives, where trajectories are close, the mean of their ends, and too little
    spread. All noise is multiplied by the amplitude against that (ours).

    Args:
        levels: N.
        amplitude: of the noise; a little above 1 for more spread.
    """

    stochastic = True

    def __init__(self, levels: Steps = 16, amplitude: Positive = 1.0) -> None:
        if levels < 1:
            raise ValueError(f"the number of levels must be at least 1, not {levels}")
        if not 0 < amplitude < float("inf"):
            raise ValueError(f"the amplitude of the noise must be positive, not {amplitude}")
        self.levels, self.amplitude = levels, amplitude

    def levels_of(self, schedule: Callable[[int], Tensor], steps: int) -> Tensor:
        if not 1 <= steps <= self.levels:
            raise InputError(f"steps must be 1 to {self.levels}, the levels this model was distilled on, not {steps}")
        picked = [round(self.levels * i / steps) for i in range(steps)]
        return schedule(self.levels)[torch.tensor([*picked, self.levels])]

    def diffuse(self, denoise: Denoise, z: Tensor, sigmas: Tensor, fresh: Fresh) -> Tensor:
        dtype, z = z.dtype, self.amplitude * z
        for i, (sigma, after) in enumerate(pairwise(sigmas), start=1):
            z = denoise(z, sigma.to(dtype))
            if after > 0:
                z = z + self.amplitude * after.to(dtype) * fresh(i).to(z)
        return z
