"""A variance without sampling: a network that says how uncertain the mean network is, in coefficient space.

With z the whitened latent of the residual y − mu, its channels k and positions p are taken as independent Gaussians,

    z_kp ~ N(0, v_kp),      v = exp(s),      s = b tanh(F(fold(cond, mu)) / b),      b = LIMIT

with F a network that starts at zero, so that v starts at 1, the variance of the whitened latent. F minimises, with
w = z/√v the standardised error, either

    nll     ½ (s + z²/v)                                              −ln of the density, up to a constant
    crps    √v (w (2Φ(w) − 1) + 2φ(w) − 1/√π)                         closed form of Gneiting et al. 2005

Both are proper: the expected loss is smallest at the true variance. (Ours: the papers take the variance from samples.)
What becomes of v in the fine field is in `finescale.model.covariance`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

LIMIT = 10.0
"""Bound of |s|: standard deviations stay within a factor of e⁵ = 150 of those of the whole data."""


class VarianceHead(nn.Module):
    """v(fold(cond, mu)), the variance of each coefficient of the residual.

    Args:
        backbone: F, a network on conditioning fields (B, Kc, T', H', W') at latent resolution, whose last layer is zero
            at the start.
        loss: nll, the Gaussian likelihood; or crps, which gives outliers less weight.
    """

    def __init__(self, backbone: nn.Module, loss: Literal["nll", "crps"] = "nll") -> None:
        super().__init__()
        self.backbone, self.kind = backbone, loss

    def forward(self, folded: Tensor, scalars: Tensor | None = None) -> Tensor:
        """s = ln v, (B, K, T', H', W'), within ±LIMIT.

        Args:
            folded: (B, Kc, T', H', W') conditioning fields and mean at latent resolution.
            scalars: (B, S) features of the factor, where the model serves several.
        """
        return LIMIT * torch.tanh(self.backbone(folded, scalars).float() / LIMIT)

    def loss(
        self,
        z: Tensor,
        folded: Tensor,
        weight: Tensor | None = None,
        scalars: Tensor | None = None,
        count: Tensor | None = None,
    ) -> Tensor:
        """Weighted mean of the score of N(0, v) for z.

        Args:
            z: (B, K, T', H', W') whitened latent of the residual, 0 where the residual is.
            folded: as in `forward`.
            weight: (B, 1, T', H', W'), 0 where the latent is unknown; None for equal weights.
            scalars: as in `forward`.
            count: what the weighted sum is divided by; None for the sum of the weights.
        """
        score = gaussian_nll if self.kind == "nll" else gaussian_crps
        found = score(z, self(folded, scalars)).mean(1, keepdim=True)
        weight = torch.ones_like(found) if weight is None else weight
        return (found * weight).sum() / (weight.sum().clamp_min(1) if count is None else count)


def gaussian_nll(error: Tensor, log_variance: Tensor) -> Tensor:
    """½ (s + e²/v): −ln of the density of N(0, v) at e, without ½ ln 2π; elementwise."""
    return 0.5 * (log_variance + error.square() * (-log_variance).exp())


def gaussian_crps(error: Tensor, log_variance: Tensor) -> Tensor:
    """√v (w (2Φ(w) − 1) + 2φ(w) − 1/√π), w = e/√v: the CRPS of N(0, v) at e, in units of e; elementwise."""
    std = (0.5 * log_variance).exp()
    w = error / std
    density = (-0.5 * w.square()).exp() / math.sqrt(2 * math.pi)
    return std * (w * torch.erf(w / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))
