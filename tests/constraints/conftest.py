"""What tests of constraints share: fields that are hard to constrain, and what rounding allows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from finescale.grids.factor import Factor

Fields = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture(scope="session")
def problem() -> Callable[..., Fields]:
    """``problem(factor, seed, dtype)``: raw field, coarse field with a dry block, unequal areas, a non-square grid."""

    def made(factor: Factor, seed: int = 0, dtype: torch.dtype = torch.float32) -> Fields:
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(2, 1, 2, 3, 5, generator=generator, dtype=torch.float64) * 5
        coarse[0, 0, 0, 1, 1] = 0
        y = torch.randn(
            2, 1, 2 * factor.time, 3 * factor.y, 5 * factor.x, generator=generator, dtype=torch.float64
        ).abs()
        area = torch.rand(3 * factor.y, 5 * factor.x, generator=generator, dtype=torch.float64) + 0.1
        return y.to(dtype), coarse.to(dtype), area.to(dtype)

    return made


@pytest.fixture(scope="session")
def roundings() -> Callable[[torch.Tensor, torch.Tensor, Factor], float]:
    """``roundings(x, coarse, factor)``: what `violation` may be in the number type of x.

    That is (2 Σ f + 8) u max |x| / max |c| with u its unit roundoff. A block's products w y and its weights w are added
    up axis by axis, with f − 1 roundings along each, whatever the order within it; the weights, the two quotients, the
    product and the result's own rounding are the other eight.
    """

    def bound(x: torch.Tensor, coarse: torch.Tensor, factor: Factor) -> float:
        largest = torch.maximum(coarse.nan_to_num().abs().max(), x.nan_to_num().abs().max())
        count = 2 * sum(factor) + 8
        return count * torch.finfo(x.dtype).eps / 2 * float((largest / coarse.nan_to_num().abs().max()).detach())

    return bound
