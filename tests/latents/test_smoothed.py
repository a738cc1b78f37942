"""Noise that is smoothed in a latent, beside the same on fine cells."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from finescale.latents import Lapped, LatentSpace, Pixel, Wavelet
from finescale.latents.smoothed import Smoothing
from finescale.operators.gaussians import filtered, gaussian

LATENTS = {"lapped": Lapped(8), "wavelet": Wavelet(2), "pixel": Pixel(), "two fields": Lapped(4, channels=2)}
INSIDE = (..., slice(48, -48), slice(48, -48))


def smooth(latent: LatentSpace, part: Smoothing, white: Tensor) -> Tensor:
    """The field that noise on fine cells (B, C, 1, H, W) becomes, by its latent."""
    w = latent.analysis(white)
    z = torch.zeros_like(w)
    z[:, part.channels, 0] = part(w[:, :, 0])
    return latent.synthesis(z)


def alike(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a[INSIDE].flatten(), b[INSIDE].flatten()]))[0, 1])


@pytest.mark.parametrize("std", [2.0, 6.0])
@pytest.mark.parametrize("latent", LATENTS.values(), ids=LATENTS)
def test_it_is_the_latent_of_the_smoothed_field(latent: LatentSpace, std: float) -> None:
    part = Smoothing(latent, gaussian(std))
    fields = latent.channels * latent.stride[0] // (latent.stride[1] * latent.stride[2])
    white = torch.randn(4, fields, 1, 160, 160)
    found = smooth(latent, part, white)
    assert alike(found, filtered(white, gaussian(std))) > 0.99
    assert 0.8 < float(found[INSIDE].std()) < 1.2
    assert latent is not LATENTS["lapped"] or len(part.channels) < 40  # of 64
