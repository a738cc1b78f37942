"""Posterior variance of a denoiser (Tweedie's formula, second order).

For z = x + sigma·noise with noise of covariance C the best denoiser is D(z) = E[x | z], and

    Cov[x | z] = sigma² ∂D/∂z C                                            (Efron 2011; Manor & Michaeli 2024)

Its diagonal is estimated with random signs e (Hutchinson 1990), E[e ⊙ C (∂D/∂z)ᵀ e]. For white noise, C = 1, under EDM
preconditioning D = c_skip z + c_out F, the part of c_skip comes out without error, for e ⊙ e = 1:

    diag Cov = sigma² (c_skip + c_out e ⊙ (∂F/∂z)ᵀ e)

so only what the network adds is estimated. At high noise z says nearly nothing, and the posterior is that of the
conditions alone: for x ~ N(0, S) it is S sigma²/(S + sigma²), short of S by a share of S/(S + sigma²).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def posterior(
    denoise: Callable[[Tensor, Tensor], Tensor],
    z: Tensor,
    sigma: Tensor,
    signs: Tensor,
    covariance: Callable[[Tensor], Tensor] = lambda x: x,
) -> tuple[Tensor, Tensor]:
    """E[x | z] and an unbiased estimate of diag Cov[x | z], both in the shape of z.

    Args:
        denoise: denoise(z, sigma), differentiable; in float32, for errors of D are multiplied by sigma².
        z: (B, K, T', H', W') noisy latent.
        sigma: scalar noise level.
        signs: e, ±1 with equal chance and independent, the shape of z.
        covariance: x -> C x, the covariance of the noise, where it is not white.
    """
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        clean = denoise(z, sigma)
        (product,) = torch.autograd.grad(clean, z, signs)
    return clean.detach(), sigma.square() * signs * covariance(product)
