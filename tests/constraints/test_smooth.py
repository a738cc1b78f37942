"""Rescaling by factors that vary continuously: no imprint, no flat squares, no drizzle, and exact totals."""

from __future__ import annotations

import pytest
import torch

from finescale.constraints import Multiplicative, Smooth
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen

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


def test_a_smooth_field_stays_smooth() -> None:
    """The truth, times a smooth error, is found again up to what no factor of these cells can tell."""
    truth = waves(96)
    raw = truth * torch.exp(truth.roll(30, -1) - 2)
    coarse = Coarsen(EIGHT)(truth)
    blocky, smooth = Multiplicative(EIGHT)(raw, coarse), Smooth(EIGHT)(raw, coarse)
    assert border(blocky) > 3 and border(smooth) < 1.3
    # Towards the edges of the domain the factors are continued, not interpolated.
    inside = (..., slice(8, -8), slice(8, -8))
    assert (smooth - truth)[inside].abs().max() < 0.2 * (blocky - truth)[inside].abs().max()


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_last_factor_has_less_to_mend_with_every_round(rounds: int) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 12, 12, generator=generator, dtype=torch.float64) + 0.2
    raw = waves(96)
    coarsen = Coarsen(EIGHT)
    rescaled = Smooth(EIGHT, rounds=rounds)._rescaled(raw, coarse, coarsen)
    off = (coarsen(rescaled) / coarse).log().abs().max()
    before = (coarsen(raw) / coarse).log().abs().max()
    assert off < before / 2**rounds


def test_an_empty_block_takes_the_interpolated_field() -> None:
    coarse = torch.tensor([[[1.0, 2.0, 4.0]]], dtype=torch.float64)
    raw = waves(8).repeat(1, 1, 3)
    raw[..., 8:16] = 0
    x = Smooth(EIGHT)(raw, coarse)
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
