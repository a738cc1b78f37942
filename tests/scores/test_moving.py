"""Autocorrelation along the motion: of fields that move, that stand still, and that are new in every frame."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from finescale.grids.factor import Factor
from finescale.scores.settings import Settings
from finescale.scores.sums import Sums

FRAMES, SIDE, SPEED = 5, 128, (2, -3)
"""Fine cells a frame."""


def rain(seed: int, still: bool = False) -> np.ndarray:
    """(T, H, W), detail on large showers, which moves by whole cells."""
    rng, room = np.random.default_rng(seed), FRAMES * 3
    noise = rng.standard_normal((2, SIDE + 2 * room, SIDE + 2 * room))
    large, small = (gaussian_filter(one, width) for one, width in zip(noise, (12, 1.5), strict=True))
    field = np.exp(2 * large / large.std() + small / small.std())
    steps = [(0, 0) if still else (t * SPEED[0], t * SPEED[1]) for t in range(FRAMES)]
    return np.stack([field[room - y : room - y + SIDE, room - x : room - x + SIDE] for y, x in steps])


def scored(members: np.ndarray, truth: np.ndarray, **settings: object) -> dict[str, np.ndarray]:
    sums = Sums(Settings(**settings))  # type: ignore[arg-type]
    sums.add(members, truth)
    return sums.scores()


@pytest.mark.parametrize("factor", [None, Factor(1, 4), Factor(2, 1)])
def test_what_moves_with_the_truth_keeps_its_shape(factor: Factor | None) -> None:
    truth = rain(0)
    found = scored(np.stack([truth, truth]), truth, factor=factor)
    assert found["moving_autocorrelation_truth"] > 0.93 > 0.9 > found["autocorrelation_truth"]
    assert found["moving_autocorrelation"] == pytest.approx(found["moving_autocorrelation_truth"], abs=1e-6)
    still = rain(1, still=True)
    found = scored(np.stack([still, still]), truth, factor=factor)
    assert found["autocorrelation"] > 0.999
    assert found["moving_autocorrelation"] < 0.9
    new = np.stack([rain(seed)[0] for seed in range(2, 2 + FRAMES)])
    assert abs(scored(np.stack([new, new]), truth, factor=factor)["moving_autocorrelation"]) < 0.4


def test_unknown_cells_and_parts_of_a_sequence_change_nothing() -> None:
    truth = rain(0)
    members = np.stack([truth, rain(3)])
    whole = scored(members, truth)
    parts = Sums(Settings())
    for t in range(FRAMES):
        parts.add(members[:, t : t + 1], truth[t : t + 1])
    assert parts.scores()["moving_autocorrelation"] == pytest.approx(whole["moving_autocorrelation"])
    truth = truth.copy()
    truth[2, 40:60, 40:60] = np.nan
    assert scored(members, truth)["moving_autocorrelation_truth"] == pytest.approx(
        float(whole["moving_autocorrelation_truth"]), abs=0.03
    )


def test_there_is_none_where_no_frames_follow_or_motion_is_not_found() -> None:
    truth = rain(0)
    alone = Sums(Settings())
    alone.add(truth[None], truth, follows=False)
    assert "moving_autocorrelation" not in alone.scores()
    small = truth[:, :40, :40]
    assert "moving_autocorrelation" not in scored(small[None], small)
    assert "moving_autocorrelation" not in scored(truth[None], truth, full=False)
