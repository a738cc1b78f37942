"""First-order solver."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from finescale.samplers.base import Denoise, Sampler


class Euler(Sampler):
    """z' = D + (sigma'/sigma)(z − D): one evaluation a step, error O(h). The same map as deterministic DDIM."""

    def integrate(self, denoise: Denoise, z: Tensor, sigmas: Tensor) -> Tensor:
        dtype = z.dtype
        for sigma, after in pairwise(sigmas):
            clean = denoise(z, sigma.to(dtype))
            z = clean + (after / sigma).to(dtype) * (z - clean)
        return z
