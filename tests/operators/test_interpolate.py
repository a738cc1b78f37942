"""Upsampling to cell centres."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from finescale.grids.factor import Factor
from finescale.operators.interpolate import Kind, upsample


@pytest.mark.parametrize("kind", ["nearest", "linear", "cubic"])
def test_a_constant_stays_and_factor_one_is_the_identity(kind: Kind) -> None:
    c = torch.full((1, 1, 2, 3, 4), 2.5)
    assert torch.allclose(upsample(c, Factor(2, y=3, x=5), kind), torch.full((1, 1, 4, 9, 20), 2.5))
    x = torch.randn(1, 1, 2, 3, 4)
    assert torch.equal(upsample(x, Factor(), kind), x)


@pytest.mark.parametrize("factor", [2, 3, 10])
def test_linear_agrees_with_torch(factor: int) -> None:
    c = torch.randn(2, 1, 1, 5, 7)
    expected = interpolate(c[:, :, 0], scale_factor=factor, mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsample(c, Factor(1, factor), "linear")[:, :, 0], expected, rtol=1e-4, atol=1e-5)


def test_cubic_reproduces_quadratics_inside() -> None:
    """The Keys kernel with a = −½ is of third order: exact for polynomials of degree two away from the border."""
    centre = torch.arange(12, dtype=torch.float64) + 0.5
    fine = (torch.arange(48, dtype=torch.float64) + 0.5) / 4
    c = (centre[:, None] ** 2 - 3 * centre[None, :] + 1)[None, None, None]
    x = upsample(c, Factor(1, 4), "cubic")[0, 0, 0, 12:-12, 12:-12]
    torch.testing.assert_close(x, (fine[:, None] ** 2 - 3 * fine[None, :] + 1)[12:-12, 12:-12], rtol=1e-10, atol=1e-10)


def test_time_is_linear_between_centres() -> None:
    c = torch.tensor([0.0, 1.0])[:, None, None].expand(2, 2, 2)[None, None]
    assert torch.allclose(upsample(c, Factor(2, 1), "cubic")[0, 0, :, 0, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))
