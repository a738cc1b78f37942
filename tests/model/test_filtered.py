"""Noise through filters, beside the same on fine cells."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from finescale.latents import Lapped, LatentSpace, Pixel, Wavelet
from finescale.model.filtered import Filtered, variation
from finescale.operators.gaussians import filtered, gaussian, steerable

LATENTS = {
    "lapped": Lapped(8),
    "wavelet": Wavelet(2),
    "wavelets of two fields": Wavelet(1, channels=2, frames=2),
    "pixel": Pixel(),
    "two fields": Lapped(4, channels=2),
    "three frames": Lapped(4, frames=3),
}
STDS, LINES = (0.6, 3.0), (1.0,)
FILTERS = 1 + len(STDS) + 2 * len(LINES)
INSIDE = (..., slice(24, -24), slice(24, -24))


def filters(latent: LatentSpace, angle: float) -> Filtered:
    """All along one direction."""
    found = Filtered(latent, STDS, LINES)
    turn = torch.tensor([math.cos(2 * angle), math.sin(2 * angle)])
    fields = 1 + int(found.variable.max())
    found.directions = Given(turn[:, None, None, None, None].expand(2, 1, fields, 1, 1))
    return found


class Given(nn.Module):
    """Directions that are given."""

    def __init__(self, directions: Tensor) -> None:
        super().__init__()
        self.directions = directions

    def forward(self, w: Tensor) -> Tensor:
        return self.directions


def made(latent: LatentSpace, noise: Tensor, amplitudes: Tensor, scale: Tensor, angle: float = 0.6) -> Tensor:
    """Fields (B, M, C, T, H, W) of white noise of that shape, decoded in units of D's root mean square."""
    members = noise.shape[1]
    w = latent.analysis(noise.flatten(0, 1)).unflatten(0, (-1, members))
    z = filters(latent, angle)(amplitudes, w, scale) * scale / scale.square().mean().sqrt()
    return latent.synthesis(z.flatten(0, 1)).unflatten(0, (-1, members))


@pytest.mark.parametrize("latent", LATENTS.values(), ids=LATENTS)
@pytest.mark.parametrize("angle", [0.0, 1.0])
def test_it_is_the_sum_of_filtered_fields(latent: LatentSpace, angle: float) -> None:
    """Whatever the latent's channels are multiplied by when it is decoded; variables have amplitudes of their own."""
    torch.manual_seed(0)
    fields, (n, side, _) = latent.channels // math.prod(latent.stride), latent.stride
    noise = torch.randn(2, 2, fields, 2 * n, 96, 96)
    amplitudes = torch.rand(2, fields * FILTERS, 1, 1, 1).expand(-1, -1, 2, 96 // side, 96 // side)
    scale = torch.rand(latent.channels, 1, 1, 1) + 0.1
    found = made(latent, noise, amplitudes, scale, angle)
    b = amplitudes[:, :, 0, :1, :1].unflatten(1, (FILTERS, fields))[:, None, :, :, None]
    mean, cos, sin = steerable(LINES[0])
    unit = cos / cos.norm() * math.cos(2 * angle) + sin / sin.norm() * math.sin(2 * angle)
    wanted = b[:, :, 0] * noise
    for j, kernel in enumerate([*(gaussian(std) for std in STDS), mean], 1):
        wanted += b[:, :, j] * filtered(noise, kernel / kernel.norm())
    wanted += b[:, :, -1] * filtered(noise, unit)
    assert float((found - wanted)[INSIDE].square().mean().sqrt()) < 0.02 * float(wanted[INSIDE].std())


def test_no_block_leaves_its_borders_in_it() -> None:
    """Variance of steps between neighbours by their place in a block, over many members: alike within what chance does.

    Coefficients that vary by themselves, as much as those of this field do, have half as much again at some places as
    at others.
    """
    torch.manual_seed(0)
    latent, members = Lapped(8), 400
    amplitudes = torch.tensor([0.1, 0.1, 0.5, 0.2, 0.2])[None, :, None, None, None].expand(1, FILTERS, 1, 9, 9)
    ones = torch.ones(64, 1, 1, 1)
    fields = made(latent, torch.randn(1, members, 1, 1, 72, 72), amplitudes, ones)[0, :, 0, 0]

    def uneven(fields: Tensor) -> float:
        steps = fields.diff(dim=-1)[:, 24:48, 23:47].square().unflatten(-1, (3, 8)).mean((0, 1, 2))
        return float(steps.max() / steps.min())

    w = latent.analysis(fields[:, None, None])
    std = w[..., 3:6, 3:6].std((0, 2, 3, 4), keepdim=True)
    assert uneven(fields) < 1.1
    assert uneven(latent.synthesis(std * torch.randn_like(w))[:, 0, 0]) > 1.4


@pytest.mark.parametrize("cells", [1, 3, 5])
def test_it_moves_with_the_noise_by_any_number_of_cells(cells: int) -> None:
    torch.manual_seed(0)
    latent, noise = Lapped(8), torch.randn(1, 1, 1, 1, 96, 96)
    amplitudes, scale = (
        torch.rand(FILTERS)[None, :, None, None, None].expand(1, FILTERS, 1, 12, 12),
        torch.rand(64, 1, 1, 1) + 0.1,
    )
    still = made(latent, noise, amplitudes, scale).roll((cells, cells), (-2, -1))
    moved = made(latent, noise.roll((cells, cells), (-2, -1)), amplitudes, scale)
    assert float((still - moved)[INSIDE].square().mean().sqrt()) < 0.02 * float(still.std())


def test_which_latents_have_filters() -> None:
    assert isinstance(variation(Lapped(8), STDS, LINES), Filtered)
    assert not isinstance(variation(Lapped(8, frames=16), STDS, LINES), Filtered)  # more channels than can be had
