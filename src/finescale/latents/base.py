"""Latent spaces: where the diffusion model works.

A latent space turns a fine field (B, C, T, H, W) into coefficients (B, K, T', H', W') by an analysis S and back by a
synthesis S⁻¹, and whitens them channel by channel:

    z = (S x − shift) / scale          x = S⁻¹(z · scale + shift)

so that a denoiser can take sigma_data = 1. shift and scale are fitted and kept as buffers.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from finescale.errors import InputError


class LatentSpace(nn.Module):
    """Base of all latent spaces.

    Attributes:
        channels: K, coefficients a latent position.
        stride: fine cells a latent cell along (t, y, x).
        exact: whether decode(encode(x)) = x.
    """

    exact = True
    shift: Tensor
    scale: Tensor

    def __init__(self, channels: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride
        self.register_buffer("shift", torch.zeros(channels, 1, 1, 1))
        self.register_buffer("scale", torch.ones(channels, 1, 1, 1))

    def analysis(self, x: Tensor) -> Tensor:
        """S: (B, C, T, H, W) -> (B, K, T', H', W')."""
        raise NotImplementedError

    def synthesis(self, c: Tensor) -> Tensor:
        """S⁻¹: (B, K, T', H', W') -> (B, C, T, H, W)."""
        raise NotImplementedError

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fit shift and scale so that `encode` has zero mean and unit variance in every channel."""
        count, total, square = (
            0,
            torch.zeros(self.channels, dtype=torch.float64),
            torch.zeros(self.channels, dtype=torch.float64),
        )
        for x in batches:
            c = self.analysis(x).double().transpose(0, 1).flatten(1).cpu()
            count += c.shape[1]
            total += c.sum(1)
            square += c.square().sum(1)
        mean = total / count
        std = (square / count - mean.square()).clamp_min(0).sqrt()
        self.shift.copy_(mean.to(self.shift)[:, None, None, None])
        # A channel that never varies (a level no data reaches) must not be blown up by its rounding noise.
        self.scale.copy_(std.clamp_min(1e-4 * float(std.max()) + 1e-12).to(self.scale)[:, None, None, None])

    def encode(self, x: Tensor) -> Tensor:
        """Fine (B, C, T, H, W) -> whitened latent (B, K, T', H', W')."""
        return (self.analysis(x) - self.shift) / self.scale

    def decode(self, z: Tensor) -> Tensor:
        """Whitened latent (B, K, T', H', W') -> fine (B, C, T, H, W)."""
        return self.synthesis(z * self.scale + self.shift)

    def fold(self, x: Tensor) -> Tensor:
        """Conditioning fields (B, C, T, H, W) at latent resolution (B, C·st·sy·sx, T', H', W'), by space-to-depth."""
        return space_to_depth(x, self.stride)

    def details(self, z: Tensor) -> list[Tensor]:
        """Detail bands of a latent (B, K, T', H', W'), each on its own grid; none where it has no such thing."""
        return []

    def coverage(self, known: Tensor) -> Tensor:
        """The share (B, 1, T', H', W') of known fine cells (B, 1, T, H, W) under each latent cell."""
        return space_to_depth(known, self.stride).mean(1, keepdim=True)


class LinearLatentSpace(LatentSpace):
    """A latent space with a linear synthesis, through which variance propagates in closed form."""

    def synthesis_squared(self, variance: Tensor) -> Tensor:
        """Σ_k S⁻¹[i, k]² variance_k: diag(S⁻¹ Σ S⁻ᵀ) for a diagonal Σ, shapes as in `synthesis`."""
        raise NotImplementedError

    def decode_variance(self, variance: Tensor | None = None, *, factor: Tensor | None = None) -> Tensor:
        """Variance of the decoded field for a latent covariance Σ.

        Args:
            variance: (B, K, T', H', W'), a diagonal Σ; or
            factor: (B, R, K, T', H', W'), a low-rank Σ = Σ_r factor_r factor_rᵀ (e.g. member anomalies / √(M − 1)).

        Returns:
            (B, C, T, H, W): diag(S⁻¹ D Σ D S⁻ᵀ), D = diag(scale).
        """
        if (variance is None) == (factor is None):
            raise ValueError("decode_variance takes either a variance or a low-rank factor")
        if variance is not None:
            return self.synthesis_squared(variance * self.scale.square())
        assert factor is not None
        decoded = [self.synthesis(column * self.scale) for column in factor.unbind(1)]
        return torch.stack(decoded).square().sum(0)


def space_to_depth(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """(B, C, T, H, W) -> (B, C·st·sy·sx, T/st, H/sy, W/sx); the inverse is `depth_to_space`."""
    b, c, *size = x.shape
    if any(n % s for n, s in zip(size, stride, strict=True)):
        raise InputError(f"a window of {tuple(size)} cells does not divide by the latent stride {stride}")
    (t, h, w), (st, sy, sx) = (tuple(n // s for n, s in zip(size, stride, strict=True)), stride)
    x = x.reshape(b, c, t, st, h, sy, w, sx).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(b, c * st * sy * sx, t, h, w)


def depth_to_space(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """(B, C·st·sy·sx, t, h, w) -> (B, C, st·t, sy·h, sx·w)."""
    b, k, t, h, w = x.shape
    st, sy, sx = stride
    c = k // (st * sy * sx)
    x = x.reshape(b, c, st, sy, sx, t, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(b, c, t * st, h * sy, w * sx)
