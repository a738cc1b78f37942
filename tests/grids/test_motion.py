"""Motion between frames, and where what it carries came from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from finescale.grids.motion import Array, displacement, motion, origins, sampled


def waves(height: int = 48, width: int = 56, seed: int = 0) -> Array:
    noise = np.random.default_rng(seed).standard_normal((height + 40, width + 40))
    return gaussian_filter(noise, 3).astype(np.float32)


@pytest.mark.parametrize("by", [(0.5, 0.25), (2.0, -1.0), (0.0, 0.0), (-3.0, 3.0)])
def test_a_field_that_was_moved_is_found_to_have_moved(by: tuple[float, float]) -> None:
    before = waves()
    after = shift(before, by, order=3).astype(np.float32)
    found = motion(before[20:-20, 20:-20], after[20:-20, 20:-20])
    assert found.shape == (2, 48, 56)
    np.testing.assert_allclose(np.median(found, axis=(1, 2)), by, atol=0.1)
    np.testing.assert_allclose(
        found[:, 12:-12, 12:-12], np.array(by)[:, None, None] + 0 * found[:, 12:-12, 12:-12], atol=0.4
    )


def test_unknown_cells_take_no_part() -> None:
    before = waves()
    after = shift(before, (1.0, 2.0), order=3).astype(np.float32)
    before, after = before[20:-20, 20:-20].copy(), after[20:-20, 20:-20].copy()
    before[:, :8], after[:, :8] = np.nan, np.nan
    found = motion(before, after)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.median(found[:, 10:-10, 20:-10], axis=(1, 2)), (1.0, 2.0), atol=0.15)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (np.full((20, 20), np.nan, np.float32), waves(20, 20)[:20, :20]),
        (np.ones((20, 20), np.float32), np.ones((20, 20), np.float32)),
        (waves()[:8, :30], waves(seed=1)[:8, :30]),
    ],
)
def test_where_nothing_can_be_found_nothing_moves(before: Array, after: Array) -> None:
    assert not motion(before, after).any()


@pytest.mark.parametrize(("time", "reference"), [(3.7, 0.5), (0.2, 2.9), (1.5, 1.5), (2.5, 0.5), (9.0, -2.0)])
def test_displacement_by_a_uniform_motion_is_velocity_times_time(time: float, reference: float) -> None:
    speed = np.broadcast_to(np.array([0.75, -1.25], np.float32)[:, None, None], (2, 6, 7))
    found = displacement(lambda pair: speed, 4, time, reference)
    np.testing.assert_allclose(found, speed * (time - reference), atol=1e-12)


def test_displacement_adds_up_what_each_pair_of_frames_says() -> None:
    """From the middle of a frame to the next with the velocity of that pair; beyond the ends that of the last."""
    speeds = [np.full((2, 5, 5), value, np.float32) for value in (1.0, 2.0, 4.0)]
    found = displacement(lambda pair: speeds[pair], 3, 4.25, 1.0)  # ½·1 + 1·2 + 1·4 + ¾·4
    np.testing.assert_allclose(found, 0.5 + 2 + 4 + 3)
    np.testing.assert_allclose(displacement(lambda pair: speeds[pair], 3, 1.0, 4.25), -9.5)


def test_displacement_follows_a_rotation() -> None:
    """Around the middle by ω a frame the trajectory is a circle: x − p = x − R(−ω Δ) x."""
    y, x = np.mgrid[:65, :65] - 32.0
    omega, steps = 0.1, 5.0
    speed = np.stack([-omega * x, omega * y]).astype(np.float32)  # dy/dt = −ω x, dx/dt = ω y
    found = displacement(lambda pair: speed, 9, 0.5 + steps, 0.5)
    angle = omega * steps
    came = np.stack([np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y])
    inside = y**2 + x**2 < 28**2
    wanted = np.stack([y, x]) - came
    assert np.abs(found - wanted)[:, inside].max() < 0.05
    assert np.abs(wanted)[:, inside].max() > 10


def test_a_carried_field_lies_where_it_was_taken_to() -> None:
    """Fine cells move by the coarse displacement times their number a coarse cell; unknown cells stay unknown."""
    fine = waves(64, 96)[:64, :96]
    coarse = np.zeros((2, 16, 24)) + np.array([0.5, -1.0])[:, None, None]
    places = origins((64, 96), coarse, (4, 4))
    found = sampled(fine, places)
    np.testing.assert_allclose(found[4:-4, 4:-4], fine[2:-6, 8:], rtol=1e-5)
    fine[30, 30] = np.nan
    assert np.isnan(sampled(fine, places)[32, 26]) and np.isfinite(sampled(fine, places)[10, 10])
