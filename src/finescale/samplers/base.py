"""Samplers lead a denoiser from noise to a clean latent, along the probability-flow equation

    dz/dsigma = (z − D(z; sigma)) / sigma,      z(sigma_max) = sigma_max · noise        (Karras et al. 2022, eq. 1)

or along a stochastic one with the same distribution at every sigma. They see only the function denoise(z, sigma), the
noise levels and, where they are stochastic, a source of fresh noise.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
Fresh = Callable[[int], Tensor]


class Sampler:
    """Base of all samplers."""

    order = 1
    stochastic = False
    """Whether it needs fresh noise between steps; `diffuse` is then its method, else `integrate`."""

    def __call__(self, denoise: Denoise, noise: Tensor, sigmas: Tensor, fresh: Fresh | None = None) -> Tensor:
        """Sample.

        Args:
            denoise: clean estimate D(z, sigma) for z of any shape and a scalar sigma tensor.
            noise: white noise of unit variance, the shape of z.
            sigmas: (N + 1,) falling noise levels that end with 0.
            fresh: fresh(i) is white noise number i = 1 ... N − 1, the shape of z, independent of ``noise`` (number 0)
                and of each other; deterministic samplers ignore it.

        Returns:
            The clean latent, the shape and number type of noise.

        Raises:
            ValueError: if the sampler is stochastic and there is no fresh noise.
        """
        levels = sigmas.to(noise.device, torch.float64)
        z = noise * levels[0].to(noise.dtype)
        if not self.stochastic:
            return self.integrate(denoise, z, levels)
        if fresh is None:
            raise ValueError(
                f"the {type(self).__name__} sampler needs noise between steps: pass fresh, fresh(i) -> noise"
            )
        return self.diffuse(denoise, z, levels, fresh)

    def levels_of(self, schedule: Callable[[int], Tensor], steps: int) -> Tensor:
        """(steps + 1,) noise levels to visit, the last one 0, of a schedule(steps) -> noise levels."""
        return schedule(steps)

    def integrate(self, denoise: Denoise, z: Tensor, sigmas: Tensor) -> Tensor:
        """From z at sigmas[0] to z at sigmas[-1]; sigmas are float64."""
        raise NotImplementedError

    def diffuse(self, denoise: Denoise, z: Tensor, sigmas: Tensor, fresh: Fresh) -> Tensor:
        """As `integrate`, with fresh(i) the noise added by step i."""
        raise NotImplementedError

    def nfe(self, steps: int) -> int:
        """Network evaluations of ``steps`` steps."""
        return steps


class Stochastic(Sampler):
    """Base of samplers that add fresh noise after every step but the last, which returns the clean estimate."""

    stochastic = True

    def diffuse(self, denoise: Denoise, z: Tensor, sigmas: Tensor, fresh: Fresh) -> Tensor:
        for i, (sigma, after) in enumerate(pairwise(sigmas), start=1):
            clean = denoise(z, sigma.to(z.dtype))
            if after == 0:
                return clean
            z = self.step(z, clean, sigma, after, fresh(i).to(z))
        return z

    def step(self, z: Tensor, clean: Tensor, sigma: Tensor, after: Tensor, noise: Tensor) -> Tensor:
        """From z at sigma to z at after, both float64 scalars, with the clean estimate and white noise."""
        raise NotImplementedError
