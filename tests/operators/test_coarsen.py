"""Block means and replication: weights, adjointness, A U = 1, masks, and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.grids.grid import Grid
from finescale.operators.coarsen import Coarsen, require_blocks

sizes = st.integers(1, 4)


def random_operator(factor: Factor, coarse: tuple[int, int, int], seed: int, *, masked: bool) -> Coarsen:
    """Areas over two orders of magnitude, two fifths of the cells missing, but at least one in each block valid."""
    gen = torch.Generator().manual_seed(seed)
    fine = [n * f for n, f in zip(coarse, factor, strict=True)]
    area = 10 ** (2 * torch.rand(fine[1:], generator=gen, dtype=torch.float64) - 1)
    if not masked:
        return Coarsen(factor, area)
    mask = torch.rand(fine, generator=gen) > 0.4
    mask[:: factor.time, :: factor.y, :: factor.x] = True
    return Coarsen(factor, area, mask)


def inner(a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor) -> float:
    return float((weight * a * b).sum())


@given(sizes, sizes, sizes, st.tuples(sizes, sizes, sizes), st.integers(0, 10**6), st.booleans())
def test_replication_is_the_adjoint_and_right_inverse_of_the_block_mean(ft, fy, fx, coarse, seed, masked):
    factor = Factor(ft, y=fy, x=fx)
    coarsen = random_operator(factor, coarse, seed, masked=masked)
    gen = torch.Generator().manual_seed(seed + 1)
    c = torch.randn(2, 3, *coarse, generator=gen, dtype=torch.float64)
    x = torch.randn(2, 3, *(n * f for n, f in zip(coarse, factor, strict=True)), generator=gen, dtype=torch.float64)

    weight = coarsen.weight(x)
    block_weight = coarsen.sums(weight)
    assert inner(coarsen(x), c, block_weight) == pytest.approx(
        inner(x, coarsen.replicate(c), weight), rel=1e-10, abs=1e-10
    )
    torch.testing.assert_close(coarsen(coarsen.replicate(c)), c, rtol=1e-13, atol=1e-13)
    assert torch.equal(coarsen.times(x, c), x * coarsen.replicate(c))


def test_plain_block_means_agree_with_numpy():
    x = torch.arange(2 * 6 * 8, dtype=torch.float64).reshape(1, 1, 2, 6, 8)
    expected = x.numpy().reshape(1, 1, 1, 2, 3, 2, 2, 4).mean(axis=(3, 5, 7))
    np.testing.assert_allclose(Coarsen(Factor(2, y=2, x=4))(x).numpy(), expected)


def test_weights_on_latitude_and_longitude_are_closed_form():
    # Bands 0-30° and 30-90° of one hemisphere have equal areas (sin 30° = 1/2); 0-30° and 30-60° do not.
    grid = Grid(np.arange(2.0), np.array([0.0, 30.0, 60.0]), np.array([0.0, 10.0, 20.0]), "latlon")
    coarsen = Coarsen(Factor(1, 2), torch.from_numpy(grid.cell_area.copy()))
    x = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    assert coarsen(x).item() == pytest.approx(np.sin(np.pi / 6) / np.sin(np.pi / 3), rel=1e-14)

    polar = Grid(np.arange(2.0), np.array([90.0, 30.0, 0.0]), np.array([0.0, 10.0, 20.0]), "latlon")
    assert Coarsen(Factor(1, 2), torch.from_numpy(polar.cell_area.copy()))(x).item() == pytest.approx(0.5, rel=1e-14)


def test_coarsening_in_two_steps_equals_one():
    grid = Grid(np.arange(5.0), np.linspace(70, 20, 13), np.linspace(0, 30, 19), "latlon")
    middle = grid.coarsen(Factor(2, y=2, x=3))
    x = torch.randn(1, 1, 4, 12, 18, dtype=torch.float64)
    fine_area, middle_area = (torch.from_numpy(g.cell_area.copy()) for g in (grid, middle))
    two = Coarsen(Factor(2, y=3, x=2), middle_area)(Coarsen(Factor(2, y=2, x=3), fine_area)(x))
    torch.testing.assert_close(Coarsen(Factor(4, y=6, x=6), fine_area)(x), two)


def test_missing_cells_do_not_count_even_when_nan():
    x = torch.tensor([[[1.0, 3.0, 5.0, torch.nan], [torch.nan, 2.0, torch.nan, torch.nan]]], dtype=torch.float64)
    area = torch.tensor([[1.0, 2.0, 1.0, 1.0], [1.0, 5.0, 1.0, 1.0]], dtype=torch.float64)
    coarsen = Coarsen(Factor(1, 2), area, ~x.isnan())
    torch.testing.assert_close(coarsen(x), torch.tensor([[[(1 + 6 + 10) / 8, 5.0]]], dtype=torch.float64))


def test_a_block_without_valid_cells_is_nan_and_spoils_no_other():
    x = torch.ones(1, 1, 1, 4, 6, requires_grad=True)
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[:2, 2:4] = False
    out = Coarsen(Factor(1, 2), None, mask)(x)
    expected = torch.ones(1, 1, 1, 2, 3)
    expected[..., 0, 1] = torch.nan
    torch.testing.assert_close(out, expected, equal_nan=True)
    out.nansum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0, 0, 0][mask], torch.full((20,), 0.25))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_areas_over_many_orders_of_magnitude_keep_constants(dtype):
    area = torch.logspace(-12, 12, 8 * 12).reshape(8, 12).to(dtype)
    coarsen = Coarsen(Factor(1, y=4, x=6), area)
    out = coarsen(torch.full((1, 1, 1, 8, 12), 7.25, dtype=dtype))
    assert out.dtype == dtype
    # Σ w x and Σ w of 6 and then 4 cells: 8 roundings each in any order; two products and a quotient. Of half an eps.
    torch.testing.assert_close(out, torch.full_like(out, 7.25), rtol=19 / 2 * torch.finfo(dtype).eps, atol=0)


def test_members_and_channels_are_batch_dimensions():
    coarsen = random_operator(Factor(2, y=3, x=2), (1, 2, 3), seed=0, masked=True)
    x = torch.randn(2, 4, 3, 2, 6, 6, dtype=torch.float64)
    together = coarsen(x)
    assert together.shape == (2, 4, 3, 1, 2, 3)
    torch.testing.assert_close(together[1, 2, 0], coarsen(x[1, 2, 0]))


def test_area_and_mask_move_with_the_module_but_are_not_saved():
    coarsen = random_operator(Factor(1, 2), (1, 2, 2), seed=0, masked=True)
    assert coarsen.state_dict() == {}
    assert coarsen.to(torch.float32).area.dtype == torch.float32


def test_indivisible_shape_names_the_crop():
    with pytest.raises(InputError, match="1 x 128 x 96"):
        Coarsen(Factor(1, 8))(torch.zeros(1, 1, 1, 130, 100))


def test_require_blocks_names_both_shapes():
    fine, coarse = torch.zeros(1, 1, 3, 16, 24), torch.zeros(1, 1, 3, 2, 3)
    require_blocks(fine, coarse, Factor(1, 8))
    with pytest.raises(InputError, match=r"\(3, 8, 12\).*\(3, 16, 24\)"):
        require_blocks(fine, coarse, Factor(1, 4))
