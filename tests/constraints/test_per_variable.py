"""One constraint for every variable."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from finescale.constraints import Additive, Bounded, Multiplicative
from finescale.constraints.per_variable import PerVariable
from finescale.errors import InputError
from finescale.grids.factor import Factor


def test_a_constraint_for_every_variable(roundings: Callable[..., float]) -> None:
    factor = Factor(2, 3)
    rain, temperature, humidity = Multiplicative(factor), Additive(factor), Bounded(factor, low=0.0, high=100.0)
    generator = torch.Generator().manual_seed(5)
    y = torch.randn(2, 3, 4, 6, 9, generator=generator) * torch.tensor([1.0, 10.0, 40.0])[:, None, None, None]
    coarse = torch.rand(2, 3, 2, 2, 3, generator=generator) * torch.tensor([5.0, -20.0, 100.0])[:, None, None, None]
    all_three = PerVariable([rain, temperature, humidity])
    x = all_three(y, coarse)
    for v, part in enumerate((rain, temperature, humidity)):
        assert torch.equal(x[:, v], part(y[:, v], coarse[:, v]))
    assert all_three.violation(x, coarse) <= roundings(x, coarse, factor)
    assert x[:, 0].min() >= 0 and x[:, 2].max() <= 100
    with pytest.raises(InputError, match="3 variables are wanted"):
        all_three(y[:, :2], coarse[:, :2])
    with pytest.raises(InputError, match="one factor"):
        PerVariable([Additive(factor), Additive(Factor(1, 3))])
