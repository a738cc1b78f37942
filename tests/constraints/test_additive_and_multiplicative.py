"""The two constraints of one line: their formulas, dry blocks, and the nearest field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from finescale.constraints import Additive, Multiplicative
from finescale.grids.factor import Factor


def test_formulas_on_plain_tensors(problem: Callable[..., Any]) -> None:
    y, coarse, _ = problem(Factor(1, 8), dtype=torch.float64)
    mean = torch.nn.functional.avg_pool3d(y, (1, 8, 8))
    up = torch.nn.functional.interpolate
    wide = lambda c: up(c, scale_factor=(1.0, 8.0, 8.0), mode="nearest")  # noqa: E731
    torch.testing.assert_close(Additive(Factor(1, 8))(y, coarse), y + wide(coarse - mean))
    torch.testing.assert_close(Multiplicative(Factor(1, 8))(y, coarse), y * wide(coarse / mean))


def test_dry_blocks_give_exact_zeros_and_empty_ones_a_uniform_block(problem: Callable[..., Any]) -> None:
    y, coarse, _ = problem(Factor(1, 8))
    y[1, 0, 1, 8:16, 16:24] = 0
    x = Multiplicative(Factor(1, 8))(y, coarse)
    assert (x[0, 0, 0, 8:16, 8:16] == 0).all()
    torch.testing.assert_close(x[1, 0, 1, 8:16, 16:24], coarse[1, 0, 1, 1, 2].expand(8, 8))
    assert (Multiplicative(Factor(1, 8))(torch.zeros_like(y), torch.zeros_like(coarse)) == 0).all()


def test_additive_is_the_nearest_field(problem: Callable[..., Any]) -> None:
    """No field with the same block means is nearer to y in the area-weighted norm."""
    y, coarse, area = problem(Factor(1, 4), dtype=torch.float64)
    constraint = Additive(Factor(1, 4), area)
    x = constraint(y, coarse)
    other = constraint(
        x + torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64), coarse
    )
    assert (area * (x - y) * (other - x)).sum().abs() < 1e-9 * (area * (other - x).square()).sum()
