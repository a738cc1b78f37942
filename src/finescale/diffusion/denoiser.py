"""The denoiser: a backbone under EDM preconditioning (Karras et al. 2022, table 1, sigma_data = 1).

    D(z; sigma) = c_skip z + c_out F(c_in z; c_noise),
    c_skip = 1/(1 + sigma²)    c_out = sigma/sqrt(1 + sigma²)    c_in = 1/sqrt(1 + sigma²)    c_noise = ln(sigma)/4

so that the input and the target of the network F have unit variance at every noise level. The loss
λ(sigma) |D − z|² with λ = (1 + sigma²)/sigma² is the plain squared error of F.

A network that predicts the noise (Ho et al. 2020), ε = (z − clean)/sigma, is the same with

    c_skip = 1    c_out = −sigma,      D = z − sigma F,      the loss the squared error of ε

An error e of F then is an error sigma·e of D: at much noise ε is nearly the input, and the clean latent the small
difference of two large numbers. At sigma = 70 an error of .01 leaves the clean latent unknown; the EDM preconditioning,
whose c_out is at most 1, has no such fault.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Denoiser(nn.Module):
    """Predicts the clean latent from latent + sigma·noise.

    Args:
        backbone: F(z, embedding, cond); see `finescale.backbones`.
        embedding: number of sinusoidal features of c_noise; features of the factor come after them.
    """

    frequencies: Tensor

    def __init__(self, backbone: nn.Module, embedding: int) -> None:
        super().__init__()
        self.backbone = backbone
        # c_noise spans about [-1.6, 1.1] for sigma in [0.002, 80].
        self.register_buffer("frequencies", 2 ** torch.linspace(-1, 5, embedding // 2), persistent=False)

    def c_skip(self, sigma: Tensor) -> Tensor:
        return 1 / (1 + sigma.square())

    def c_out(self, sigma: Tensor) -> Tensor:
        return sigma / (1 + sigma.square()).sqrt()

    def c_in(self, sigma: Tensor) -> Tensor:
        return 1 / (1 + sigma.square()).sqrt()

    def embed(self, sigma: Tensor) -> Tensor:
        """(B,) noise levels -> (B, embedding) features of c_noise, of unit mean square."""
        angle = sigma.log()[:, None] / 4 * self.frequencies * math.pi
        return torch.cat([angle.cos(), angle.sin()], dim=1) * 2**0.5

    def network(self, z: Tensor, sigma: Tensor, cond: Tensor, scalars: Tensor | None = None) -> Tensor:
        """F(c_in z; c_noise) in float32."""
        wide, embedding = sigma.reshape(-1, 1, 1, 1, 1), self.embed(sigma)
        embedding = embedding if scalars is None else torch.cat([embedding, scalars], dim=1)
        return self.backbone(self.c_in(wide) * z, embedding, cond).float()

    def forward(self, z: Tensor, sigma: Tensor, cond: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Clean estimate.

        Args:
            z: (B, K, T', H', W') noisy latent.
            sigma: (B,) noise levels.
            cond: (B, Kc, T', H', W') conditioning fields at latent resolution.
            scalars: (B, S) features of the factor, where the model serves several.
        """
        wide = sigma.reshape(-1, 1, 1, 1, 1)
        return self.c_skip(wide) * z + self.c_out(wide) * self.network(z, sigma, cond, scalars)

    def loss(
        self,
        clean: Tensor,
        sigma: Tensor,
        noise: Tensor,
        cond: Tensor,
        weight: Tensor | None = None,
        scalars: Tensor | None = None,
        penalty: Callable[[Tensor, Tensor], Tensor] | None = None,
        count: Tensor | None = None,
    ) -> Tensor:
        """Weighted mean of λ(sigma) (D(clean + sigma·noise) − clean)², and the penalty.

        Args:
            clean: (B, K, T', H', W') latent.
            sigma: (B,) noise levels.
            noise: white noise of unit variance, the shape of clean.
            cond: (B, Kc, T', H', W') conditioning fields.
            weight: (B, 1, T', H', W'), 0 where the latent is unknown; None for equal weights.
            scalars: (B, S) features of the factor, where the model serves several.
            penalty: penalty(D, sigma) on the clean estimate, added to the loss.
            count: what the weighted sum is divided by; None for the sum of the weights.
        """
        wide = sigma.reshape(-1, 1, 1, 1, 1)
        error = self.mismatch(clean, clean + wide * noise, sigma, cond, scalars)
        square = error.square().mean(1, keepdim=True)
        weight = torch.ones_like(square) if weight is None else weight
        loss = (square * weight).sum() / (weight.sum().clamp_min(1) if count is None else count)
        return loss if penalty is None else loss + penalty(clean + self.c_out(wide) * error, sigma)

    def mismatch(self, clean: Tensor, z: Tensor, sigma: Tensor, cond: Tensor, scalars: Tensor | None = None) -> Tensor:
        """(D(z; sigma) − clean)/c_out, the error of the network F; shapes as in `forward`."""
        wide = sigma.reshape(-1, 1, 1, 1, 1)
        target = (clean - self.c_skip(wide) * z) / self.c_out(wide)
        return self.network(z, sigma, cond, scalars) - target


class EpsilonDenoiser(Denoiser):
    """D = z − sigma F, F the noise ε (Ho et al. 2020). Arguments and methods as in `Denoiser`."""

    def c_skip(self, sigma: Tensor) -> Tensor:
        return torch.ones_like(sigma)

    def c_out(self, sigma: Tensor) -> Tensor:
        return -sigma
