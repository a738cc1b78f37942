"""Quantile mapping after interpolation: closed forms, frequencies of rain, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from finescale.errors import InputError
from finescale.verify import baselines, quantile_mapping


def held(series: np.ndarray, shape: tuple[int, int] = (2, 3)) -> np.ndarray:
    """A coarse field (t, 2, 3) that is the same everywhere: every interpolation of it is itself."""
    return np.broadcast_to(series[:, None, None], (series.size, *shape)).copy()


def test_two_normal_distributions_are_mapped_by_a_line(rng: np.random.Generator) -> None:
    """Of X ~ N(10, 2²) and Y ~ N(−3, 0.5²) the mapping is y = −3 + 0.25 (x − 10)."""
    model, truth = rng.normal(10, 2, 20_000), rng.normal(-3, 0.5, (20_000, 2, 3))
    asked = np.linspace(7, 13, 13)
    found = quantile_mapping(held(model, (1, 1)), truth, held(asked, (1, 1)))
    assert found.shape == (1, 13, 2, 3)
    expected = np.broadcast_to((-3 + 0.25 * (asked - 10))[:, None, None], found[0].shape)
    np.testing.assert_allclose(found[0], expected, atol=0.03)


def test_a_linear_error_is_mended_exactly_and_kept_beyond_the_quantiles(rng: np.random.Generator) -> None:
    model = rng.gamma(2.0, 3.0, 50)
    truth = np.repeat(np.repeat(5 + 0.5 * held(model), 4, axis=1), 4, axis=2)
    inside = np.quantile(model, [0.02, 0.31, 0.5, 0.98])
    levels = (np.arange(100) + 0.5) / 100
    lowest, highest = np.quantile(model, levels[[0, -1]], method="hazen")
    found = quantile_mapping(held(model), truth, held(np.append(inside, [lowest - 3, highest + 7])))[0]
    expected = [*(5 + 0.5 * inside), 5 + 0.5 * lowest - 3, 5 + 0.5 * highest + 7]
    np.testing.assert_allclose(found, np.broadcast_to(np.array(expected)[:, None, None], found.shape), rtol=1e-12)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_what_is_right_already_stays_as_interpolated(rng: np.random.Generator, interpolation: str) -> None:
    coarse = rng.normal(size=(30, 3, 4))
    fine = baselines.baseline(interpolation, coarse, baselines.Factor(1, y=4, x=3))[0]
    found = quantile_mapping(coarse, fine, coarse[:7], interpolation=interpolation)
    np.testing.assert_allclose(found[0], fine[:7], atol=1e-12)


@pytest.mark.parametrize(("shares", "says"), [((0.7, 0.4), "too dry"), ((0.2, 0.6), "too wet")])
def test_rain_falls_as_often_as_in_the_truth(rng: np.random.Generator, shares: tuple[float, float], says: str) -> None:
    """Shares of dry days in the model and in the truth: the mapped field has the truth's, as does its mean."""
    days, wet = 4000, 1.0

    def rain(dry: float, scale: float, size: tuple[int, ...]) -> np.ndarray:
        return np.where(rng.random(size) < dry, 0.3 * rng.random(size), wet + rng.exponential(scale, size))

    model, truth = rain(shares[0], 4.0, (days,)), rain(shares[1], 7.0, (days, 2, 2))
    found = quantile_mapping(held(model, (1, 1)), truth, held(model, (1, 1)), wet=wet, members=3)
    assert found.shape == (3, days, 2, 2) and ((found == 0) | (found >= wet)).all()
    np.testing.assert_allclose(
        (found >= wet).mean(axis=1), np.broadcast_to((truth >= wet).mean(axis=0), (3, 2, 2)), atol=0.03
    )
    amounts = np.where(truth < wet, 0.0, truth).mean(axis=0)
    np.testing.assert_allclose(found.mean(axis=1), np.broadcast_to(amounts, (3, 2, 2)), rtol=0.05)
    # Members differ where dry days become wet, and there alone.
    differ = (found[0] != found[1]).any(axis=(1, 2))
    assert differ[model >= wet].sum() == 0 and bool(differ[model < wet].any()) == (says == "too dry")
    again = quantile_mapping(held(model, (1, 1)), truth, held(model, (1, 1)), wet=wet, members=3)
    np.testing.assert_array_equal(found, again)


def test_missing_values_stay_missing_and_leave_the_rest(rng: np.random.Generator) -> None:
    coarse, fine = rng.gamma(1, 3, (20, 2, 2)), rng.gamma(1, 3, (20, 4, 4))
    whole = quantile_mapping(coarse, fine, coarse, wet=0.1, members=2)
    sea = fine.copy()
    sea[:, 0, 0] = np.nan  # never seen
    sea[3:, 3, 3] = np.nan  # seen too seldom
    found = quantile_mapping(coarse, sea, coarse, wet=0.1, members=2)
    gone = np.zeros((4, 4), bool)
    gone[0, 0] = gone[3, 3] = True
    assert np.isnan(found[..., gone]).all()
    np.testing.assert_array_equal(found[..., ~gone], whole[..., ~gone])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fine_train": np.zeros((20, 5, 4))}, "no whole multiple"),
        ({"coarse_test": np.zeros((5, 2, 3))}, "on the same cells"),
        ({"coarse_test": np.zeros((2, 2))}, "must be"),
        ({"coarse_train": np.zeros((5, 2, 2)), "fine_train": np.zeros((5, 4, 4))}, "at least 10 training times"),
        ({"interpolation": "nearest"}, "bilinear or bicubic"),
    ],
)
def test_refused(change: dict, words: str) -> None:
    given = {
        "coarse_train": np.zeros((20, 2, 2)),
        "fine_train": np.zeros((20, 4, 4)),
        "coarse_test": np.ones((5, 2, 2)),
    }
    with pytest.raises(InputError, match=words):
        quantile_mapping(**given | change)
