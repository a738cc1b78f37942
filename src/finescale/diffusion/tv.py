"""Total variation of detail coefficients: against speckle in wavelet diffusion (arXiv 2507.01354).

The loss is score matching plus λ · TV, with TV of the detail bands of the clean (Tweedie) estimate D(z; sigma):

    TV(d) = Σ_{bands} Σ_{i, j} |d[i+1, j] − d[i, j]| + |d[i, j+1] − d[i, j]|,      λ = 1e-5

Ours, where the paper is silent: the variation is anisotropic; a sum over the coefficients of an item, so that
λ = 1e-5 is felt at all beside a mean squared error (and grows with the crop), and a mean over the items; and of
whitened coefficients. At little noise the estimate is nearly the data; at much noise it is the conditional mean, or,
early in training, anything. `reliable` therefore weights an item by 1/(1 + sigma²), the latent's share of the noisy
one's variance.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from finescale.ranges import Positive


class TotalVariation:
    """λ · TV of detail bands.

    Args:
        strength: λ.
        reliable: weight each item by 1/(1 + sigma²).

    Raises:
        ValueError: unless strength > 0.
    """

    def __init__(self, strength: Positive, reliable: bool = False) -> None:
        if not strength > 0:
            raise ValueError(f"the strength of total variation must be positive, not {strength}")
        self.strength, self.reliable = strength, reliable

    def __call__(self, bands: Sequence[Tensor], sigma: Tensor) -> Tensor:
        """Penalty of a batch.

        Args:
            bands: detail bands (B, ., T', H', W') of the clean estimate, each on its own grid.
            sigma: (B,) noise levels of the estimates.
        """
        variation = torch.stack([total_variation(band) for band in bands]).sum(0)
        weight = 1 / (1 + sigma.square()) if self.reliable else torch.ones_like(sigma)
        return self.strength * (weight * variation).mean()


def total_variation(x: Tensor) -> Tensor:
    """(B,): Σ |x[i+1, j] − x[i, j]| + |x[i, j+1] − x[i, j]| over everything but the batch, for x (B, ..., H, W)."""
    along_y, along_x = x.diff(dim=-2).abs(), x.diff(dim=-1).abs()
    return along_y.flatten(1).sum(1) + along_x.flatten(1).sum(1)
