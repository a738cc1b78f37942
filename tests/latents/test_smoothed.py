"""Noise that is smoothed in a latent, beside the same on fine cells."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from finescale.latents import Lapped, LatentSpace, Pixel, Wavelet
from finescale.latents.smoothed import Leading, Smoothing
from finescale.operators.gaussians import filtered, gaussian

LATENTS = {"lapped": Lapped(8), "wavelet": Wavelet(2), "pixel": Pixel(), "two fields": Lapped(4, channels=2)}
INSIDE = (..., slice(48, -48), slice(48, -48))


def smooth(latent: LatentSpace, part: Smoothing, white: Tensor) -> Tensor:
    """The field that noise on fine cells (B, C, 1, H, W) becomes, by its latent."""
    w = latent.analysis(white)
    z = torch.zeros_like(w)
    z[:, part.channels, 0] = applied(part, w[:, :, 0])
    return latent.synthesis(z)


def applied(part: Smoothing, w: Tensor) -> Tensor:
    """P w (N, R, H', W')."""
    return F.conv2d(w[:, part.channels], part.kernel, padding="same")


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


def test_leading_channels_are_smoothed_as_in_their_own_order() -> None:
    torch.manual_seed(0)
    smoothing, order = Smoothing(Lapped(8), gaussian(6.0)), torch.randperm(64)
    leading, w = Leading(smoothing, order.argsort()), torch.randn(2, 64, 5, 6)
    wanted = torch.zeros_like(w).index_copy_(1, smoothing.channels, applied(smoothing, w))[:, order]
    made = leading(w[:, order])
    assert len(smoothing.channels) < made.shape[1] <= 64
    torch.testing.assert_close(made, wanted[:, : made.shape[1]])
    assert not wanted[:, made.shape[1] :].any()
