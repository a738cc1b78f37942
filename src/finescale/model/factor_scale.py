"""How much of the fine field a factor leaves open: the latent's standard deviation as a function of the factor.

A model of one factor whitens its latent once and for all. Between ×2 and ×25 the residual varies by an order of
magnitude, each latent channel in its own way, so a model of many factors divides channel k by

    g_k(f) = exp Σ_j c_kj φ_j(f),      φ = (1, a, s, a², as, s²),      a = ln ft,  s = ½ ln(fy·fx)

with c fitted by least squares to ln std of training residuals at many factors. (Ours; the papers retrain a factor.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from finescale.grids.factor import Factor

LEAST = 1e-3
"""Smallest standard deviation that is fitted, relative to the largest: below it a channel is known from the coarse."""


class FactorScale(nn.Module):
    """g(f), (K, 1, 1, 1); 1 until it is fitted.

    Args:
        channels: K, channels of the latent.
    """

    coefficients: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("coefficients", torch.zeros(channels, 6))

    def forward(self, factor: Factor) -> Tensor:
        features = torch.tensor(_features(factor), dtype=self.coefficients.dtype, device=self.coefficients.device)
        return (self.coefficients @ features).exp()[:, None, None, None]

    def fit(self, factors: Sequence[Factor], stds: Tensor) -> None:
        """Fit to the standard deviations (N, K) of latents at N factors."""
        a = torch.tensor([_features(factor) for factor in factors], dtype=torch.float64)
        b = stds.double().cpu().clamp_min(LEAST * float(stds.max()) + 1e-12).log()
        # The smallest coefficients where several fit, as when the factors vary in space alone.
        self.coefficients.copy_(torch.linalg.lstsq(a, b, driver="gelsd").solution.T.to(self.coefficients))


def _features(factor: Factor) -> list[float]:
    a, s = math.log(factor.time), 0.5 * math.log(factor.y * factor.x)
    return [1.0, a, s, a * a, a * s, s * s]


SCALARS = 24
"""Features of the factor that the networks of a many-factor model take."""


def factor_features(factor: Factor, device: torch.device) -> Tensor:
    """(1, SCALARS): cos(πku) and sin(πku) of u = ln f/ln 25 along time, y and x, k = ½, 1, 2, 4."""
    u = torch.tensor([math.log(f) / math.log(25) for f in factor], device=device)
    angle = (u[:, None] * torch.tensor([0.5, 1.0, 2.0, 4.0], device=device) * math.pi).flatten()
    return torch.cat([angle.cos(), angle.sin()])[None]
