"""Latent spaces: where the diffusion model works.

A latent space turns a fine field (B, C, T, H, W) into coefficients (B, K, T', H', W') by an analysis S and back by a
synthesis S⁻¹, and whitens them channel by channel:

    z = (S x − shift) / scale          x = S⁻¹(z · scale + shift)

so that a denoiser can take sigma_data = 1. shift and scale are fitted and kept as buffers.

Through a linear synthesis the variance of the decoded field is known without a sample: with D = diag(scale) and a
latent covariance Σ

    Var x = diag(S⁻¹ D Σ D S⁻ᵀ) + f

where f is the variance of what the latent leaves out, 0 where it is exact. (PODiff, arXiv 2605.03399; f is ours.)
Nothing is clipped before: a clamped field does not propagate linearly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import product, repeat

import torch
from einops import rearrange
from torch import Tensor, nn

from finescale.errors import InputError

MOST_CHANNELS = 2**16


class LatentSpace(nn.Module):
    """Base of all latent spaces.

    Attributes:
        channels: K, coefficients a latent position.
        stride: fine cells a latent cell along (t, y, x).
        exact: whether decode(encode(x)) = x.
        fixed: whether analysis and synthesis are known without data.

    Raises:
        InputError: for more than `MOST_CHANNELS`.
    """

    exact = True
    fixed = True
    shift: Tensor
    scale: Tensor

    def __init__(self, channels: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        if channels > MOST_CHANNELS:
            raise InputError(f"a latent of {channels} channels is too large: lower its frames, patch or modes")
        self.channels = channels
        self.stride = stride
        self.register_buffer("shift", torch.zeros(channels, 1, 1, 1))
        self.register_buffer("scale", torch.ones(channels, 1, 1, 1))

    @property
    def enough(self) -> int:
        """Fine cells of training data after which more no longer change what is fitted; 0 where a few crops will do."""
        return 0

    def check(self, crops: int, size: tuple[int, int, int]) -> None:
        """Refuse to be fitted to so many crops of (T, H, W) cells where they cannot settle it.

        Raises:
            InputError: if there are too few.
        """

    def analysis(self, x: Tensor) -> Tensor:
        """S: (B, C, T, H, W) -> (B, K, T', H', W')."""
        raise NotImplementedError

    def synthesis(self, c: Tensor) -> Tensor:
        """S⁻¹: (B, K, T', H', W') -> (B, C, T, H, W)."""
        raise NotImplementedError

    def fit(self, batches: Iterable[Tensor], known: Iterable[Tensor] | None = None) -> None:
        """Fit shift and scale so that `encode` has zero mean and unit variance in every channel.

        Args:
            batches: fields (B, C, T, H, W).
            known: for each of them (B, 1, T, H, W), 1 where it is known and 0 elsewhere. Every latent cell counts by
                its `coverage`, as it does in the denoiser's loss, so that land does not shrink the scale.

        Raises:
            InputError: if no cell is known.
        """
        count = torch.zeros((), dtype=torch.float64)
        total, square = torch.zeros(2, self.channels, dtype=torch.float64)
        for x, mask in paired(batches, known):
            c = self.analysis(x).double().transpose(0, 1).flatten(1).cpu()
            share = torch.ones(c.shape[1:]) if mask is None else self.coverage(mask.to(x)).flatten()
            weight = share.double().cpu()
            count += weight.sum()
            total += (c * weight).sum(1)
            square += (c.square() * weight).sum(1)
        if not count:
            raise InputError("no cell of the training crops is known: choose others (data.train, data.min_valid)")
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

    def condition_channels(self, fields: int) -> int:
        """Channels that `fold` makes of so many conditioning fields."""
        return fields * math.prod(self.stride)

    def details(self, z: Tensor) -> list[Tensor]:
        """Detail bands of a latent (B, K, T', H', W'), each on its own grid; none where it has no such thing."""
        return []

    def coverage(self, known: Tensor) -> Tensor:
        """The share (B, 1, T', H', W') of known fine cells (B, 1, T, H, W) under each latent cell."""
        return space_to_depth(known, self.stride).mean(1, keepdim=True)


class LinearLatentSpace(LatentSpace):
    """A latent space with a linear synthesis, through which variance propagates in closed form.

    Attributes:
        remainder: whether members get what the latent leaves out, as noise.
    """

    remainder = False

    def synthesis_squared(self, variance: Tensor) -> Tensor:
        """Σ_k S⁻¹[i, k]² variance_k: diag(S⁻¹ Σ S⁻ᵀ) for a diagonal Σ, shapes as in `synthesis`."""
        raise NotImplementedError

    @property
    def reach(self) -> tuple[int, int, int]:
        """Latent cells (t, y, x) apart at which two coefficients share no fine cell; 1 where patches do not overlap."""
        return 1, 1, 1

    def truncated(self, size: tuple[int, int, int]) -> Tensor:
        """f: variance (C, T, H, W), or a single 0, of what the latent leaves out of a field of (T, H, W) cells."""
        return self.scale.new_zeros(())

    def left_out(self, white: Tensor) -> Tensor:
        """Noise (B, C, T, H, W) of variance f outside the decoder's range, from white noise of the same shape.

        Only of a latent whose `remainder` is set.
        """
        raise NotImplementedError

    def synthesis_block(self, block: Tensor) -> Tensor:
        """diag(S⁻¹ Σ S⁻ᵀ) for a Σ (B, K, K, T', H', W') that couples the coefficients of one latent cell only.

        Σ = Σ_r l_r l_rᵀ by an eigen-decomposition in every cell; cells that share no fine cell are decoded at once.
        """
        size = (block.shape[-3], block.shape[-2], block.shape[-1])
        values, vectors = torch.linalg.eigh(block.movedim((1, 2), (-2, -1)))
        # Only rounding is cut off here, as a covariance has no negative eigenvalue.
        columns = (vectors * values.clamp_min(0).sqrt()[..., None, :]).movedim((-1, -2), (1, 2))
        # The least step that is long enough and divides the size, as some transforms are periodic.
        steps = [next((s for s in range(r, n) if n % s == 0), n) for r, n in zip(self.reach, size, strict=True)]
        total: Tensor | None = None
        for first in product(*map(range, steps)):
            chosen = torch.zeros(size, dtype=block.dtype, device=block.device)
            chosen[tuple(slice(f, None, s) for f, s in zip(first, steps, strict=True))] = 1
            for column in columns.unbind(1):
                term = self.synthesis(column * chosen).square()
                total = term if total is None else total + term
        assert total is not None
        return total

    def decode_variance(
        self,
        variance: Tensor | None = None,
        *,
        factor: Tensor | None = None,
        block: Tensor | None = None,
        floor: bool = False,
    ) -> Tensor:
        """Variance of the decoded field for a latent covariance Σ, one of three.

        Args:
            variance: (B, K, T', H', W'), a diagonal Σ.
            factor: (B, R, K, T', H', W'), a low-rank Σ = Σ_r factor_r factor_rᵀ (e.g. member anomalies / √(M − 1)),
                with all covariances between latent cells.
            block: (B, K, K, T', H', W'), a Σ with a covariance matrix for each latent cell, none between cells.
            floor: add f, the variance of what the latent leaves out.

        Returns:
            (B, C, T, H, W): diag(S⁻¹ D Σ D S⁻ᵀ), D = diag(scale).
        """
        if sum(given is not None for given in (variance, factor, block)) != 1:
            raise ValueError("decode_variance takes one of variance, factor (low rank) and block")
        if variance is not None:
            decoded = self.synthesis_squared(variance * self.scale.square())
        elif block is not None:
            decoded = self.synthesis_block(block * self.scale * self.scale[:, None])
        else:
            assert factor is not None
            decoded = torch.stack([self.synthesis(column * self.scale) for column in factor.unbind(1)]).square().sum(0)
        t, height, width = decoded.shape[-3:]
        return decoded + self.truncated((t, height, width)) if floor else decoded


def paired(batches: Iterable[Tensor], known: Iterable[Tensor] | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Fields with where they are known, or with None."""
    masks: Iterable[Tensor | None] = repeat(None) if known is None else known
    return zip(batches, masks, strict=known is not None)


def blocks(size: tuple[int, ...], stride: tuple[int, int, int]) -> tuple[int, int, int]:
    """How many blocks of ``stride`` cells (t, y, x) a window has.

    Raises:
        InputError: unless it divides.
    """
    if any(n % s for n, s in zip(size, stride, strict=True)):
        raise InputError(f"a window of {tuple(size)} cells does not divide by the latent stride {stride}")
    t, y, x = (n // s for n, s in zip(size, stride, strict=True))
    return t, y, x


def space_to_depth(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """(B, C, T, H, W) -> (B, C·st·sy·sx, T/st, H/sy, W/sx); the inverse is `depth_to_space`."""
    blocks(tuple(x.shape[-3:]), stride)
    st, sy, sx = stride
    return rearrange(x, "b c (t st) (h sy) (w sx) -> b (c st sy sx) t h w", st=st, sy=sy, sx=sx)


def depth_to_space(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """(B, C·st·sy·sx, t, h, w) -> (B, C, st·t, sy·h, sx·w)."""
    st, sy, sx = stride
    return rearrange(x, "b (c st sy sx) t h w -> b c (t st) (h sy) (w sx)", st=st, sy=sy, sx=sx)
