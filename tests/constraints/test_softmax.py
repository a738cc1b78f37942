"""The softmax constraint: logits of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from finescale.constraints import Additive, Bounded, Softmax
from finescale.grids.factor import Factor


class TestSoftmax:
    def test_logits_of_any_size(self, problem: Callable[..., Any], roundings: Callable[..., float]) -> None:
        """exp(1000) overflows in float64; a constant added to a block changes nothing."""
        y, coarse, area = problem(Factor(1, 4), dtype=torch.float64)
        constraint = Softmax(Factor(1, 4), area)
        x = constraint(y, coarse)
        torch.testing.assert_close(constraint(y + 1000, coarse), x, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(constraint(y - 1000, coarse), x, rtol=1e-10, atol=1e-12)
        far = constraint(1e30 * y.float(), coarse.float())
        assert far.isfinite().all()
        assert constraint.violation(far, coarse) <= roundings(far, coarse, Factor(1, 4))

    def test_logits_far_below_zero_beside_masked_cells(self) -> None:
        """The maximum that is taken off is that of valid cells."""
        y, coarse = torch.rand(1, 4, 4, dtype=torch.float64) - 1000, torch.ones(1, 1, 1, dtype=torch.float64)
        mask = torch.arange(16).reshape(4, 4) % 3 > 0
        x = Softmax(Factor(space=4), mask=mask)(y, coarse)
        torch.testing.assert_close(x[0][mask], y[0][mask].softmax(0) * mask.sum())

    def test_zero_blocks_and_signs(self, problem: Callable[..., Any]) -> None:
        y, coarse, _ = problem(Factor(1, 8))
        x = Softmax(Factor(1, 8))(y, coarse)
        assert (x[0, 0, 0, 8:16, 8:16] == 0).all() and (x > 0).sum() == x.numel() - 64
        assert torch.equal(Softmax(Factor(1, 8))(y, -coarse), -x)
        assert Softmax.domain == "logits" and Additive.domain == Bounded.domain == "field"
