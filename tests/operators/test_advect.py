"""Coarse frames moved to the times of fine ones, against a field that moves and does not change."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from finescale.grids.factor import Factor
from finescale.operators.advect import along
from finescale.operators.interpolate import upsample

SPEED = (2.0, -4.0)
"""Coarse cells a frame, along y and x."""
CELLS = (40, 52)


def waves(time: float, factor: Factor) -> Tensor:
    """Plane waves of 10 coarse cells and more on the cells of a grid, moved for so many coarse frames."""
    y, x = ((torch.arange(n * f) + 0.5) / f - 0.5 for n, f in zip(CELLS, (factor.y, factor.x), strict=True))
    y, x = (y - time * SPEED[0])[:, None], x - time * SPEED[1]
    return torch.sin(2 * math.pi * (0.06 * y + 0.08 * x)) + 0.5 * torch.cos(2 * math.pi * (0.05 * x - 0.04 * y))


@pytest.mark.parametrize("factor", [Factor(1, 4), Factor(3, 4), Factor(2, y=3, x=5)])
def test_frames_of_a_field_that_moves_all_become_what_it_is(factor: Factor) -> None:
    one, numbers = Factor(), (-2, -1, 1, 2)
    coarse = waves(0, one)[None, None, None]
    near = torch.stack([waves(k, one) for k in numbers])[None, :, None, None]
    velocity = torch.tensor(SPEED)[None, :, None, None, None].expand(1, 2, 1, *CELLS)
    first, moved = along(coarse, near, velocity, factor)
    truth = torch.stack([waves((part + 0.5) / factor.time - 0.5, factor) for part in range(factor.time)])
    assert first.shape == (1, 1, *truth.shape) and moved.shape == (1, 4, *truth.shape)
    # Away from edges, from beyond which waves came; cubic interpolation of ten cells a wave is off by a percent.
    inner = (..., slice(8 * factor.y, -8 * factor.y), slice(14 * factor.x, -14 * factor.x))
    for found in (first[:, 0], *moved.transpose(0, 1)):
        assert float((found - truth)[inner].abs().max()) < 0.04
    still, _ = along(coarse, near, torch.zeros_like(velocity), factor)
    if factor.time > 1:
        assert float((still[:, 0] - truth)[inner].abs().max()) > 0.1


def test_what_does_not_move_is_interpolated_in_place() -> None:
    factor, fields = Factor(3, 4), torch.randn(1, 3, 2, 1, 5, 6)
    coarse, near = fields[:, 1], fields[:, [0, 2]]
    first, moved = along(coarse, near, torch.zeros(1, 2, 1, 5, 6), factor)
    frames = upsample(fields[0].transpose(0, 1).flatten(1, 2)[None], factor)[:, :, 3:6]  # the middle of three frames
    torch.testing.assert_close(first, frames, rtol=1e-5, atol=1e-5)
    alone = upsample(near.flatten(1, 2), Factor(1, 4)).expand(-1, -1, 3, -1, -1)
    torch.testing.assert_close(moved, alone, rtol=1e-5, atol=1e-5)
    one, _ = along(coarse, near, torch.randn(1, 2, 1, 5, 6), Factor(1, 4))
    torch.testing.assert_close(one, upsample(coarse, Factor(1, 4)))
