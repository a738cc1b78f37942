"""Contract of every constraint: block means equal the coarse field, whatever the input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finescale import constraints
from finescale.coarsen import Coarsen
from finescale.constraints import Additive, Constraint, Multiplicative
from finescale.errors import InputError
from finescale.grid import Factor

KINDS: list[type[Constraint]] = [Additive, Multiplicative]


def test_every_exported_constraint_is_in_the_contract_test() -> None:
    assert {getattr(constraints, name) for name in constraints.__all__} - {Constraint} == set(KINDS)


def problem(
    factor: Factor, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Raw field, coarse field with a dry block, and unequal areas over a non-square grid."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, 1, 2, 3, 5, generator=generator, dtype=torch.float64) * 5
    coarse[0, 0, 0, 1, 1] = 0
    y = torch.randn(2, 1, 2 * factor.time, 3 * factor.y, 5 * factor.x, generator=generator, dtype=torch.float64).abs()
    area = torch.rand(3 * factor.y, 5 * factor.x, generator=generator, dtype=torch.float64) + 0.1
    return y.to(dtype), coarse.to(dtype), area.to(dtype)


@pytest.mark.parametrize("kind", KINDS)
class TestContract:
    @pytest.mark.parametrize("factor", [Factor(1, 8), Factor(3, 10), Factor(2, y=1, x=5), Factor(1, 1)], ids=str)
    def test_block_means_with_unequal_areas(self, kind: type[Constraint], factor: Factor) -> None:
        y, coarse, area = problem(factor)
        constraint = kind(factor, area)
        x = constraint(y, coarse)
        assert constraint.violation(x, coarse) < 1e-6
        torch.testing.assert_close(constraint(x, coarse), x, rtol=1e-5, atol=1e-5)

    def test_masked_cells_do_not_count_and_stay(self, kind: type[Constraint]) -> None:
        factor = Factor(1, 4)
        y, coarse, area = problem(factor)
        mask = torch.rand(12, 20, generator=torch.Generator().manual_seed(5)) > 0.4
        y = torch.where(mask, y, torch.nan)
        constraint = kind(factor, area, mask)
        x = constraint(y, coarse)
        means = Coarsen(factor, area, mask)(x)
        torch.testing.assert_close(means, coarse, rtol=1e-5, atol=1e-5)
        assert x[..., ~mask].isnan().all() and not x[..., mask].isnan().any()

    def test_unknown_coarse_cells_give_unknown_blocks(self, kind: type[Constraint]) -> None:
        y, coarse, _ = problem(Factor(1, 4))
        coarse[1, 0, 1, 2, 3] = torch.nan
        x = kind(Factor(1, 4))(y, coarse)
        lost = x.isnan()
        assert lost[1, 0, 1, 8:12, 12:16].all() and lost.sum() == 16

    @pytest.mark.parametrize("scale", [1e4, 1.0, 1e-8])
    def test_huge_and_tiny_values(self, kind: type[Constraint], scale: float) -> None:
        y, coarse, _ = problem(Factor(1, 8))
        constraint = kind(Factor(1, 8))
        x = constraint(y * scale, coarse * scale)
        assert constraint.violation(x, coarse * scale) < 1e-6

    def test_one_wet_cell_in_a_block(self, kind: type[Constraint]) -> None:
        y, coarse, _ = problem(Factor(1, 8))
        y[..., :8, :8] = 0
        y[..., 3, 5] = 1e-3
        constraint = kind(Factor(1, 8))
        assert constraint.violation(constraint(y, coarse), coarse) < 1e-6

    def test_bfloat16_input_is_constrained_in_float32(self, kind: type[Constraint]) -> None:
        y, coarse, _ = problem(Factor(1, 8))
        constraint = kind(Factor(1, 8))
        x = constraint(y.bfloat16(), coarse)
        assert x.dtype == torch.float32 and constraint.violation(x, coarse) < 1e-6

    def test_gradient(self, kind: type[Constraint]) -> None:
        y, coarse, area = problem(Factor(1, 2), dtype=torch.float64)
        y, coarse = (y[:1, :, :1, :4, :4] + 0.1).requires_grad_(), coarse[:1, :, :1, :2, :2]
        constraint = kind(Factor(1, 2), area[:4, :4])
        assert torch.autograd.gradcheck(lambda v: constraint(v, coarse), (y,))

    def test_shapes_that_do_not_belong_together(self, kind: type[Constraint]) -> None:
        with pytest.raises(InputError, match="make"):
            kind(Factor(1, 4))(torch.zeros(1, 1, 1, 8, 8), torch.zeros(1, 1, 1, 3, 2))

    @given(
        factor=st.tuples(st.integers(1, 6), st.integers(1, 25), st.integers(1, 25)),
        seed=st.integers(0, 99),
        exponent=st.floats(-15, 15),
    )
    def test_any_factor_and_magnitude(
        self, kind: type[Constraint], factor: tuple[int, int, int], seed: int, exponent: float
    ) -> None:
        whole = Factor(factor[0], y=factor[1], x=factor[2])
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(1, 1, 2, 1, 2, generator=generator)
        y = torch.rand(1, 1, *(n * f for n, f in zip((2, 1, 2), whole, strict=True)), generator=generator)
        # Rain far below or above its block mean; the additive projection keeps float32's precision of the larger one.
        y = y * 10**exponent if kind is Multiplicative else y
        constraint = kind(whole)
        assert constraint.violation(constraint(y, coarse), coarse) < 2e-6


def test_dry_blocks_give_exact_zeros_and_empty_ones_a_uniform_block() -> None:
    y, coarse, _ = problem(Factor(1, 8))
    y[1, 0, 1, 8:16, 16:24] = 0
    x = Multiplicative(Factor(1, 8))(y, coarse)
    assert (x[0, 0, 0, 8:16, 8:16] == 0).all()
    torch.testing.assert_close(x[1, 0, 1, 8:16, 16:24], coarse[1, 0, 1, 1, 2].expand(8, 8))
    assert (Multiplicative(Factor(1, 8))(torch.zeros_like(y), torch.zeros_like(coarse)) == 0).all()


def test_formulas_on_plain_tensors() -> None:
    y, coarse, _ = problem(Factor(1, 8), dtype=torch.float64)
    mean = torch.nn.functional.avg_pool3d(y, (1, 8, 8))
    up = torch.nn.functional.interpolate
    wide = lambda c: up(c, scale_factor=(1.0, 8.0, 8.0), mode="nearest")  # noqa: E731
    torch.testing.assert_close(Additive(Factor(1, 8))(y, coarse), y + wide(coarse - mean))
    torch.testing.assert_close(Multiplicative(Factor(1, 8))(y, coarse), y * wide(coarse / mean))


def test_additive_is_the_nearest_field() -> None:
    """No field with the same block means is nearer to y in the area-weighted norm."""
    y, coarse, area = problem(Factor(1, 4), dtype=torch.float64)
    constraint = Additive(Factor(1, 4), area)
    x = constraint(y, coarse)
    other = constraint(
        x + torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64), coarse
    )
    assert (area * (x - y) * (other - x)).sum().abs() < 1e-9 * (area * (other - x).square()).sum()
