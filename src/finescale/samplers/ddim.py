"""Deterministic to ancestral steps."""

from __future__ import annotations

from torch import Tensor

from finescale.ranges import Share
from finescale.samplers.base import Denoise, Stochastic
from finescale.samplers.euler import Euler


class DDIM(Stochastic):
    """Steps with a chosen share of fresh noise (Song, Meng & Ermon 2021, eq. 12 and 16). In z_vp = z/sqrt(1 + sigma²)

        z_vp' = sqrt(ᾱ') D + sqrt(1 − ᾱ' − s²) ε + s · noise,      ε = (z − D)/sigma
        s = η sqrt((1 − ᾱ')/(1 − ᾱ)) sqrt(1 − ᾱ/ᾱ')

    which, with ᾱ = 1/(1 + sigma²) and divided by sqrt(ᾱ'), is

        z' = D + sqrt(sigma'² − up²) (z − D)/sigma + up · noise,      up = η sigma' sqrt(1 − sigma'²/sigma²)

    η = 0 is the Euler step of the probability-flow equation and needs no noise; η = 1 is the ancestral step of DDPM.
    One evaluation a step, error O(h).

    Args:
        eta: η, 0 to 1.

    Raises:
        ValueError: unless 0 <= eta <= 1.
    """

    stochastic = False

    def __init__(self, eta: Share = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must be from 0 to 1, not {eta}")
        self.eta, self.stochastic = eta, eta > 0

    def integrate(self, denoise: Denoise, z: Tensor, sigmas: Tensor) -> Tensor:
        return Euler().integrate(denoise, z, sigmas)

    def step(self, z: Tensor, clean: Tensor, sigma: Tensor, after: Tensor, noise: Tensor) -> Tensor:
        up = self.eta * after * (1 - (after / sigma).square()).sqrt()
        kept = (after.square() - up.square()).sqrt() / sigma
        return clean + kept.to(z.dtype) * (z - clean) + up.to(z.dtype) * noise
