"""Gaussians, round and oriented, beside closed forms and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_filter

from finescale.operators.gaussians import filtered, gaussian, steerable


def moments(kernel: torch.Tensor) -> tuple[float, float, float]:
    """Of its square: long axis (radians from x towards y), and variances along and across."""
    n = torch.arange(len(kernel)) - len(kernel) // 2
    y, x = torch.meshgrid(n, n, indexing="ij")
    weight = kernel.square() / kernel.square().sum()
    xx, yy, xy = (float((weight * a * b).sum()) for a, b in ((x, x), (y, y), (x, y)))
    apart = math.hypot((xx - yy) / 2, xy)
    return 0.5 * math.atan2(2 * xy, xx - yy), (xx + yy) / 2 + apart, (xx + yy) / 2 - apart


def test_fields_go_through_a_kernel_as_scipys_do() -> None:
    rng = np.random.default_rng(0)
    field = rng.normal(size=(2, 3, 40, 50)).astype(np.float32)
    for kernel in (gaussian(1.5), *steerable(1.0)):
        found = filtered(torch.tensor(field), kernel).numpy()
        wanted = convolve(field[1, 2], kernel.numpy(), mode="constant")
        np.testing.assert_allclose(found[1, 2], wanted, atol=1e-5)
    wanted = gaussian_filter(field[0, 0], 1.5, mode="constant", truncate=3.4)
    np.testing.assert_allclose(filtered(torch.tensor(field), gaussian(1.5)).numpy()[0, 0], wanted, atol=3e-3)


@pytest.mark.parametrize("angle", np.linspace(0, math.pi, 9)[:-1])
def test_what_is_made_of_three_kernels_lies_along_any_angle(angle: float) -> None:
    mean, cos, sin = steerable(3.0)
    kernel = mean + math.cos(2 * angle) * cos + math.sin(2 * angle) * sin
    found, along, across = moments(kernel)
    assert math.cos(2 * (found - angle)) > 0.999
    assert 2.5 < along / across < 12  # 16 of a Gaussian that is 4 times as long as wide


def test_the_mean_of_directions_has_none() -> None:
    mean, _, _ = steerable(3.0)
    _, along, across = moments(mean)
    assert along / across == pytest.approx(1, abs=0.01)
