"""Tweedie's formula: the posterior that a denoiser implies."""

from __future__ import annotations

import torch

from finescale.diffusion.tweedie import posterior


def test_tweedie_on_gaussian_data_is_the_posterior() -> None:
    """D(z) = S(S + sigma²)⁻¹ z: the covariance of x given z is S sigma²/(S + sigma²), here diagonal."""
    s = torch.rand(1, 3, 1, 4, 4, dtype=torch.float64) * 2
    sigma = torch.tensor(1.7, dtype=torch.float64)
    z, signs = torch.randn(5, 3, 1, 4, 4, dtype=torch.float64), torch.randn(5, 3, 1, 4, 4, dtype=torch.float64).sign()
    clean, variance = posterior(lambda z, sigma: s / (s + sigma**2) * z, z, sigma, signs)
    torch.testing.assert_close(clean, s / (s + sigma**2) * z)
    torch.testing.assert_close(variance, (s * sigma**2 / (s + sigma**2)).expand(5, -1, -1, -1, -1))
    # Coupled coefficients: right on average over signs, here over all 2³ of them.
    root = torch.randn(3, 3, dtype=torch.float64)
    covariance = root @ root.T
    gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(3))
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3).reshape(8, 3, 1, 1, 1)
    _, found = posterior(lambda z, _: torch.einsum("kl,bl...->bk...", gain, z), torch.zeros_like(every), sigma, every)
    torch.testing.assert_close(found.mean(0).flatten(), (sigma**2 * gain).diagonal())
