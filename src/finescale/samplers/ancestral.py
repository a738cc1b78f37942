"""First-order stochastic sampler."""

from __future__ import annotations

from torch import Tensor

from finescale.samplers.base import Stochastic


class Ancestral(Stochastic):
    """z' = D + (sigma_down/sigma)(z − D) + sigma_up · noise: Euler to sigma_down, then fresh noise up to sigma', with

        sigma_up² = sigma'² (sigma² − sigma'²)/sigma²,      sigma_down² = sigma'² − sigma_up² = (sigma'²/sigma)²

    so z' is drawn from the Gaussian q(z' | z, clean = D). In the variable z_vp = z/sqrt(1 + sigma²) of a
    variance-preserving process, where ᾱ = 1/(1 + sigma²), this is the reverse step of DDPM with its posterior variance

        β̃ = (1 − ᾱ')/(1 − ᾱ) · (1 − ᾱ/ᾱ')                                     (Ho et al. 2020, eq. 6 and 7)

    One evaluation a step. The draw has the variance of the data only in the limit of many steps, error O(h).
    """

    def step(self, z: Tensor, clean: Tensor, sigma: Tensor, after: Tensor, noise: Tensor) -> Tensor:
        ratio = (after / sigma).square()
        up = after * (1 - ratio).sqrt()
        return clean + ratio.to(z.dtype) * (z - clean) + up.to(z.dtype) * noise
