"""Scores of probabilities against independent implementations, closed forms and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage, stats

from finescale.scores import crps, deterministic, events, ranks
from finescale.scores.cells import sort_members
from finescale.verify import score_arrays

Array = NDArray[np.float64]


def rain(shape: tuple[int, ...], seed: int = 0) -> Array:
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, [0] * (len(shape) - 2) + [2, 2])
    return np.maximum(np.exp(2.5 * smooth / smooth.std()) - 1.0, 0.0)


def pair() -> tuple[Array, Array, Array]:
    """Members (7, 2, 20, 30), truth with NaN, area."""
    y = rain((2, 20, 30), 4)
    y[np.random.default_rng(1).random(y.shape) < 0.1] = np.nan
    return rain((7, 2, 20, 30), 3), y, np.repeat(np.linspace(1.0, 3.0, 20)[:, None], 30, axis=1)


@pytest.mark.parametrize("members", [1, 2, 3, 5, 8, 13, 16, 51])
def test_comparators_sort(members: int) -> None:
    x = np.random.default_rng(members).integers(0, 9, (members, 500)).astype(np.float32)
    np.testing.assert_array_equal(sort_members(x), np.sort(x, axis=0))


@pytest.mark.parametrize("threshold", [0.1, 5.0])
def test_threshold_weighted_crps_equals_scores_and_scoringrules(threshold: float) -> None:
    import scoringrules
    from scores.probability import tail_tw_crps_for_ensemble

    x, y, _ = pair()
    found = crps.threshold_weighted_crps(x, y, (threshold,))[0]
    dims = ("m", "t", "y", "x")
    expected = tail_tw_crps_for_ensemble(
        xr.DataArray(x, dims=dims), xr.DataArray(y, dims=dims[1:]), "m", threshold, method="fair", tail="upper"
    )
    assert found == pytest.approx(float(expected), rel=1e-10)
    valid = np.isfinite(y)
    chained = scoringrules.twcrps_ensemble(
        y[valid], x[:, valid], v_func=lambda f: np.maximum(f, threshold), m_axis=0, estimator="fair"
    )
    assert found == pytest.approx(np.mean(chained), rel=1e-10)


def test_threshold_below_all_values_gives_the_crps() -> None:
    x, y, area = pair()
    assert crps.threshold_weighted_crps(x, y, (-1.0,), area)[0] == pytest.approx(crps.fair_crps(x, y, area), 1e-12)


def test_brier_equals_scores_and_the_fair_one_too() -> None:
    from scores.probability import brier_score_for_ensemble

    x, y, _ = pair()
    found = events.probability_scores(x, y, (0.1, 5.0))
    fcst, obs = xr.DataArray(x, dims=("m", "t", "y", "x")), xr.DataArray(y, dims=("t", "y", "x"))
    for k, threshold in enumerate((0.1, 5.0)):
        for name, fair in (("brier", False), ("brier_fair", True)):
            expected = brier_score_for_ensemble(fcst, obs, "m", threshold, fair_correction=fair)
            assert found[name][k] == pytest.approx(float(np.squeeze(expected)), rel=1e-10)


def test_pod_and_far_equal_scores() -> None:
    from scores.categorical import ThresholdEventOperator

    x, y, _ = pair()
    found = events.event_scores(x, y, (1.0,))
    table = ThresholdEventOperator(default_event_threshold=1.0)
    each = [table.make_contingency_manager(xr.DataArray(m), xr.DataArray(y)).transform() for m in x]
    assert found["pod"][0] == pytest.approx(np.mean([float(m.probability_of_detection()) for m in each]), rel=1e-12)
    assert found["far"][0] == pytest.approx(np.mean([float(m.false_alarm_ratio()) for m in each]), rel=1e-12)


def test_roc_area_is_the_chance_that_an_event_has_the_higher_probability() -> None:
    x, y, _ = pair()
    found = events.probability_scores(x, y, (1.0,))
    valid = np.isfinite(y)
    p, seen = (x[:, valid] >= 1.0).mean(axis=0), y[valid] >= 1.0
    mann_whitney = stats.mannwhitneyu(p[seen], p[~seen]).statistic / (seen.sum() * (~seen).sum())
    assert found["roc_area"][0] == pytest.approx(mann_whitney, rel=1e-10)
    assert found["roc_hit_rate"].shape == (1, 9)
    assert found["roc_hit_rate"][0, [0, -1]].tolist() == [0.0, 1.0]


def test_reliability_by_hand_with_areas() -> None:
    # Two members, four cells of areas 1, 2, 3, 4: events in 2, 1, 1, 0 members; seen in cells 0 and 2.
    x = np.array([[5.0, 5.0, 0.0, 0.0], [5.0, 0.0, 5.0, 0.0]]).reshape(2, 1, 1, 4)
    y = np.array([5.0, 0.0, 5.0, 0.0]).reshape(1, 1, 4)
    area = np.array([[1.0, 2.0, 3.0, 4.0]])
    found = events.probability_scores(x, y, (1.0,), area)
    np.testing.assert_allclose(found["reliability_weight"][0], [0.4, 0.5, 0.1])
    np.testing.assert_allclose(found["reliability_observed"][0], [0.0, 0.6, 1.0])
    assert found["brier"][0] == pytest.approx((2 + 3) * 0.25 / 10)
    assert found["brier_fair"][0] == pytest.approx(0.0, abs=1e-15)
    # Hit rates 1/4 then 1, false alarm rates 0 then 2/6: area (2/6)(1/4 + 1)/2 + 4/6.
    assert found["roc_area"][0] == pytest.approx(2 / 6 * 0.625 + 4 / 6)


def test_calibrated_gaussian_ensemble() -> None:
    rng, members = np.random.default_rng(0), 10
    x, y = rng.normal(size=(members, 1, 300, 300)), rng.normal(size=(1, 300, 300))
    found = ranks.rank_scores(x, y)
    assert np.abs(found["pit_histogram"] * ranks.PIT_BINS - 1).max() < 0.06 and found["mace"] < 0.004
    # Interpolated quantiles of 10 normal members: near the nominal level; exact at the widest interval, 9/11.
    cover = ranks.coverage(x, y)
    np.testing.assert_allclose(cover, ranks.coverage_expected(members), atol=0.025)
    assert cover[-1] == pytest.approx(9 / 11, abs=0.004) and cover[2] == cover[3]
    exact = np.mean((y >= x.min(axis=0)) & (y <= x.max(axis=0)))
    assert cover[-1] == pytest.approx(exact, rel=1e-12)
    narrow, wide = ranks.rank_scores(0.5 * x, y), ranks.rank_scores(np.sqrt(2.0) * x, y)
    assert narrow["pit_histogram"][[0, -1]].min() > 0.1 > 0.05 > wide["pit_histogram"][[0, -1]].max()
    assert narrow["mace"] > 0.05 and wide["mace"] > 0.02
    assert ranks.coverage(0.5 * x, y)[0] < 0.35 and ranks.coverage(np.sqrt(2.0) * x, y)[0] > 0.58


def test_coverage_equals_numpys_quantiles() -> None:
    x, y, area = pair()
    x = x + 1.0  # no interval holds a dry cell by chance of rounding
    valid = np.isfinite(y)
    w = np.broadcast_to(area, y.shape)[valid]
    for level, found in zip(ranks.LEVELS, ranks.coverage(x, y, area), strict=True):
        low, high = np.quantile(x[:, valid], [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull")
        assert found == pytest.approx(w[(y[valid] >= low) & (y[valid] <= high)].sum() / w.sum(), rel=1e-10)


def test_coverage_of_wet_cells_is_that_of_cells_with_a_wet_mean() -> None:
    """Dry cells, which lie in any interval, and cells where only the truth is wet are left out."""
    x, y, area = pair()
    x, y = x.copy(), y.copy()
    x[..., :6], y[..., :4] = 0.0, 0.0
    wet = x.mean(axis=0) >= 0.1
    found = score_arrays(x, y, area=area)
    only = np.where(wet, y, np.nan)
    np.testing.assert_allclose(found["coverage_wet"], ranks.coverage(x, only, area), rtol=1e-12)
    assert not np.allclose(found["coverage_wet"], found["coverage"])
    assert "coverage_wet" not in score_arrays(x, y, area=area, dry=None)


def test_pit_of_ties_is_uniform() -> None:
    zeros = np.zeros((1, 200, 200))
    found = ranks.rank_scores(np.zeros((3, 1, 200, 200)), zeros)
    assert np.abs(found["pit_histogram"] * ranks.PIT_BINS - 1).max() < 0.1


def test_correlation_equals_numpys() -> None:
    x, y, area = pair()
    valid = np.isfinite(y)
    found = deterministic.mean_errors(x, y)["correlation"]
    assert found == pytest.approx(np.corrcoef(x.mean(axis=0)[valid], y[valid])[0, 1], rel=1e-10)
    cov = np.cov(x.mean(axis=0)[valid], y[valid], aweights=np.broadcast_to(area, y.shape)[valid])
    expected = cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])
    assert deterministic.mean_errors(x, y, area)["correlation"] == pytest.approx(expected, rel=1e-10)
    assert np.isnan(deterministic.mean_errors(x, np.full_like(y, 3.3))["correlation"])


def test_single_precision_is_close_to_double() -> None:
    x, y, area = pair()
    x, y = x + 270.0, y + 270.0  # as a temperature, whose errors are small beside its values
    double = score_arrays(x.astype("f4").astype("f8"), y.astype("f4").astype("f8"), area=area, dry=None, full=True)
    single = score_arrays(x.astype("f4"), y.astype("f4"), area=area, dry=None, full=True)
    for name, value in double.items():
        np.testing.assert_allclose(single[name], value, rtol=2e-5, atol=1e-6, err_msg=name)


def test_one_member_and_missing_cells_of_a_member() -> None:
    x, y, _ = pair()
    found = score_arrays(x[:1], y)
    assert "mace" not in found and "coverage" not in found and found["rank_histogram"] == []
    assert found["brier"][1] == pytest.approx(np.mean(((x[0] >= 1.0) != (y >= 1.0))[np.isfinite(y)]))
    assert np.isnan(found["brier_fair"]).all()
    holed = x.copy()
    holed[2, :, :, :5] = np.nan
    both = np.where(np.isnan(holed).any(axis=0), np.nan, y)
    cut = score_arrays(x, both, full=True)
    for name, value in score_arrays(holed, y, full=True).items():
        np.testing.assert_allclose(value, cut[name], rtol=1e-12, atol=1e-14, err_msg=name)
