"""Samplers integrate the probability-flow equation of a denoiser from noise to a clean latent.

    dz/dsigma = (z − D(z; sigma)) / sigma,      z(sigma_max) = sigma_max · noise        (Karras et al. 2022, eq. 1)

They see only the function denoise(z, sigma) and the noise levels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]


class Sampler:
    """Base of all samplers."""

    order = 1

    def __call__(self, denoise: Denoise, noise: Tensor, sigmas: Tensor) -> Tensor:
        """Sample.

        Args:
            denoise: clean estimate D(z, sigma) for z of any shape and a scalar sigma tensor.
            noise: white noise of unit variance, the shape of z.
            sigmas: (N + 1,) falling noise levels that end with 0.

        Returns:
            The clean latent, the shape and number type of noise.
        """
        levels = sigmas.to(noise.device, torch.float64)
        return self.integrate(denoise, noise * levels[0].to(noise.dtype), levels)

    def integrate(self, denoise: Denoise, z: Tensor, sigmas: Tensor) -> Tensor:
        """From z at sigmas[0] to z at sigmas[-1]; sigmas are float64."""
        raise NotImplementedError

    def nfe(self, steps: int) -> int:
        """Network evaluations of ``steps`` steps."""
        return steps
