"""Which noise a latent is mixed with: white, or persistent along time as the latent is.

Persistent noise is a moving average of white noise w, channel by channel,

    e_t = Σ_{k=0}^{K} h_k w_{t−k},      h_k = ρ^k sqrt((1 − ρ²) / (1 − ρ^{2(K+1)}))

Gaussian and stationary, of unit variance and with the autocorrelation

    c_l = ρ^l (1 − ρ^{2(K+1−l)}) / (1 − ρ^{2(K+1)}),      0 beyond lag K,

which is ρ^l but for at most ρ^{K+1}. It depends on absolute time alone, as white noise does, so windows of a sequence
agree.

With noise of covariance C, z = clean + sigma · e, the score is −C⁻¹(z − D)/sigma², and the probability-flow equation
is dz/dsigma = (z − D)/sigma whatever C: samplers need not know. Where sampling starts, the frames of a member then
already belong together as those of the data do, and the network has less to learn. (Correlated noise for video: Ge et
al. 2023, arXiv 2305.10474. The autoregressive form, with ρ from the data, is ours.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from finescale.diffusion.noise_field import Place, noise_source

REACH = 12
"""K: earlier frames that the noise of a frame depends on."""
LARGEST = 0.8
"""Bound of ρ: above it, K frames would cut the average short."""


class White(nn.Module):
    """Noise without correlation.

    Args:
        channels: K of the latent.
    """

    before = 0
    """White frames that are needed before the first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def fit(self, latents: Sequence[Tensor]) -> None:
        """Learn from latents (B, K, T', H', W') of the data; white noise has nothing to learn."""

    def shaped(self, white: Tensor) -> Tensor:
        """White noise (B, K, before + T', H', W') -> noise (B, K, T', H', W')."""
        return white

    def covariance(self, x: Tensor) -> Tensor:
        """C x for the noise's covariance C; x (B, K, T', H', W')."""
        return x

    def random(self, shape: torch.Size, generator: torch.Generator, device: torch.device) -> Tensor:
        """Noise of a shape (B, K, T', H', W') for training."""
        b, k, t, height, width = shape
        return self.shaped(torch.randn(b, k, self.before + t, height, width, generator=generator).to(device))

    def fields(
        self, shape: tuple[int, int, int], places: Sequence[Place], seed: int, device: torch.device
    ) -> Callable[[int], Tensor]:
        """Noise as a function of position, arguments as in `finescale.diffusion.noise_field.noise_source`."""
        t, height, width = shape
        white = noise_source(self.channels, (self.before + t, height, width), places, seed, device)
        return lambda draw: self.shaped(white(draw))


class Persistent(White):
    """Noise whose autocorrelation ρ from one latent frame to the next is that of the data, channel by channel."""

    before = REACH
    rho: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("rho", torch.zeros(channels, 1, 1, 1))

    def fit(self, latents: Sequence[Tensor]) -> None:
        """ρ = Σ z_t z_{t+1} / Σ ½(z_t² + z_{t+1}²), between 0 and `LARGEST`; 0 where there is one frame alone."""
        products, squares = (torch.zeros(self.channels, dtype=torch.float64) for _ in range(2))
        for z in latents:
            first, second = (part.transpose(0, 1).flatten(1).double().cpu() for part in (z[:, :, :-1], z[:, :, 1:]))
            products += (first * second).sum(1)
            squares += (first.square() + second.square()).sum(1) / 2
        rho = (products / squares.clamp_min(1e-12)).clamp(0.0, LARGEST)
        self.rho.copy_(rho.to(self.rho)[:, None, None, None])

    def shaped(self, white: Tensor) -> Tensor:
        frames, tap = white.shape[2] - REACH, torch.ones_like(self.rho)
        out = white[:, :, REACH:].clone()
        for k in range(1, REACH + 1):
            tap = tap * self.rho
            out.addcmul_(tap, white[:, :, REACH - k : REACH - k + frames])
        return out * ((1 - self.rho.square()) / (1 - self.rho.pow(2 * (REACH + 1)))).sqrt()

    def covariance(self, x: Tensor) -> Tensor:
        time = torch.arange(x.shape[2], device=x.device)
        lag = (time[:, None] - time).abs()
        rho, left = self.rho[:, :, 0], (REACH + 1 - lag).clamp_min(0)
        matrix = rho**lag * (1 - rho ** (2 * left)) / (1 - rho ** (2 * (REACH + 1)))
        return torch.einsum("kts,bkshw->bkthw", matrix, x)
