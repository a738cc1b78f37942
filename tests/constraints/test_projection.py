"""The projection: the nearest field within bounds, against its optimality conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from finescale.constraints import Additive, Projection
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen


class TestProjection:
    @pytest.mark.parametrize(("low", "high"), [(0.0, np.inf), (0.0, 6.0), (-np.inf, 2.0), (-np.inf, np.inf)])
    def test_it_is_the_nearest_field(self, problem: Callable[..., Any], low: float, high: float) -> None:
        """The optimality conditions in every block: x = clip(y + λ, low, high) with the λ that gives the mean c.

        (x is the nearest field with Σ w x = c Σ w if and only if w (x − y) = w λ where x is between the bounds, ≥ at
        the lower and ≤ at the upper one: Karush, Kuhn and Tucker.) λ by bisection; in closed form without bounds.
        """
        factor = Factor(1, 4)
        y, coarse, area = problem(factor, dtype=torch.float64)
        y = y * 3 - 2
        mask = torch.rand(area.shape, generator=torch.Generator().manual_seed(1)) > 0.3
        coarse = coarse.clamp(max=high)
        x = Projection(factor, area, mask, low=low, high=high)(y, coarse)
        at_bounds = 0
        for b, t, row, column in np.ndindex(2, 2, 3, 5):
            at = (b, 0, t, slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
            valid = mask[at[3:]].numpy()
            raw, weight = y[at].numpy()[valid], area[at[3:]].numpy()[valid]
            share, wanted = weight / weight.sum(), float(coarse[b, 0, t, row, column])

            def excess(shift: float, raw: np.ndarray = raw, share: np.ndarray = share, wanted: float = wanted) -> float:
                return float(share @ np.clip(raw + shift, low, high)) - wanted

            if wanted in (low, high):
                shift = np.inf if wanted == high else -np.inf
            elif np.isinf(low) and np.isinf(high):
                shift = -excess(0.0)
            else:
                # Every cell is below c at one end and above it at the other, or at a bound that is.
                reach = np.abs(raw).max() + abs(wanted) + 1
                shift = brentq(excess, -reach, reach, xtol=1e-14, rtol=4 * np.finfo(float).eps)
            expected = np.clip(raw + shift, low, high)
            # λ is off by 16 roundings of sums of |y| < 10 over the share of the cells that are free, > 0.01; 2e-13.
            np.testing.assert_allclose(x[at].numpy()[valid], expected, rtol=0, atol=1e-12)
            at_bounds += int(((expected == low) | (expected == high)).sum())
        assert (at_bounds > 0) == bool(np.isfinite(low) or np.isfinite(high))

    @pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, np.inf)])
    def test_never_further_from_the_truth(self, low: float, high: float) -> None:
        gen = torch.Generator().manual_seed(0)
        truth = torch.rand(50, 2, 16, 16, generator=gen, dtype=torch.float64).pow(4)
        y = truth + 0.5 * torch.randn(truth.shape, generator=gen, dtype=torch.float64)
        factor = Factor(1, 8)
        x = Projection(factor, low=low, high=high)(y, Coarsen(factor)(truth))
        # Sums of 8 · 8 squares of numbers of order 1 that are each right to 1e-15.
        nearer = Coarsen(factor)((x - truth).square()) <= Coarsen(factor)((y - truth).square()) * (1 + 1e-13)
        assert nearer.all() and (x == 0).any()

    def test_between_bounds_it_is_additive(self, problem: Callable[..., Any]) -> None:
        y, coarse, area = problem(Factor(1, 4), dtype=torch.float64)
        for layer in (Projection(Factor(1, 4), area, low=-100.0), Projection(Factor(1, 4), area, low=-np.inf)):
            torch.testing.assert_close(layer(y, coarse), Additive(Factor(1, 4), area)(y, coarse))

    def test_a_mean_out_of_bounds_gives_a_uniform_block_and_shows_in_the_violation(self) -> None:
        coarse = torch.tensor([[[0.5, 1.25], [-0.25, 1.0]]])
        constraint = Projection(Factor(space=4), high=1.0)
        x = constraint(torch.rand(1, 8, 8), coarse)
        assert (x[0, :4, 4:] == 1).all() and (x[0, 4:, :4] == 0).all()
        assert float(constraint.violation(x, coarse)) == pytest.approx(0.25 / 1.25)

    @pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (0.0, np.nan)])
    def test_bounds_that_make_no_sense(self, low: float, high: float) -> None:
        with pytest.raises(ValueError, match="low < high"):
            Projection(Factor(1, 4), low=low, high=high)
