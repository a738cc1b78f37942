"""The soft penalty, which is no constraint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from finescale import constraints
from finescale.constraints import Additive, Constraint
from finescale.constraints.penalty import SoftPenalty
from finescale.errors import InputError
from finescale.grids.factor import Factor


class TestSoftPenalty:
    def test_mean_square_of_the_coarse_error(self, problem: Callable[..., Any]) -> None:
        y, coarse, area = problem(Factor(2, 4), dtype=torch.float64)
        mask = torch.ones(12, 20, dtype=torch.bool)
        mask[:4, :4] = False
        coarse[0, 0, 1, 2, 3] = torch.nan
        leaf = torch.where(mask, y, torch.nan).requires_grad_()
        penalty = SoftPenalty(Factor(2, 4), 2.5, area, mask)
        loss = penalty(leaf, coarse)
        errors = []
        for b, t, j, i in np.ndindex(2, 2, 3, 5):
            if np.isfinite(coarse[b, 0, t, j, i].item()) and (j, i) != (0, 0):
                cut = np.s_[b, 0, 2 * t : 2 * t + 2, 4 * j : 4 * j + 4, 4 * i : 4 * i + 4]
                w = area.numpy()[4 * j : 4 * j + 4, 4 * i : 4 * i + 4]
                errors.append((y.numpy()[cut] * w).sum() / (2 * w.sum()) - coarse[b, 0, t, j, i].item())
        assert len(errors) == 2 * 2 * 15 - 5
        assert loss.item() == pytest.approx(2.5 * np.mean(np.square(errors)))
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert gradient.isfinite().all()

    def test_zero_after_a_constraint_and_wide_in_bfloat16(
        self, problem: Callable[..., Any], roundings: Callable[..., float]
    ) -> None:
        y, coarse, area = problem(Factor(1, 4), dtype=torch.float64)
        penalty = SoftPenalty(Factor(1, 4), area=area)
        x = Additive(Factor(1, 4), area)(y, coarse)
        # Its own block means are as many roundings off as the constraint's.
        bound = (2 * roundings(x, coarse, Factor(1, 4)) * float(coarse.max())) ** 2
        assert penalty(x, coarse) <= bound < 1e-25 < penalty(y, coarse)
        assert penalty(y.bfloat16(), coarse).dtype == torch.float32
        assert penalty(y[0, 0, 0], coarse[0, 0, 0]) == pytest.approx(penalty(y[0, 0, :1], coarse[0, 0, :1]).item())

    def test_it_is_no_constraint(self) -> None:
        assert not issubclass(SoftPenalty, Constraint) and "SoftPenalty" not in constraints.__all__
        with pytest.raises(ValueError, match=r"weight >= 0, not -1\.0"):
            SoftPenalty(Factor(1, 4), -1.0)
        with pytest.raises(InputError, match="make"):
            SoftPenalty(Factor(1, 4))(torch.zeros(1, 1, 1, 8, 8), torch.zeros(1, 1, 1, 3, 2))
