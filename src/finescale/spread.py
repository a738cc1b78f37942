"""Mean, standard deviation and quantiles of the fine field, without members in pixel space.

In the transform's space the field is y ~ N(m, s²) in every cell, with s² from `finescale.propagation`. In units it is
x = g(y) for an increasing g, the inverse of the transform:

    linear g       E[x] = g(m),  std x = |g'| s;  the additive constraint acts on all of it, Var[x] = diag(N Σ Nᵀ)
    otherwise      quantile_p(x) = g(m + s Φ⁻¹(p)) exactly;  E[x] and std x by Gauss–Hermite quadrature of NODES nodes

Of other constraints, and of all with another g, only the mean knows (it goes through them), and that dry blocks have no
spread where the constraint keeps zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from finescale.coarsen import Coarsen
from finescale.propagation import Decoder, diagonal, independent, low_rank

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
SOURCES = ("head", "members", "denoiser")
NODES = 16


@dataclass(frozen=True)
class Spread:
    """What is known of the fine field in every cell, in the variable's units; NaN where the coarse cell is.

    Attributes:
        mean: (B, C, T, H, W).
        std: (B, C, T, H, W).
        quantiles: (B, Q, C, T, H, W), at ``levels``.
        levels: Q probabilities.
        source: where the variance is from: head, members or denoiser.
    """

    mean: Tensor
    std: Tensor
    quantiles: Tensor
    levels: tuple[float, ...]
    source: str

    def where(self, condition: Tensor, value: float) -> Spread:
        """``value`` in the cells of a condition (B, 1, T, H, W) or (B, C, T, H, W)."""
        mean, std = (torch.where(condition, value, field) for field in (self.mean, self.std))
        quantiles = torch.where(condition[:, None], value, self.quantiles)
        return Spread(mean, std, quantiles, self.levels, self.source)


@dataclass(frozen=True)
class Moments:
    """A Gaussian latent: its mean and covariance Σ.

    Attributes:
        centre: (B, K, T', H', W'), or None where the mean of the residual is zero in the fine field.
        variance: (B, K, T', H', W') of a diagonal Σ; or
        factor: (B, R, K, T', H', W') of Σ = Σ_r factor_r factor_rᵀ.
    """

    centre: Tensor | None = None
    variance: Tensor | None = None
    factor: Tensor | None = None

    @classmethod
    def of_members(cls, z: Tensor) -> Moments:
        """Mean and anomalies/√(M − 1) of sampled latents (B, M, K, T', H', W')."""
        centre = z.mean(1)
        return cls(centre, factor=(z - centre[:, None]) / (z.shape[1] - 1) ** 0.5)

    def field_variance(self, decoder: Decoder, operators: Coarsen | None) -> Tensor:
        """(B, C, T, H, W) in the transform's space, with what a truncated latent leaves out.

        Args:
            decoder: L.
            operators: A and U of an additive constraint; None without one.
        """
        if self.factor is not None:
            found = low_rank(decoder, self.factor, operators)
        else:
            assert self.variance is not None
            found = diagonal(decoder, self.variance, operators)
        left_out = decoder.truncated()
        if not bool(left_out.any()):
            return found
        left_out = left_out.expand(found.shape).to(found)
        return found + (left_out if operators is None else independent(left_out, operators))


def gaussian(
    mean: Tensor, std: Tensor, inverse: Callable[[Tensor], Tensor], source: str, levels: Sequence[float] = LEVELS
) -> Spread:
    """N(mean, std²) of the transform's space through a linear inverse; ``mean`` is in units already.

    Args:
        mean: (B, C, T, H, W) in units, after the constraint.
        std: (B, C, T, H, W) in the transform's space.
        inverse: transform's space -> units.
        source: where the variance is from.
        levels: probabilities of the quantiles.
    """
    std = inverse(std) - inverse(torch.zeros_like(std))
    quantiles = torch.stack([mean + std * NormalDist().inv_cdf(level) for level in levels], 1)
    return Spread(mean, std, quantiles, tuple(levels), source)


def transformed(
    mean: Tensor, std: Tensor, inverse: Callable[[Tensor], Tensor], source: str, levels: Sequence[float] = LEVELS
) -> Spread:
    """N(mean, std²) of the transform's space through any increasing inverse; arguments as in `gaussian`, mean in y."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    values = [inverse(mean + std * float(node)) for node in nodes]
    first, square = torch.zeros_like(mean), torch.zeros_like(mean)
    for x, weight in zip(values, weights, strict=True):
        first += float(weight) * x
    for x, weight in zip(values, weights, strict=True):
        square += float(weight) * (x - first).square()
    quantiles = torch.stack([inverse(mean + std * NormalDist().inv_cdf(level)) for level in levels], 1)
    return Spread(first, square.sqrt(), quantiles, tuple(levels), source)


def comment(source: str, members: int, linear: bool, constrained: bool, additive: bool) -> str:
    """What a file says of its standard deviation: the source, and what is propagated.

    Args:
        source: head, members or denoiser.
        members: latents that a variance from members is estimated from.
        linear: whether the transform is.
        constrained: whether the model has a constraint.
        additive: whether the variance goes through it.
    """
    origin = {
        "head": "the variance head, coefficients independent, no sampling",
        "members": f"{members} sampled latents, correlations between cells included",
        "denoiser": "the posterior variance of the denoiser at high noise (Tweedie), coefficients independent",
    }[source]
    through = "in closed form through the decoder" + (" and the additive constraint" if additive else "")
    if not linear:
        through += "; through the transform by quantiles and quadrature"
    if constrained and not additive:
        through += "; the constraint acts on the mean alone"
    return f"variance from {origin}; propagated {through}"
