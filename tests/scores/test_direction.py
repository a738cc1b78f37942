"""Directionality against structure tensors one by one, and on fields whose directions are known."""

from __future__ import annotations

import numpy as np
import pytest

from finescale.scores.direction import SIDE
from finescale.scores.settings import Settings
from finescale.scores.sums import Sums


def scored(members: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    sums = Sums(Settings(full=False))
    sums.add(members, truth)
    return sums.scores()


def tensors(z: np.ndarray) -> float:
    """Σ (λ₁ − λ₂) / Σ (λ₁ + λ₂) by NumPy's eigenvalues, of gradients along y and x."""
    apart = together = 0.0
    for top in range(0, z.shape[0] - SIDE, SIDE):
        for left in range(0, z.shape[1] - SIDE, SIDE):
            tensor = np.zeros((2, 2))
            for i in range(top, top + SIDE):
                for j in range(left, left + SIDE):
                    four = z[i : i + 2, j : j + 2]
                    if np.isfinite(four).all():
                        gradient = np.array([four[1].sum() - four[0].sum(), four[:, 1].sum() - four[:, 0].sum()])
                        tensor += np.outer(gradient, gradient)
            low, high = np.linalg.eigvalsh(tensor)
            apart, together = apart + high - low, together + high + low
    return apart / together


def test_it_is_that_of_structure_tensors() -> None:
    rng = np.random.default_rng(0)
    truth, members = rng.gamma(0.5, 2, (2, 67, 101)), rng.gamma(0.5, 2, (3, 2, 67, 101)) ** 2
    truth[0, 10:13, 4:9] = np.nan
    found = scored(members, truth)
    known = np.where(np.isnan(truth), np.nan, 1.0)
    one = [tensors(np.log10(1 + field / 0.1)) for field in truth]
    assert min(one) < found["directionality_truth"] < max(one)
    single = scored(members[:2, :1], truth[:1])
    each = [tensors(np.log10(1 + member[0] * known[0] / 0.1)) for member in members[:2]]
    assert min(each) <= single["directionality"] <= max(each)
    assert scored(members[:1, :1].repeat(2, 0), truth[:1])["directionality"] == pytest.approx(each[0], rel=1e-9)


@pytest.mark.parametrize("angle", [0, 30, 45, 90])
def test_streaks_have_one_direction_and_noise_none(angle: float) -> None:
    y, x = np.mgrid[:129, :129]
    along = np.cos(np.deg2rad(angle)) * y + np.sin(np.deg2rad(angle)) * x
    streaks = (10 ** (1 + 0.5 * np.sin(along / 2)) - 1)[None] * 0.1
    noise = 10 ** np.random.default_rng(1).normal(size=(2, 1, 129, 129))
    found = scored(noise, streaks)
    assert found["directionality_truth"] > 0.98 and found["directionality"] < 0.2


def test_a_field_smaller_than_a_square_has_none() -> None:
    found = scored(np.random.default_rng(0).gamma(1, 1, (2, 1, 20, 40)), np.ones((1, 20, 40)))
    assert np.isnan(found["directionality"])


def test_a_constant_field_has_no_direction_to_speak_of() -> None:
    found = scored(np.ones((2, 1, 40, 40)), np.ones((1, 40, 40)))
    assert np.isnan(found["directionality"]) and np.isnan(found["directionality_truth"])
