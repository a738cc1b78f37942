"""Contract of every constraint: block means equal the coarse field, whatever the input."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from finescale import constraints
from finescale.constraints import Additive, Bounded, Constraint, Multiplicative, Projection, Softmax, Tapered
from finescale.constraints.penalty import SoftPenalty
from finescale.constraints.per_variable import PerVariable
from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen

KINDS: list[type[Constraint]] = [Additive, Bounded, Multiplicative, Projection, Softmax, Tapered]


def test_every_exported_constraint_is_in_the_contract_test() -> None:
    assert {getattr(constraints, name) for name in constraints.__all__} - {Constraint} == set(KINDS)


def build(
    kind: type[Constraint],
    factor: Factor,
    area: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    high: float = 6.0,
) -> Constraint:
    """The constraint, with bounds around the fields of `problem`."""
    if kind in (Bounded, Projection):
        return kind(factor, area, mask, low=0.0, high=high)  # type: ignore[call-arg]
    return kind(factor, area, mask)


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


def roundings(x: torch.Tensor, coarse: torch.Tensor, factor: Factor) -> float:
    """What `violation` may be in the number type of x, u its unit roundoff: (2 Σ f + 8) u max |x| / max |c|.

    A block's products w y and its weights w are added up axis by axis, with f − 1 roundings along each, whatever the
    order within it; the weights, the two quotients, the product and the result's own rounding are the other eight.
    """
    largest = torch.maximum(coarse.nan_to_num().abs().max(), x.nan_to_num().abs().max())
    count = 2 * sum(factor) + 8
    return count * torch.finfo(x.dtype).eps / 2 * float((largest / coarse.nan_to_num().abs().max()).detach())


@pytest.mark.parametrize("kind", KINDS)
class TestContract:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("factor", [Factor(1, 8), Factor(3, 10), Factor(2, y=1, x=5), Factor(1, 1)], ids=str)
    def test_block_means_with_unequal_areas(self, kind: type[Constraint], factor: Factor, dtype: torch.dtype) -> None:
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

    def test_masked_cells_do_not_count_and_stay(self, kind: type[Constraint]) -> None:
        factor = Factor(1, 4)
        y, coarse, area = problem(factor)
        mask = torch.rand(12, 20, generator=torch.Generator().manual_seed(5)) > 0.4
        y = torch.where(mask, y, torch.nan)
        constraint = build(kind, factor, area, mask)
        x = constraint(y, coarse)
        means = Coarsen(factor, area, mask)(x)
        torch.testing.assert_close(means, coarse, rtol=1e-5, atol=1e-5)
        assert x[..., ~mask].isnan().all() and not x[..., mask].isnan().any()

    def test_unknown_coarse_cells_give_unknown_blocks(self, kind: type[Constraint]) -> None:
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
    def test_huge_and_tiny_values(self, kind: type[Constraint], scale: float) -> None:
        y, coarse, _ = problem(Factor(1, 8))
        constraint = build(kind, Factor(1, 8), high=6 * scale)
        x = constraint(y * scale, coarse * scale)
        assert constraint.violation(x, coarse * scale) <= roundings(x, coarse * scale, Factor(1, 8))

    def test_one_wet_cell_in_a_block(self, kind: type[Constraint]) -> None:
        y, coarse, _ = problem(Factor(1, 8))
        y[..., :8, :8] = 0
        y[..., 3, 5] = 1e-3
        constraint = build(kind, Factor(1, 8))
        x = constraint(y, coarse)
        assert constraint.violation(x, coarse) <= roundings(x, coarse, Factor(1, 8))

    def test_bfloat16_input_is_constrained_in_float32(self, kind: type[Constraint]) -> None:
        y, coarse, _ = problem(Factor(1, 8))
        constraint = build(kind, Factor(1, 8))
        x = constraint(y.bfloat16(), coarse)
        assert x.dtype == torch.float32 and constraint.violation(x, coarse) <= roundings(x, coarse, Factor(1, 8))

    def test_gradient(self, kind: type[Constraint]) -> None:
        y, coarse, area = problem(Factor(1, 2), dtype=torch.float64)
        y, coarse = (y[:1, :, :1, :4, :4] + 0.1).requires_grad_(), coarse[:1, :, :1, :2, :2]
        constraint = build(kind, Factor(1, 2), area[:4, :4])
        assert torch.autograd.gradcheck(lambda v: constraint(v, coarse), (y,))
        # In c as well, where it is not zero.
        wanted = (coarse + 0.1).requires_grad_()
        assert torch.autograd.gradcheck(constraint, (y, wanted))

    def test_pictures_without_an_axis_of_time(self, kind: type[Constraint]) -> None:
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

    def test_blocks_without_a_valid_cell(self, kind: type[Constraint]) -> None:
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

    def test_a_layer_of_a_network_in_bfloat16(self, kind: type[Constraint]) -> None:
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
        self, kind: type[Constraint], factor: tuple[int, int, int], seed: int, exponent: float
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

    def test_bounds_hold_and_values_outside_are_clipped(self) -> None:
        y, coarse = torch.randn(2, 3, 8, 8) * 3, torch.rand(2, 3, 2, 2)
        constraint = Bounded(Factor(space=4))
        x = constraint(y, coarse)
        assert x.min() >= 0 and x.max() <= 1
        assert constraint.violation(x, coarse) <= roundings(x, coarse, Factor(space=4))
        assert torch.equal(x, constraint(y.clamp(0, 1), coarse))

    @pytest.mark.parametrize(("low", "high"), [(0.1, 0.7), (-0.3, 1000.1)])
    def test_bounds_hold_to_the_last_digit(self, low: float, high: float) -> None:
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

    def test_without_one_bound_it_is_multiplicative_or_additive(self) -> None:
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


class TestProjection:
    @pytest.mark.parametrize(("low", "high"), [(0.0, np.inf), (0.0, 6.0), (-np.inf, 2.0), (-np.inf, np.inf)])
    def test_it_is_the_nearest_field(self, low: float, high: float) -> None:
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

    def test_between_bounds_it_is_additive(self) -> None:
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


class TestSoftmax:
    def test_logits_of_any_size(self) -> None:
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

    def test_zero_blocks_and_signs(self) -> None:
        y, coarse, _ = problem(Factor(1, 8))
        x = Softmax(Factor(1, 8))(y, coarse)
        assert (x[0, 0, 0, 8:16, 8:16] == 0).all() and (x > 0).sum() == x.numel() - 64
        assert torch.equal(Softmax(Factor(1, 8))(y, -coarse), -x)
        assert Softmax.domain == "logits" and Additive.domain == Bounded.domain == "field"


class TestSoftPenalty:
    def test_mean_square_of_the_coarse_error(self) -> None:
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

    def test_zero_after_a_constraint_and_wide_in_bfloat16(self) -> None:
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


def test_example() -> None:
    """Conserving is exact and, with the same first weights and pictures, better after a few steps of training.

    Of six seeds the error with the layer was a seventh to a twenty-sixth of that without it after 20 steps; rounding
    changes less than another seed does, and half is asked for.
    """
    names = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "conserve_any_network.py"))
    strict = names["Conserving"](names["network"](), Bounded(Factor(space=4)))
    assert names["train"](strict, 20) < 0.5 * names["train"](names["network"](), 20)
    fine = names["pictures"](4)
    coarse = torch.nn.functional.avg_pool2d(fine, 4)
    with torch.no_grad():
        x = strict(coarse)
    assert strict.constraint.violation(x, coarse) <= roundings(x, coarse, Factor(space=4))
    assert x.min() >= 0 and x.max() <= 1


def test_additive_is_the_nearest_field() -> None:
    """No field with the same block means is nearer to y in the area-weighted norm."""
    y, coarse, area = problem(Factor(1, 4), dtype=torch.float64)
    constraint = Additive(Factor(1, 4), area)
    x = constraint(y, coarse)
    other = constraint(
        x + torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64), coarse
    )
    assert (area * (x - y) * (other - x)).sum().abs() < 1e-9 * (area * (other - x).square()).sum()


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
    def test_formula_with_areas(self, power: float, tau: float, scope: str) -> None:
        factor = Factor(3, y=4, x=5)
        y, coarse, area = problem(factor, dtype=torch.float64)
        got = Tapered(factor, area, power=power, tau=tau, scope=scope)(y, coarse)  # type: ignore[arg-type]
        expected = tapered_by_hand(y.numpy(), coarse.numpy(), factor, area.numpy(), power, tau, scope)
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-10)

    def test_without_taper_it_is_multiplicative(self) -> None:
        y, coarse, area = problem(Factor(2, 8))
        y[1, 0, 1, 8:16, 16:24] = 0
        mask = torch.rand(24, 40, generator=torch.Generator().manual_seed(5)) > 0.4
        assert torch.equal(
            Tapered(Factor(2, 8), area, mask)(y, coarse), Multiplicative(Factor(2, 8), area, mask)(y, coarse)
        )

    @pytest.mark.parametrize("scale", [1e4, 1.0, 1e-8])
    @pytest.mark.parametrize(("power", "tau"), TAPERS)
    def test_block_scope_conserves_exactly(self, power: float, tau: float, scale: float) -> None:
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

    def test_blocks_below_the_threshold_keep_their_pattern(self) -> None:
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
        self, power: float, tau: float, scale: float, scope: str
    ) -> None:
        """In float32, where y² is infinite or zero. The scale of y cancels, but for the threshold."""
        y, coarse, _ = problem(Factor(1, 4))
        got = Tapered(Factor(1, 4), power=power, tau=tau, scope=scope)(y * scale, coarse)  # type: ignore[arg-type]
        # Far above the threshold tau is nothing; far below it the field's own pattern is kept.
        power = 1.0 if tau and scale < 1 else power
        expected = Tapered(Factor(1, 4), power=power, scope=scope)(y.double(), coarse.double())  # type: ignore[arg-type]
        torch.testing.assert_close(got, expected.float(), rtol=2e-5, atol=1e-7)

    def test_frame_scope_conserves_the_total_of_known_valid_cells(self) -> None:
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
    def test_gradient_is_right_and_finite(self, power: float, tau: float, scope: str) -> None:
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


def test_a_constraint_for_every_variable() -> None:
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
