"""Closed-form propagation of a latent covariance Σ to the fine field, without sampling.

The decoder is affine, y = mu + L z + const, and so is the additive constraint, x = N y + U c with N = I − U A
(`finescale.constraints.additive`). Hence

    Var[y] = diag(L Σ Lᵀ),        Var[x] = diag(N L Σ Lᵀ Nᵀ)

For a low-rank Σ = Σ_r f_r f_rᵀ (member anomalies divided by √(M − 1)) every column L f_r goes through N. For a diagonal
Σ = diag(v) decoded cells are correlated, and with y_i in block b of weights a (A's row)

    Var[x_i] = Var[y_i] − 2 c_i + Σ_{j in b} a_j c_j,      c_i = Cov(y_i, (A y)_b) = (L diag(v) Lᵀ a)_i

Blocks whose cells share no coefficient do not enter each other's c, so one pass through Lᵀ and L serves all blocks of
one colour, as with sparse Jacobians (Curtis, Powell & Reid 1974): one colour is enough where the block is a multiple
of the patch, about (1 + reach/block)³ otherwise. Both results are exact up to rounding. Nothing is clipped before the
end, for a clipped field is no longer linear in z. (Ours; PODiff, arXiv 2605.03399, has Var[y] from members alone.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from finescale.grids.factor import Factor
from finescale.grids.windows import Triple
from finescale.latents.base import LinearLatentSpace
from finescale.operators.coarsen import Coarsen


@dataclass(frozen=True)
class Decoder:
    """L: whitened latent (B, K, T', H', W') -> residual (B, C, T, H, W) without its constant part.

    Attributes:
        latent: the latent space.
        size: (T, H, W) that the decoded field is cut to; the latent may cover more.
        gain: (K, 1, 1, 1), what the latent was divided by besides; None for 1.
        rest_scale: what the standard deviation of what the latent leaves out is multiplied by; None for 1.
    """

    latent: LinearLatentSpace
    size: Triple
    gain: Tensor | None = None
    rest_scale: Tensor | None = None

    def __call__(self, z: Tensor) -> Tensor:
        """L z."""
        return self._cut(self.latent.synthesis(self._scaled(z) * self.latent.scale))

    def adjoint(self, weights: Tensor, like: Tensor) -> Tensor:
        """Lᵀ w for weights (B, C, T, H, W), in the shape of the latent ``like``."""
        with torch.enable_grad():
            z = torch.zeros_like(like, requires_grad=True)
            (found,) = torch.autograd.grad(self(z), z, weights)
        return found

    def variance(self, variance: Tensor) -> Tensor:
        """diag(L diag(v) Lᵀ) for v (B, K, T', H', W')."""
        return self._cut(self.latent.decode_variance(self._scaled(self._scaled(variance))))

    def truncated(self) -> Tensor:
        """Variance (C, T, H, W), or a single 0, of what the latent leaves out."""
        t, height, width = (-(-n // s) * s for n, s in zip(self.size, self.latent.stride, strict=True))
        found = self.latent.truncated((t, height, width))
        if not found.ndim:
            return found
        return self._cut(found if self.rest_scale is None else found * self.rest_scale.square())

    def reach(self, like: Tensor) -> list[tuple[int, int]]:
        """First and last fine cell (t, y, x) that a latent cell changes, counted from the first of its own."""
        cells = like.shape[-3:]
        centre = [n // 2 for n in cells]
        unit = torch.zeros(1, like.shape[1], *cells, dtype=like.dtype, device=like.device)
        unit[..., centre[0], centre[1], centre[2]] = 1
        changed = self.latent.decode_variance(unit)[0].sum(0)
        found = []
        for axis, (at, stride) in enumerate(zip(centre, self.latent.stride, strict=True)):
            along = changed.movedim(axis, 0).flatten(1).amax(1)
            touched = (along > 1e-12 * along.amax()).nonzero()
            found.append((int(touched.min()) - at * stride, int(touched.max()) - at * stride))
        return found

    def _scaled(self, z: Tensor) -> Tensor:
        return z if self.gain is None else z * self.gain

    def _cut(self, x: Tensor) -> Tensor:
        t, height, width = self.size
        return x[..., :t, :height, :width]


def low_rank(decoder: Decoder, factor: Tensor, operators: Coarsen | None = None) -> Tensor:
    """Variance (B, C, T, H, W) for Σ = Σ_r factor_r factor_rᵀ, exact.

    Args:
        decoder: L.
        factor: (B, R, K, T', H', W').
        operators: A and U of an additive constraint; None without one.
    """
    total: Tensor | None = None
    for column in factor.unbind(1):
        x = decoder(column)
        x = x if operators is None else x - operators.replicate(operators.average(x))
        total = x.square() if total is None else total + x.square()
    assert total is not None
    return total


def diagonal(decoder: Decoder, variance: Tensor, operators: Coarsen | None = None) -> Tensor:
    """Variance (B, C, T, H, W) for a diagonal Σ, exact.

    Args:
        decoder: L.
        variance: (B, K, T', H', W').
        operators: A and U of an additive constraint; None without one.
    """
    total = decoder.variance(variance)
    if operators is None or operators.factor.cells == 1:
        return total if operators is None else torch.zeros_like(total)
    weight = operators.weight(total)
    # A block without a valid cell has no weights, but shares coefficients with its neighbours, which have.
    weight = (weight / operators.replicate(operators.sums(weight))).nan_to_num().expand_as(total)
    common = torch.zeros_like(total)
    for channel in range(total.shape[1]):
        for chosen in _colours(decoder, variance, operators.factor):
            mask = operators.replicate(chosen.to(total))
            one = torch.zeros_like(total)
            one[:, channel] = weight[:, channel] * mask
            common[:, channel] += decoder(variance * decoder.adjoint(one, variance))[:, channel] * mask
    return (total - 2 * common + operators.replicate(operators.average(common))).clamp_min(0)


def independent(variance: Tensor, operators: Coarsen) -> Tensor:
    """diag(N V Nᵀ) for a diagonal V in the fine field: v_i (1 − 2a_i) + Σ_j a_j² v_j; shapes (B, C, T, H, W)."""
    weight = operators.weight(variance)
    weight = weight / operators.replicate(operators.sums(weight))
    return variance * (1 - 2 * weight) + operators.replicate(operators.sums(weight.square() * variance))


def _colours(decoder: Decoder, like: Tensor, factor: Factor) -> Iterator[Tensor]:
    """Masks (t, h, w) of coarse cells that together cover the plane, in each of which no two share a coefficient."""
    blocks = [n // f for n, f in zip(decoder.size, factor, strict=True)]
    reaches = decoder.reach(like)
    lengths = zip(blocks, factor, decoder.latent.stride, reaches, strict=True)
    for rows in product(*(_classes(n, _distance(f, stride, *reach)) for n, f, stride, reach in lengths)):
        mask = torch.zeros(blocks, device=like.device)
        t, y, x = (torch.tensor(row, device=like.device) for row in rows)
        mask[t[:, None, None], y[:, None], x] = 1
        yield mask


def _classes(n: int, distance: int) -> list[list[int]]:
    """Indices 0 ... n − 1 in classes whose members are at least ``distance`` apart, also around the border."""
    whole = n - n % distance
    return [list(range(first, whole, distance)) for first in range(min(distance, whole))] + [
        [last] for last in range(whole, n)
    ]


def _distance(block: int, stride: int, first: int, last: int) -> int:
    """How many coarse cells apart two blocks must be to share no coefficient that changes fine cells first ... last."""
    if first >= 0 and last < stride:
        distance = 1
        starts = range(stride // math.gcd(stride, block))
        while any((b * block + block - 1) // stride >= (b + distance) * block // stride for b in starts):
            distance += 1
        return distance
    return 1 - (first - last) // block


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
