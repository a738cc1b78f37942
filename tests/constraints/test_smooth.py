"""Rescaling by factors that vary continuously: no imprint, no flat squares, no drizzle, and exact totals."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from finescale.constraints import Multiplicative, Smooth, smooth
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen
from finescale.operators.interpolate import upsample

EIGHT = Factor(1, 8)


def waves(side: int) -> torch.Tensor:
    """A smooth positive field (1, side, side)."""
    at = torch.arange(side, dtype=torch.float64)
    return (2 + torch.sin(at / 9)[:, None] + torch.cos(at / 11)[None])[None]


def border(x: torch.Tensor) -> float:
    """Mean step across borders of coarse cells, over that inside."""
    steps = x.diff(dim=-1).abs().mean((0, 1))
    across = torch.arange(1, x.shape[-1]) % 8 == 0
    return float(steps[across].mean() / steps[~across].mean())


def found(rounds: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A smooth field, and what `Multiplicative` and `Smooth` make of it when it is off by a smooth factor."""
    truth = waves(96)
    raw = truth * torch.exp(torch.sin(torch.arange(96, dtype=torch.float64) / 17))
    coarse = Coarsen(EIGHT)(truth)
    return truth, Multiplicative(EIGHT)(raw, coarse), Smooth(EIGHT, rounds=rounds)(raw, coarse)


def test_a_smooth_field_stays_smooth() -> None:
    truth, blocky, smooth = found(2)
    assert border(blocky) > 3 * border(truth) and border(smooth) < 1.2 * border(truth)


def test_every_round_leaves_less_to_the_factor_that_jumps() -> None:
    truth, blocky, once = found(1)
    off = [abs(border(x) - border(truth)) for x in (blocky, once, found(2)[2], found(3)[2])]
    assert all(after < 0.7 * before for before, after in pairwise(off)), off


def test_three_rounds_leave_little_of_a_ratio_that_alternates() -> None:
    truth = waves(96)
    signs = torch.tensor([[(-1.0) ** (y + x) for x in range(12)] for y in range(12)], dtype=torch.float64)
    raw = truth * torch.exp(0.2 * upsample(signs[None], EIGHT, "linear"))
    ours = Smooth(EIGHT, rounds=3)(raw, Coarsen(EIGHT)(truth))
    left = (ours / truth).log().abs().amax()
    assert left < 0.25 * (raw / truth).log().abs().amax()
    assert border(ours) < 1.1 * border(truth)


def test_an_empty_block_takes_the_interpolated_field() -> None:
    coarse = torch.tensor([[[1.0, 2.0, 4.0]]], dtype=torch.float64)
    raw = waves(8).repeat(1, 1, 3)
    raw[..., 8:16] = 0
    x = Smooth(EIGHT, rounds=1)(raw, coarse)
    torch.testing.assert_close(Coarsen(EIGHT)(x), coarse, rtol=1e-14, atol=0)
    block = x[0, 0, 8:16]
    assert (block.diff() > 0).all() and block[-1] > 1.5 * block[0]


@pytest.mark.parametrize("total", [0.001, 0.02, 0.3, 5.0])
def test_no_cell_is_between_zero_and_the_least(total: float) -> None:
    generator = torch.Generator().manual_seed(1)
    raw = torch.rand(3, 1, 32, 48, generator=generator) ** 6
    coarse = total * torch.rand(1, 1, 4, 6, generator=generator) + 1e-4
    coarse[..., 1, 2] = 0
    x = Smooth(EIGHT, least=0.05)(raw, coarse)
    blocks = x.unflatten(-1, (6, 8)).unflatten(-3, (4, 8)).movedim(-2, -3).flatten(-2)
    wet = (blocks > 0).sum(-1)
    # A block that holds less than the least in all has one wet cell, others none below.
    least = torch.where(blocks > 0, blocks, torch.inf).amin(-1)
    alone = coarse.expand_as(wet) * 64 < 0.05
    assert (wet[alone & (coarse > 0)] == 1).all()
    assert (least[~alone & (coarse > 0)] >= 0.05 * (1 - 1e-6)).all()
    assert (blocks[..., 1, 2, :] == 0).all()
    torch.testing.assert_close(Coarsen(EIGHT)(x.double()), coarse.double().expand_as(wet), rtol=1e-6, atol=0)


def test_what_is_kept_of_a_faint_block_are_its_largest_cells() -> None:
    raw = torch.arange(1.0, 65.0).reshape(1, 8, 8)
    x = Smooth(EIGHT, least=0.05)(raw, torch.tensor([[[0.02]]])).flatten()
    kept = int((x > 0).sum())
    assert 1 < kept < 26 and (x[-kept:] > 0).all() and x[-kept] >= 0.05
    # With one more the smallest would fall below.
    assert raw.flatten()[-kept - 1] * 1.28 / raw.flatten()[-kept - 1 :].sum() < 0.05


@pytest.mark.parametrize("seed", range(4))
def test_totals_are_exact_with_areas_a_mask_and_a_least(seed: int) -> None:
    """Empty blocks too, of which only some cells count."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.rand(1, 32, 48, generator=generator, dtype=torch.float64) ** 6
    raw[..., :16, :16] = 0
    coarse = torch.rand(1, 4, 6, generator=generator, dtype=torch.float64) ** 4 + 1e-4
    area = torch.rand(32, 48, generator=generator, dtype=torch.float64) + 0.5
    mask = torch.rand(32, 48, generator=generator) > 0.8
    mask[::8, ::8] = True
    x = Smooth(EIGHT, area, mask, least=0.05)(raw, coarse)
    torch.testing.assert_close(Coarsen(EIGHT, area, mask)(x), coarse, rtol=1e-12, atol=0)


@pytest.mark.parametrize("factor", ["1x8", "1x5", "1x1", "1x2", "3x10", "2x1", "1x4x6"])
def test_factors_are_the_exponential_of_the_interpolated_logarithm(factor: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logarithm = torch.randn(2, 3, 1, 4, 6, 7, generator=generator, dtype=torch.float64)
    wanted = upsample(logarithm, Factor.parse(factor), "linear").exp()
    torch.testing.assert_close(smooth.factors_of(logarithm, Factor.parse(factor)), wanted, rtol=1e-12, atol=0)


def test_a_dry_cell_takes_the_mean_of_its_wet_neighbours() -> None:
    wet = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)[None, None]
    x = torch.tensor([[1.0, 9, 9, 9], [2, 6, 9, 9], [9, 9, 9, 9]])[None, None].expand(2, -1, -1, -1)
    wanted = torch.tensor([[1.0, 3, 6, 0], [2, 6, 6, 0], [4, 4, 6, 0]])
    torch.testing.assert_close(smooth.continued(x, wet)[1, 0], wanted)
