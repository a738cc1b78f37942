"""Second-order predictor-corrector."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from finescale.samplers.base import Denoise, Sampler


class Heun(Sampler):
    """The trapezoidal rule on dz/dsigma, Euler for the last step to 0 (Karras et al. 2022, algorithm 1).

    2N − 1 evaluations for N steps.
    """

    order = 2

    def integrate(self, denoise: Denoise, z: Tensor, sigmas: Tensor) -> Tensor:
        dtype = z.dtype
        for sigma, after in pairwise(sigmas):
            step = (after - sigma).to(dtype)
            slope = (z - denoise(z, sigma.to(dtype))) / sigma.to(dtype)
            guess = z + step * slope
            if after > 0:
                slope = (slope + (guess - denoise(guess, after.to(dtype))) / after.to(dtype)) / 2
                guess = z + step * slope
            z = guess
        return z

    def nfe(self, steps: int) -> int:
        return 2 * steps - 1
