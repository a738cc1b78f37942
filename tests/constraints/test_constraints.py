"""Contract of every constraint: block means equal the coarse field, whatever the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finescale import constraints
from finescale.constraints import Additive, Bounded, Constraint, Multiplicative, Projection, Smooth, Softmax, Tapered
from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen

KINDS: list[type[Constraint]] = [Additive, Bounded, Multiplicative, Projection, Smooth, Softmax, Tapered]


def test_every_exported_constraint_is_in_the_contract_test() -> None:
    assert {getattr(constraints, name) for name in constraints.__all__} - {Constraint} == set(KINDS)


def build(
    kind: type[Constraint],
    factor: Factor,
    area: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    high: float = 6.0,
) -> Constraint:
    """The constraint, with bounds around the fields of the fixture ``problem``."""
    if kind in (Bounded, Projection):
        return kind(factor, area, mask, low=0.0, high=high)  # type: ignore[call-arg]
    return kind(factor, area, mask)


@pytest.mark.parametrize("kind", KINDS)
class TestContract:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("factor", [Factor(1, 8), Factor(3, 10), Factor(2, y=1, x=5), Factor(1, 1)], ids=str)
    def test_block_means_with_unequal_areas(
        self,
        problem: Callable[..., Any],
        roundings: Callable[..., float],
        kind: type[Constraint],
        factor: Factor,
        dtype: torch.dtype,
    ) -> None:
        y, coarse, area = problem(factor, dtype=dtype)
        constraint = build(kind, factor, area)
        x = constraint(y, coarse)
        assert constraint.violation(x, coarse) <= roundings(x, coarse, factor)
        # Both times a block's mean is off by `roundings` at most, of the largest value; a logarithm of 1e-30 by 69 u.
        close = {"rtol": 70 * torch.finfo(dtype).eps, "atol": 2 * roundings(x, coarse, factor) * float(coarse.max())}
        if kind is Softmax:  # its logits are the logarithm of what it returns
            x = torch.where(x == 0, coarse.new_tensor(1e-30), x).log()
            torch.testing.assert_close(constraint(x, coarse), x.exp(), **close)
            return
        torch.testing.assert_close(constraint(x, coarse), x, **close)

    def test_masked_cells_do_not_count_and_stay(self, problem: Callable[..., Any], kind: type[Constraint]) -> None:
        factor = Factor(1, 4)
        y, coarse, area = problem(factor)
        mask = torch.rand(12, 20, generator=torch.Generator().manual_seed(5)) > 0.4
        y = torch.where(mask, y, torch.nan)
        constraint = build(kind, factor, area, mask)
        x = constraint(y, coarse)
        means = Coarsen(factor, area, mask)(x)
        torch.testing.assert_close(means, coarse, rtol=1e-5, atol=1e-5)
        assert x[..., ~mask].isnan().all() and not x[..., mask].isnan().any()

    def test_unknown_coarse_cells_give_unknown_blocks(
        self, problem: Callable[..., Any], kind: type[Constraint]
    ) -> None:
        y, coarse, _ = problem(Factor(1, 4))
        coarse[1, 0, 1, 2, 3] = torch.nan
        leaf = y.requires_grad_()
        x = build(kind, Factor(1, 4))(leaf, coarse)
        lost = x.isnan()
        assert lost[1, 0, 1, 8:12, 12:16].all() and lost.sum() == 16
        # A loss over the known cells has a finite gradient, which is zero in the unknown block.
        (gradient,) = torch.autograd.grad(torch.where(lost, 0.0, x).square().sum(), leaf)
        assert gradient.isfinite().all() and (gradient[lost] == 0).all() and (gradient[~lost] != 0).any()

    @pytest.mark.parametrize("scale", [1e4, 1.0, 1e-8])
    def test_huge_and_tiny_values(
        self, problem: Callable[..., Any], roundings: Callable[..., float], kind: type[Constraint], scale: float
    ) -> None:
        y, coarse, _ = problem(Factor(1, 8))
        constraint = build(kind, Factor(1, 8), high=6 * scale)
        x = constraint(y * scale, coarse * scale)
        assert constraint.violation(x, coarse * scale) <= roundings(x, coarse * scale, Factor(1, 8))

    def test_one_wet_cell_in_a_block(
        self, problem: Callable[..., Any], roundings: Callable[..., float], kind: type[Constraint]
    ) -> None:
        y, coarse, _ = problem(Factor(1, 8))
        y[..., :8, :8] = 0
        y[..., 3, 5] = 1e-3
        constraint = build(kind, Factor(1, 8))
        x = constraint(y, coarse)
        assert constraint.violation(x, coarse) <= roundings(x, coarse, Factor(1, 8))

    def test_bfloat16_input_is_constrained_in_float32(
        self, problem: Callable[..., Any], roundings: Callable[..., float], kind: type[Constraint]
    ) -> None:
        y, coarse, _ = problem(Factor(1, 8))
        constraint = build(kind, Factor(1, 8))
        x = constraint(y.bfloat16(), coarse)
        assert x.dtype == torch.float32 and constraint.violation(x, coarse) <= roundings(x, coarse, Factor(1, 8))

    def test_gradient(self, problem: Callable[..., Any], kind: type[Constraint]) -> None:
        y, coarse, area = problem(Factor(1, 2), dtype=torch.float64)
        y, coarse = (y[:1, :, :1, :4, :4] + 0.1).requires_grad_(), coarse[:1, :, :1, :2, :2]
        constraint = build(kind, Factor(1, 2), area[:4, :4])
        assert torch.autograd.gradcheck(lambda v: constraint(v, coarse), (y,))
        # In c as well, where it is not zero.
        wanted = (coarse + 0.1).requires_grad_()
        assert torch.autograd.gradcheck(constraint, (y, wanted))

    def test_pictures_without_an_axis_of_time(self, roundings: Callable[..., float], kind: type[Constraint]) -> None:
        """(B, C, H, W), (C, H, W), (H, W) and (B, M, C, 1, H, W) give the same blocks."""
        generator, factor = torch.Generator().manual_seed(3), Factor(space=4)
        y, coarse, area = (
            torch.rand(*shape, generator=generator, dtype=torch.float64) + 0.1
            for shape in ((2, 3, 8, 20), (2, 3, 2, 5), (8, 20))
        )
        constraint = build(kind, factor, area)
        x = constraint(y, coarse)
        bound = roundings(x, coarse, factor)
        assert x.shape == y.shape and constraint.violation(x, coarse) <= bound
        # Sums over axes of other lengths may be taken in another order: each block is off by its roundings.
        same = {"rtol": 0, "atol": 2 * bound * float(coarse.max())}
        torch.testing.assert_close(constraint(y[1], coarse[1]), x[1], **same)
        torch.testing.assert_close(constraint(y[1, 2], coarse[1, 2]), x[1, 2], **same)
        assert constraint.violation(x[1, 2], coarse[1, 2]) <= roundings(x[1, 2], coarse[1, 2], factor)
        members = constraint(y[:, None, :, None].expand(-1, 5, -1, -1, -1, -1), coarse[:, None, :, None])
        torch.testing.assert_close(members[:, 4, :, 0], x, **same)

    def test_blocks_without_a_valid_cell(
        self, problem: Callable[..., Any], roundings: Callable[..., float], kind: type[Constraint]
    ) -> None:
        """Their cells stay as they are, and neither they nor their neighbours get a gradient that is not finite."""
        y, coarse, area = problem(Factor(1, 4))
        mask = torch.ones(12, 20, dtype=torch.bool)
        mask[4:8, :8] = False
        y[..., 5, 5] = torch.nan
        leaf = y.requires_grad_()
        constraint = build(kind, Factor(1, 4), area, mask)
        x = constraint(leaf, coarse)
        torch.testing.assert_close(x[..., ~mask], y[..., ~mask], rtol=0, atol=0, equal_nan=True)
        assert constraint.violation(x, coarse) <= roundings(x[..., mask], coarse, Factor(1, 4))
        (gradient,) = torch.autograd.grad(x[..., mask].square().sum(), leaf)
        assert gradient.isfinite().all() and (gradient[..., ~mask] == 0).all()

    def test_a_layer_of_a_network_in_bfloat16(self, roundings: Callable[..., float], kind: type[Constraint]) -> None:
        """Two lines with a network that knows nothing of finescale, and one step of training."""
        network = torch.nn.Sequential(torch.nn.Upsample(scale_factor=4), torch.nn.Conv2d(3, 3, 3, padding=1))
        constrain = build(kind, Factor(space=4))
        coarse = torch.rand(2, 3, 4, 5)
        with torch.autocast("cpu", torch.bfloat16):
            x = constrain(network(coarse), coarse)
            loss = x.square().mean()
        loss.backward()
        assert x.dtype == torch.float32 and constrain.violation(x, coarse) <= roundings(x, coarse, Factor(space=4))
        assert not list(constrain.parameters())
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())

    def test_shapes_that_do_not_belong_together(self, kind: type[Constraint]) -> None:
        with pytest.raises(InputError, match="make"):
            build(kind, Factor(1, 4))(torch.zeros(1, 1, 1, 8, 8), torch.zeros(1, 1, 1, 3, 2))

    @given(
        factor=st.tuples(st.integers(1, 6), st.integers(1, 25), st.integers(1, 25)),
        seed=st.integers(0, 99),
        exponent=st.floats(-15, 15),
    )
    def test_any_factor_and_magnitude(
        self,
        roundings: Callable[..., float],
        kind: type[Constraint],
        factor: tuple[int, int, int],
        seed: int,
        exponent: float,
    ) -> None:
        whole = Factor(factor[0], y=factor[1], x=factor[2])
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(1, 1, 2, 1, 2, generator=generator)
        y = torch.rand(1, 1, *(n * f for n, f in zip((2, 1, 2), whole, strict=True)), generator=generator)
        # Rain far below or above its block mean; the additive projection keeps float32's precision of the larger one.
        y = y * 10**exponent if issubclass(kind, Multiplicative) else y
        constraint = build(kind, whole)
        x = constraint(y, coarse)
        assert constraint.violation(x, coarse) <= roundings(x, coarse, whole)
