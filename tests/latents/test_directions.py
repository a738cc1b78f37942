"""Directions of noise, beside the structure tensor of the same noise on fine cells."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from finescale.latents import Lapped, LatentSpace, Pixel, Wavelet
from finescale.latents.directions import INNER, OUTER, Directions
from finescale.model.filtered import Filtered

LATENTS = {"lapped": Lapped(8), "wavelet": Wavelet(2), "pixel": Pixel(), "two fields": Lapped(4, channels=2)}
CELLS, EDGE = 384, 112


@pytest.mark.parametrize("latent", LATENTS.values(), ids=LATENTS)
def test_they_are_those_of_the_structure_tensor(latent: LatentSpace) -> None:
    torch.manual_seed(0)
    fields, side = latent.channels // math.prod(latent.stride), latent.stride[1]
    noise = torch.randn(1, fields, 1, CELLS, CELLS)
    directions = Directions(latent, Filtered(latent, (), ()).variable)
    cos, sin = directions(latent.analysis(noise)[:, :, 0])
    inside = slice(EDGE // side, (CELLS - EDGE) // side)
    for number, field in enumerate(noise[0, :, 0].numpy()):
        y, x = np.gradient(gaussian_filter(field.astype(float), INNER))
        yy, xx, xy = (gaussian_filter(part, OUTER) for part in (y * y, x * x, x * y))
        q = yy - xx - 2j * xy
        blocks = (CELLS // side, side) * 2
        wanted = (q / np.sqrt(np.abs(q) ** 2 + (yy + xx) ** 2 / 4)).reshape(blocks).mean((1, 3))[inside, inside]
        found = (cos[0, number].numpy() + 1j * sin[0, number].numpy())[inside, inside]
        assert np.abs(found).max() < 0.9
        off = np.sqrt((np.abs(found - wanted) ** 2).mean() / (np.abs(wanted) ** 2).mean())
        assert off < 0.2


def test_all_are_as_likely() -> None:
    torch.manual_seed(0)
    latent = Lapped(8)
    cos, sin = Directions(latent, torch.zeros(64, dtype=torch.long))(torch.randn(200, 64, 24, 24))
    parts = torch.stack([cos, sin])[..., 10:14, 10:14]
    assert float(parts.mean((1, 2, 3, 4)).abs().max()) < 0.08
    assert 0.8 < float(parts[0].square().mean() / parts[1].square().mean()) < 1.25
    assert 0.2 < float(parts.square().sum(0).mean()) < 0.4


def test_they_move_with_the_noise() -> None:
    """By half a block; compared with the field of directions moved as much, by its Fourier transform."""
    torch.manual_seed(0)
    latent = Lapped(8)
    noise, directions = torch.randn(1, 1, 1, 512, 512), Directions(latent, torch.zeros(64, dtype=torch.long))
    still, moved = (
        torch.stack(directions(latent.analysis(field)[:, :, 0])) for field in (noise, noise.roll((4, 4), (-2, -1)))
    )
    waves = torch.fft.fftfreq(64)
    turned = torch.exp(-1j * math.pi * (waves[:, None] + waves))
    wanted = torch.fft.ifft2(torch.fft.fft2(still) * turned).real
    inside = (..., slice(18, 46), slice(18, 46))
    assert float((moved - wanted)[inside].norm() / still[inside].norm()) < 0.15


def test_noise_of_nothing_has_none() -> None:
    directions = Directions(Lapped(8), torch.zeros(64, dtype=torch.long))
    assert not any(part.any() for part in directions(torch.zeros(1, 64, 8, 8)))
