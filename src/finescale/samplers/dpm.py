"""Second-order multistep solver."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from finescale.samplers.base import Denoise, Sampler


class DPM2M(Sampler):
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), with lambda = −ln sigma, h = lambda' − lambda, r = h_before / h:

        D̃ = D + (D − D_before)/(2r),      z' = (sigma'/sigma) z + (1 − e^(−h)) D̃

    One evaluation a step, second order; first and last steps are of first order.
    """

    order = 2

    def integrate(self, denoise: Denoise, z: Tensor, sigmas: Tensor) -> Tensor:
        dtype = z.dtype
        before: tuple[Tensor, Tensor] | None = None
        for sigma, after in pairwise(sigmas):
            clean = denoise(z, sigma.to(dtype))
            if after == 0:
                return clean
            h = (sigma / after).log()
            blend = clean
            if before is not None:
                clean_before, h_before = before
                blend = clean + (h / (2 * h_before)).to(dtype) * (clean - clean_before)
            ratio = (after / sigma).to(dtype)
            z = ratio * z + (1 - ratio) * blend
            before = clean, h
        return z
