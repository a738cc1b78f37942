"""The bounded constraint: bounds to the last digit, its limits, and an example that trains through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from finescale.constraints import Additive, Bounded, Multiplicative
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen


class TestBounded:
    @pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (250.0, 330.0), (-40.0, 0.0)])
    def test_constants_and_bounds_themselves(self, low: float, high: float) -> None:
        """c = A y, c and y at a bound, c at one bound and y at the other: no 0/0, and uniform blocks exactly there."""
        constraint = Bounded(Factor(1, 2), low=low, high=high)
        middle = 0.5 * (low + high)
        values = torch.tensor([low, middle, high])
        c, v = (grid.reshape(1, 3, 3) for grid in torch.meshgrid(values, values, indexing="ij"))
        y = Coarsen(Factor(1, 2)).replicate(v).requires_grad_()
        x = constraint(y, c)
        assert torch.equal(x, Coarsen(Factor(1, 2)).replicate(c))
        (gradient,) = torch.autograd.grad(x.square().sum(), y)
        assert gradient.isfinite().all()
        assert constraint.keeps_zero == (0 in (low, high))

    def test_bounds_hold_and_values_outside_are_clipped(self, roundings: Callable[..., float]) -> None:
        y, coarse = torch.randn(2, 3, 8, 8) * 3, torch.rand(2, 3, 2, 2)
        constraint = Bounded(Factor(space=4))
        x = constraint(y, coarse)
        assert x.min() >= 0 and x.max() <= 1
        assert constraint.violation(x, coarse) <= roundings(x, coarse, Factor(space=4))
        assert torch.equal(x, constraint(y.clamp(0, 1), coarse))

    @pytest.mark.parametrize(("low", "high"), [(0.1, 0.7), (-0.3, 1000.1)])
    def test_bounds_hold_to_the_last_digit(self, roundings: Callable[..., float], low: float, high: float) -> None:
        """Many cells at the bounds, whose value is no float32 number: rounding takes none beyond."""
        gen = torch.Generator().manual_seed(0)
        y = low + (high - low) * torch.rand(40, 40, 40, generator=gen).mul(3).sub(1).clamp(0, 1)
        coarse = low + (high - low) * torch.rand(40, 10, 10, generator=gen)
        constraint = Bounded(Factor(space=4), low=low, high=high)
        x = constraint(y, coarse)
        ends = torch.tensor([low, high])
        assert x.min() >= ends[0] and x.max() <= ends[1]
        assert constraint.violation(x, coarse) <= roundings(x, coarse, Factor(space=4))

    def test_a_mean_out_of_bounds_gives_a_uniform_block_and_shows_in_the_violation(self) -> None:
        coarse = torch.tensor([[[0.5, 1.25], [-0.25, 1.0]]])
        constraint = Bounded(Factor(space=4))
        x = constraint(torch.rand(1, 8, 8), coarse)
        assert (x[0, :4, 4:] == 1).all() and (x[0, 4:, :4] == 0).all()
        assert float(constraint.violation(x, coarse)) == pytest.approx(0.25 / 1.25)

    def test_without_one_bound_it_is_multiplicative_or_additive(self, problem: Callable[..., Any]) -> None:
        y, coarse, area = problem(Factor(1, 4), dtype=torch.float64)
        constraint = Bounded(Factor(1, 4), area, low=0.0, high=np.inf)
        x = constraint(y, coarse)
        up = Coarsen(Factor(1, 4)).replicate(coarse >= Coarsen(Factor(1, 4), area)(y))
        assert up.any() and not up.all()
        expected = torch.where(
            up, Additive(Factor(1, 4), area)(y, coarse), Multiplicative(Factor(1, 4), area)(y, coarse)
        )
        torch.testing.assert_close(x, expected)
        torch.testing.assert_close(x, Bounded(Factor(1, 4), area, high=1e9)(y, coarse), rtol=1e-7, atol=1e-7)
        free = Bounded(Factor(1, 4), area, low=-np.inf, high=np.inf)
        torch.testing.assert_close(free(y, coarse), Additive(Factor(1, 4), area)(y, coarse))

    def test_a_mean_that_underflows_to_the_bound_does_not_wet_a_dry_block(self) -> None:
        y, area = torch.tensor([[0.0, 3e-45], [3e-45, 1e-45]]), torch.tensor([[20.0, 0.2], [0.003, 0.005]])
        assert not Bounded(Factor(), area)(y, torch.zeros(2, 2)).any()

    @pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (0.0, np.nan)])
    def test_bounds_that_make_no_sense(self, low: float, high: float) -> None:
        with pytest.raises(ValueError, match="low < high"):
            Bounded(Factor(1, 4), low=low, high=high)
