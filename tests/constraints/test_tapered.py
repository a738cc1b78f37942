"""The tapered constraint: its formula by loops over blocks, its two scopes, and extreme fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from finescale.constraints import Multiplicative, Tapered
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen

# The paper's runs (arXiv 2604.21903) and a steepening power.
TAPERS = [(0.5, 0.01), (1.0, 0.02), (1.0, 0.04), (0.5, 0.0), (2.0, 0.1)]


def tapered_by_hand(
    y: np.ndarray, coarse: np.ndarray, factor: Factor, weight: np.ndarray, power: float, tau: float, scope: str
) -> np.ndarray:
    """f(y) · U(c / A f(y)), block by block; for scope frame the block is the whole field of an interval."""
    x = np.full_like(y, np.nan)
    blocks = [
        (np.s_[j * factor.y : (j + 1) * factor.y, i * factor.x : (i + 1) * factor.x], np.s_[j : j + 1, i : i + 1])
        for j in range(coarse.shape[-2])
        for i in range(coarse.shape[-1])
    ]
    whole = [(np.s_[:, :], np.s_[:, :])]
    for lead in np.ndindex(y.shape[:-3]):
        for k in range(coarse.shape[-3]):
            frames = slice(k * factor.time, (k + 1) * factor.time)
            for fine, at in blocks if scope == "block" else whole:
                w = np.broadcast_to(weight[fine], y[lead][frames][:, *fine].shape)
                wanted = np.kron(coarse[lead][k][at], np.ones((factor.y, factor.x)))
                f = np.maximum(y[lead][frames][:, *fine] ** power - tau, 0)
                x[lead][frames, *fine] = f * (w * wanted).sum() / (w * f).sum()
    return x


class TestTapered:
    @pytest.mark.parametrize("scope", ["block", "frame"])
    @pytest.mark.parametrize(("power", "tau"), TAPERS)
    def test_formula_with_areas(self, problem: Callable[..., Any], power: float, tau: float, scope: str) -> None:
        factor = Factor(3, y=4, x=5)
        y, coarse, area = problem(factor, dtype=torch.float64)
        got = Tapered(factor, area, power=power, tau=tau, scope=scope)(y, coarse)  # type: ignore[arg-type]
        expected = tapered_by_hand(y.numpy(), coarse.numpy(), factor, area.numpy(), power, tau, scope)
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-10)

    def test_without_taper_it_is_multiplicative(self, problem: Callable[..., Any]) -> None:
        y, coarse, area = problem(Factor(2, 8))
        y[1, 0, 1, 8:16, 16:24] = 0
        mask = torch.rand(24, 40, generator=torch.Generator().manual_seed(5)) > 0.4
        assert torch.equal(
            Tapered(Factor(2, 8), area, mask)(y, coarse), Multiplicative(Factor(2, 8), area, mask)(y, coarse)
        )

    @pytest.mark.parametrize("scale", [1e4, 1.0, 1e-8])
    @pytest.mark.parametrize(("power", "tau"), TAPERS)
    def test_block_scope_conserves_exactly(
        self, problem: Callable[..., Any], roundings: Callable[..., float], power: float, tau: float, scale: float
    ) -> None:
        """Unequal areas, a mask, a dry block, one wet cell in a block; at 1e-8 all of f(y) is zero for tau > 0."""
        factor = Factor(3, 8)
        y, coarse, area = problem(factor)
        mask = torch.rand(24, 40, generator=torch.Generator().manual_seed(5)) > 0.4
        y[0, 0, :3, :8, :8] = 0
        y[0, 0, 1, :8, :8][mask[:8, :8].nonzero()[0].split(1)] = 0.7
        constraint = Tapered(factor, area, mask, power=power, tau=tau)
        x = constraint(torch.where(mask, y, torch.nan) * scale, coarse * scale)
        assert constraint.keeps_zero
        assert constraint.violation(x, coarse * scale) <= roundings(x, coarse * scale, factor)
        assert (x[0, 0, :3, 8:16, 8:16][:, mask[8:16, 8:16]] == 0).all()
        assert ((x[0, 0, :3, :8, :8][:, mask[:8, :8]] > 0).sum() == 1).all()

    def test_blocks_below_the_threshold_keep_their_pattern(self, problem: Callable[..., Any]) -> None:
        """f(y) is all zero: y's own pattern; y all zero: uniform. Other blocks are tapered."""
        y, coarse, area = problem(Factor(1, 8))
        y[0, 0, 0, :8, :8] *= 1e-3
        y[1, 0, 1, 8:16, 16:24] = 0
        x = Tapered(Factor(1, 8), area, power=0.5, tau=0.2)(y, coarse)
        plain = Multiplicative(Factor(1, 8), area)(y, coarse)
        assert torch.equal(x[0, 0, 0, :8, :8], plain[0, 0, 0, :8, :8])
        torch.testing.assert_close(x[1, 0, 1, 8:16, 16:24], coarse[1, 0, 1, 1, 2].expand(8, 8))
        assert not torch.isclose(x[0, 0, 0, :8, 8:16], plain[0, 0, 0, :8, 8:16]).all()

    @pytest.mark.parametrize("scope", ["block", "frame"])
    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    @pytest.mark.parametrize(("power", "tau"), [(0.5, 0.0), (0.5, 0.01), (2.0, 0.0), (2.0, 0.1)])
    def test_extreme_fields_neither_overflow_nor_underflow(
        self, problem: Callable[..., Any], power: float, tau: float, scale: float, scope: str
    ) -> None:
        """In float32, where y² is infinite or zero. The scale of y cancels, but for the threshold."""
        y, coarse, _ = problem(Factor(1, 4))
        got = Tapered(Factor(1, 4), power=power, tau=tau, scope=scope)(y * scale, coarse)  # type: ignore[arg-type]
        # Far above the threshold tau is nothing; far below it the field's own pattern is kept.
        power = 1.0 if tau and scale < 1 else power
        expected = Tapered(Factor(1, 4), power=power, scope=scope)(y.double(), coarse.double())  # type: ignore[arg-type]
        torch.testing.assert_close(got, expected.float(), rtol=2e-5, atol=1e-7)

    def test_frame_scope_conserves_the_total_of_known_valid_cells(self, problem: Callable[..., Any]) -> None:
        factor = Factor(2, 8)
        y, coarse, area = problem(factor, dtype=torch.float64)
        coarse[1, 0, 1, 2, 3] = torch.nan
        mask = torch.rand(24, 40, generator=torch.Generator().manual_seed(5)) > 0.4
        constraint = Tapered(factor, area, mask, power=0.5, tau=0.01, scope="frame")
        x = constraint(torch.where(mask, y, torch.nan), coarse)
        weight = torch.where(mask, area, 0.0).expand(2, 1, 4, 24, 40)
        wide = Coarsen(factor).replicate(coarse)
        assert torch.equal(x.isnan(), wide.isnan() | ~mask)
        totals = [
            (weight * field.nan_to_num()).masked_fill(wide.isnan(), 0.0).unflatten(2, (2, 2)).sum((3, 4, 5))
            for field in (x, wide)
        ]
        # The frame is one block of 2 · 24 · 40 cells: twice as many roundings as `roundings` counts, of float64.
        torch.testing.assert_close(*totals, rtol=4 * (2 + 24 + 40 + 4) * torch.finfo(torch.float64).eps, atol=0)
        # What it does not do: single coarse cells, and dry ones.
        assert constraint.violation(x, coarse) > 0.1
        assert not constraint.keeps_zero and (x[0, 0, 0, 8:16, 8:16] > 0).any()
        dry = constraint(y, coarse * 0)
        assert (dry[0][..., mask] == 0).all()

    @pytest.mark.parametrize("scope", ["block", "frame"])
    @pytest.mark.parametrize(("power", "tau"), TAPERS)
    def test_gradient_is_right_and_finite(
        self, problem: Callable[..., Any], power: float, tau: float, scope: str
    ) -> None:
        y, coarse, area = problem(Factor(1, 2), dtype=torch.float64)
        y, coarse = y[:1, :, :1, :4, :4] + 0.2, coarse[:1, :, :1, :2, :2] + 0.1
        constraint = Tapered(Factor(1, 2), area[:4, :4], power=power, tau=tau, scope=scope)  # type: ignore[arg-type]
        assert torch.autograd.gradcheck(lambda v: constraint(v, coarse), (y.clone().requires_grad_(),))
        # Zeros, a block of zeros, a block below the threshold, a dry block.
        y[..., 0, 0], y[..., :2, 2:], y[..., 2:, :2], coarse[..., 1, 1] = 0, 0, 1e-5, 0
        leaf = y.float().requires_grad_()
        (gradient,) = torch.autograd.grad(constraint(leaf, coarse.float()).square().sum(), leaf)
        assert gradient.isfinite().all() and (gradient != 0).any()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"power": 0.0}, "power > 0 and tau >= 0, not 0.0"),
            ({"power": float("nan")}, "not nan"),
            ({"tau": -0.1}, "tau >= 0, not 1.0 and -0.1"),
            ({"scope": "field"}, "scope block or frame, not 'field'"),
        ],
    )
    def test_arguments_that_make_no_sense(self, arguments: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Tapered(Factor(1, 4), **arguments)
