"""Factors, grids, cell areas with closed-form values, and errors that name what would do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finescale.errors import InputError
from finescale.grids.factor import Factor, check_divisible
from finescale.grids.grid import Grid

whole = st.integers(1, 6)
factors = st.builds(lambda time, y, x: Factor(time, y=y, x=x), whole, whole, whole)


def latlon(lat: tuple[float, float, int], lon: tuple[float, float, int], frames: int = 1) -> Grid:
    """A geographic grid from (first edge, last edge, cells) along latitude and longitude."""
    return Grid(np.arange(frames + 1.0), np.linspace(*lat[:2], lat[2] + 1), np.linspace(*lon[:2], lon[2] + 1), "latlon")


# Factor
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3x10", (3, 10, 10)),
        ("1x8x12", (1, 8, 12)),
        (" 2 x 4 ", (2, 4, 4)),
        ("1x1", (1, 1, 1)),
        ("1x10x10", (1, 10, 10)),
    ],
)
def test_factor_is_read(text, expected):
    assert tuple(Factor.parse(text)) == expected


@pytest.mark.parametrize("text", ["8", "x8", "1x8x12x2", "1.5x8", "-1x8", "axb", "", "1x", "1×8"])
def test_wrong_factor_text_is_named(text):
    with pytest.raises(InputError, match="TIMExSPACE") as error:
        Factor.parse(text)
    assert repr(text) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_factor_must_be_a_whole_number(value):
    with pytest.raises(InputError, match="factor in y"):
        Factor(y=value)


def test_zero_factor_text_is_refused():
    with pytest.raises(InputError, match="factor in time is 0"):
        Factor.parse("0x8")


def test_factor_takes_space_or_its_axes():
    assert Factor(time=3, space=10) == Factor(3, y=10, x=10)
    assert Factor(x=4) == Factor(1, y=1, x=4)
    assert Factor(2.0, space=4) == Factor(2, space=4)
    with pytest.raises(InputError, match="not both"):
        Factor(1, 8, y=8)


@given(factors)
def test_factor_writes_what_it_reads(factor):
    assert Factor.parse(str(factor)) == factor
    assert Factor.parse(factor) is factor
    assert factor.cells == np.prod(tuple(factor))
    assert hash(factor) == hash(Factor.parse(str(factor)))


# Grid
def test_cell_areas_on_latitude_and_longitude_are_those_of_the_sphere():
    grid = latlon((-90, 90, 6), (0, 360, 8))
    bands = np.sin(np.deg2rad([-90, -60, -30, 0, 30, 60, 90]))
    expected = np.repeat(np.diff(bands)[:, None], 8, axis=1) / 8
    np.testing.assert_allclose(grid.cell_area / grid.cell_area.sum(), expected / expected.sum(), rtol=1e-13)
    # sin 30° = 1/2: the band between equator and 30° has half of its hemisphere's area.
    assert grid.cell_area[3].sum() / grid.cell_area[3:].sum() == pytest.approx(0.5, rel=1e-13)


def test_cell_areas_in_metres_are_products_of_sides():
    grid = Grid(np.arange(2.0), np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0, 3.0, 7.0]), "EPSG:3067")
    expected = np.outer([1, 2], [2, 1, 4])
    np.testing.assert_allclose(grid.cell_area, expected / expected.mean())
    assert grid.cell_area.mean() == pytest.approx(1.0)


def test_descending_latitude_has_the_same_areas_reversed():
    north_up, south_up = latlon((60, 40, 5), (0, 7, 7)), latlon((40, 60, 5), (0, 7, 7))
    np.testing.assert_allclose(north_up.cell_area, south_up.cell_area[::-1], rtol=1e-13)
    assert (north_up.cell_area > 0).all()


def test_edges_beyond_the_pole_count_up_to_the_pole():
    # Cell centres on the poles give outer edges beyond them.
    grid = Grid(np.arange(2.0), np.array([-100.0, -80.0, 0.0, 80.0, 100.0]), np.array([0.0, 1.0, 2.0]), "latlon")
    ratio = grid.cell_area[0, 0] / grid.cell_area[1, 0]
    s80 = np.sin(np.deg2rad(80))
    assert ratio == pytest.approx((1 - s80) / s80)


@given(factors, whole, whole, whole)
def test_refining_and_coarsening_are_inverse(factor, t, h, w):
    coarse = Grid(
        np.cumsum(np.arange(1.0, t + 2)),
        60 - np.cumsum(np.linspace(0.5, 2, h + 1)),
        np.cumsum(np.linspace(1, 3, w + 1)),
        "latlon",
    )
    fine = coarse.refine(factor)
    assert fine.shape == (t * factor.time, h * factor.y, w * factor.x)
    back = fine.coarsen(factor)
    for axis in ("time", "y", "x"):
        np.testing.assert_allclose(getattr(back, axis), getattr(coarse, axis), rtol=1e-14)
    assert back.matches(coarse)
    # The fine cells of a block tile their coarse cell: areas add up.
    blocks = fine.cell_area.reshape(h, factor.y, w, factor.x).sum(axis=(1, 3))
    np.testing.assert_allclose(blocks / blocks.sum(), coarse.cell_area / coarse.cell_area.sum(), rtol=1e-10)


def test_coarsening_names_the_crop_that_would_do():
    grid = Grid.regular((7, 130, 95))
    with pytest.raises(InputError, match="7 x 130 x 95") as error:
        grid.coarsen(Factor(3, 8))
    assert "6 x 128 x 88" in str(error.value)
    assert "3x8" in str(error.value)


def test_a_grid_smaller_than_a_block_has_no_crop():
    with pytest.raises(InputError, match="smaller than one block of factor 1x8"):
        check_divisible((4, 16, 7), Factor(1, 8))


@given(factors, st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40)))
def test_the_named_crop_is_divisible(factor, shape):
    try:
        check_divisible(shape, factor)
    except InputError as error:
        message = str(error)
        assert any(n % f for n, f in zip(shape, factor, strict=True))
        if "crop" in message:
            crop = tuple(int(n) for n in message.split("a crop to ")[1].split(" would")[0].split(" x "))
            check_divisible(crop, factor)
            assert all(n - f < c <= n for n, f, c in zip(shape, factor, crop, strict=True))
    else:
        assert all(n % f == 0 for n, f in zip(shape, factor, strict=True))


def test_window_selects_cells():
    grid = latlon((40, 50, 10), (0, 20, 20), frames=4)
    part = grid.window(slice(1, 3), slice(2, 8), slice(5, None))
    assert part.shape == (2, 6, 15)
    np.testing.assert_array_equal(part.time, [1, 2, 3])
    assert (part.y[0], part.y[-1], part.x[0], part.x[-1]) == (42, 48, 5, 20)
    assert part.geographic
    ratio = part.cell_area / grid.cell_area[2:8, 5:]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-12)


def test_grids_match_to_a_part_of_a_cell():
    grid = Grid.regular((2, 4, 5), (300, 1000, 1000))
    moved = Grid(grid.time + 3600, grid.y + 0.5, grid.x)
    assert grid.matches(moved)
    assert not grid.matches(Grid(grid.time, grid.y + 5, grid.x))
    assert not grid.matches(Grid.regular((2, 4, 6), (300, 1000, 1000)))


@pytest.mark.parametrize("edges", [[0.0], [0.0, 0.0, 1.0], [0.0, 2.0, 1.0], [[0.0, 1.0]], [0.0, np.nan, 1.0]])
def test_edges_must_be_monotonic(edges):
    with pytest.raises(InputError, match="along y"):
        Grid(np.arange(3.0), np.array(edges), np.arange(3.0))


def test_a_grid_is_a_frozen_value():
    grid = Grid.regular((1, 4, 5))
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.crs = "latlon"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        grid.y[0] = 3.0


def test_a_grid_leaves_the_arrays_it_was_given_alone():
    y = np.arange(5.0)
    Grid(np.arange(2.0), y, np.arange(3.0))
    y[0] = -1.0
