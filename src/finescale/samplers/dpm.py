"""Second-order multistep solver."""

from __future__ import annotations

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
        before, h_before = None, None
        for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
            clean = denoise(z, sigma.to(dtype))
            if after == 0:
                return clean
            h = (sigma / after).log()
            blend = clean if before is None else clean + (h / (2 * h_before)).to(dtype) * (clean - before)
            ratio = (after / sigma).to(dtype)
            z = ratio * z + (1 - ratio) * blend
            before, h_before = clean, h
        return z
