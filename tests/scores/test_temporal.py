"""Scores in time: closed forms, NumPy's own correlation, parts against the whole, and where the report shows them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.verify import (
    Settings,
    Sums,
    border_ratio,
    evaluate,
    lag_autocorrelation,
    score,
    score_arrays,
    verify,
)
from finescale.verify.align import align


def ar1(shape: tuple[int, ...], phi: float, seed: int = 0) -> np.ndarray:
    """x[t + 1] = φ x[t] + √(1 − φ²) noise along the axis of time, (…, T, H, W), mean 3 and variance 1."""
    noise = np.random.default_rng(seed).normal(size=shape)
    x = np.moveaxis(noise, -3, 0)
    for t in range(1, len(x)):
        x[t] = phi * x[t - 1] + np.sqrt(1 - phi**2) * x[t]
    return 3.0 + noise


@pytest.mark.parametrize("phi", [0.9, -0.4])
def test_autocorrelation_of_an_ar1_series_is_phi_to_the_lag(phi: float) -> None:
    x = ar1((2, 40, 30, 50), phi)
    for lag in (1, 2, 3):
        np.testing.assert_allclose(lag_autocorrelation(x, lag), phi**lag, atol=0.02)


def test_autocorrelation_equals_numpys_over_valid_pairs() -> None:
    x = ar1((6, 7, 9), 0.5, 1) * 2.0 - 40.0
    x[np.random.default_rng(2).random(x.shape) < 0.2] = np.nan
    for lag in (1, 4):
        a, b = x[:-lag].ravel(), x[lag:].ravel()
        both = np.isfinite(a) & np.isfinite(b)
        assert lag_autocorrelation(x, lag) == pytest.approx(np.corrcoef(a[both], b[both])[0, 1], rel=1e-10)
    area = np.random.default_rng(3).integers(1, 4, x.shape[1:])
    a, b, w = x[:-1].ravel(), x[1:].ravel(), np.broadcast_to(area, x[1:].shape).ravel()
    both = np.isfinite(a) & np.isfinite(b)
    cov = np.cov(a[both], b[both], fweights=w[both])
    expected = cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])
    assert lag_autocorrelation(x, 1, area) == pytest.approx(expected, rel=1e-10)
    assert lag_autocorrelation(x, 1) != pytest.approx(expected, rel=1e-4)


def test_autocorrelation_is_undefined_without_pairs_or_variance() -> None:
    assert np.isnan(lag_autocorrelation(np.zeros((1, 4, 4))))
    assert np.isnan(lag_autocorrelation(np.full((5, 4, 4), 281.3)))
    assert np.isnan(lag_autocorrelation(np.full((5, 4, 4), np.nan)))
    assert lag_autocorrelation(np.repeat(ar1((1, 8, 8), 0.5), 3, axis=0)) == pytest.approx(1.0)
    with pytest.raises(InputError, match="lag is 0"):
        lag_autocorrelation(np.zeros((3, 4, 4)), 0)
    with pytest.raises(InputError, match="T, H, W"):
        border_ratio(np.zeros((4, 4)), 2)


def test_border_ratio_of_ramps_steps_and_constants() -> None:
    time = np.arange(12.0)[:, None, None] * np.ones((4, 5))
    assert border_ratio(time, 3) == pytest.approx(1.0)
    assert border_ratio(time // 3, 3) == np.inf
    # One a step inside, and 2.5 more where a coarse frame of 3 begins.
    assert border_ratio(time + 2.5 * (time // 3), 3) == pytest.approx(3.5)
    assert border_ratio(-time - 2.5 * (time // 3), 3) == pytest.approx(3.5)
    assert border_ratio(np.stack([time, time // 3]), 3).tolist() == [pytest.approx(1.0), np.inf]
    for x, ft in ((time, 1), (time[:3], 3), (0 * time, 3)):
        assert np.isnan(border_ratio(x, ft))


def test_border_ratio_leaves_out_missing_cells_and_weighs_by_area() -> None:
    time = np.arange(12.0)[:, None, None] * np.ones((2, 2))
    x = time + 2.5 * (time // 3)
    x[:, 0, 0] = 100.0 * np.random.default_rng(0).random(12)
    assert border_ratio(x, 3) != pytest.approx(3.5, rel=0.01)
    x[::2, 0, 0] = np.nan  # no pair of valid neighbours is left in this cell
    assert border_ratio(x, 3) == pytest.approx(3.5)
    left = np.concatenate([time[..., :1], 2 * (time[..., 1:] // 3)], axis=-1)
    # Columns change by 1 and 2 across, 1 and 0 inside; the second has three times the area.
    assert border_ratio(left, 3, np.array([[1.0, 3.0]] * 2)) == pytest.approx((1 + 3 * 2) / 1)


def members_and_truth(times: int = 12) -> tuple[np.ndarray, np.ndarray]:
    x, y = ar1((3, times, 12, 16), 0.7, 4), ar1((times, 12, 16), 0.9, 5)
    x[1] += 0.5 * np.repeat(np.arange(times // 3), 3)[:, None, None]
    y[np.random.default_rng(6).random(y.shape) < 0.1] = np.nan
    return x, y


def test_scores_of_arrays_are_means_over_members_beside_the_truths() -> None:
    x, y = members_and_truth()
    area = np.repeat(np.linspace(1, 2, 12)[:, None], 16, axis=1)
    seen = np.where(np.isnan(y), np.nan, x)
    found = score_arrays(x, y, factor=Factor(3, 4), area=area, dry=None, thresholds=())
    assert found["autocorrelation"] == pytest.approx(lag_autocorrelation(seen, 1, area).mean(), rel=1e-12)
    assert found["autocorrelation_truth"] == pytest.approx(lag_autocorrelation(y, 1, area), rel=1e-12)
    assert found["border_ratio"] == pytest.approx(border_ratio(seen, 3, area).mean(), rel=1e-12)
    assert found["border_ratio_truth"] == pytest.approx(border_ratio(y, 3, area), rel=1e-12)
    assert found["border_ratio"] > 1.02 > found["border_ratio_truth"]


def test_scores_of_time_need_order_and_a_factor_in_time() -> None:
    x, y = members_and_truth()
    options = {"dry": None, "thresholds": ()}
    for factor in (None, Factor(1, 4)):
        found = score_arrays(x, y, factor=factor, **options)  # type: ignore[arg-type]
        assert "autocorrelation" in found and "border_ratio" not in found
    for found in (
        score_arrays(x, y, factor=Factor(3, 4), sequence=1, **options),  # type: ignore[arg-type]
        score_arrays(x[:, :1], y[:1], **options),  # type: ignore[arg-type]
    ):
        assert not {"autocorrelation", "autocorrelation_truth", "border_ratio"} & found.keys()
    with pytest.raises(InputError, match="no whole number of sequences of 5"):
        score_arrays(x, y, sequence=5)


def test_sequences_one_after_another_do_not_mix() -> None:
    """Pooled over two sequences, the pair between them left out."""
    x, y = members_and_truth()
    y = np.nan_to_num(y, nan=3.0)
    y[6:] += 40.0
    found = score_arrays(x, y, factor=Factor(3, 4), sequence=6, dry=None, thresholds=())
    a = np.concatenate([y[:5], y[6:11]]).ravel()
    b = np.concatenate([y[1:6], y[7:12]]).ravel()
    assert found["autocorrelation_truth"] == pytest.approx(np.corrcoef(a, b)[0, 1], rel=1e-10)
    change = np.abs(np.diff(y, axis=0)).mean(axis=(1, 2))
    across, inside = change[[2, 8]].mean(), change[[0, 1, 3, 4, 6, 7, 9, 10]].mean()
    assert found["border_ratio_truth"] == pytest.approx(across / inside, rel=1e-10)


@pytest.mark.parametrize("parts", [(3, 9), (1, 1, 4, 6), (5, 7)])
def test_parts_add_up_to_the_whole_wherever_they_end(parts: tuple[int, ...]) -> None:
    x, y = members_and_truth()
    sums = Sums(Settings((), dry=None, factor=Factor(3, 4)))
    start = 0
    for n in parts:
        sums.add(x[:, start : start + n], y[start : start + n])
        start += n
    whole = score_arrays(x, y, factor=Factor(3, 4), dry=None, thresholds=())
    for name in ("autocorrelation", "autocorrelation_truth", "border_ratio", "border_ratio_truth"):
        assert sums.scores()[name] == pytest.approx(whole[name], rel=1e-12)


def series(values: np.ndarray, minutes: np.ndarray) -> xr.DataArray:
    time = np.datetime64("2024-06-01T00:00", "ns") + minutes.astype("timedelta64[m]")
    coords = {"time": time, "y": 1000.0 * np.arange(12), "x": 1000.0 * np.arange(16)}
    dims = ("realization", "time", "y", "x")[-values.ndim :]
    return xr.DataArray(values, coords, dims, "wind", {"units": "m s-1"})


def test_files_in_parts_with_a_gap_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = members_and_truth()
    minutes = 10 * np.arange(12)
    minutes[6:] += 60
    ensemble, truth = series(x, minutes), series(y, minutes)
    case = align(ensemble, truth, factor="3x4")
    assert case.follows.tolist() == [False, *[True] * 5, False, *[True] * 5]
    whole = score(ensemble, truth, factor="3x4", baselines=("nearest",))
    expected = score_arrays(x, y, factor=Factor(3, 4), sequence=6, dry=None, thresholds=())
    for name in ("autocorrelation", "autocorrelation_truth", "border_ratio", "border_ratio_truth"):
        assert float(whole[name].sel(system="ensemble")) == pytest.approx(expected[name], rel=1e-10)
    assert float(whole["border_ratio"].sel(system="nearest")) == np.inf
    monkeypatch.setattr(evaluate, "PART_BYTES", 1)
    xr.testing.assert_allclose(score(ensemble, truth, factor="3x4", baselines=("nearest",)), whole, rtol=1e-12)
    cftime = ensemble.convert_calendar("noleap", use_cftime=True), truth.convert_calendar("noleap", use_cftime=True)
    assert align(*cftime, factor="3x4").follows.tolist() == case.follows.tolist()


def test_the_report_shows_scores_of_time_with_the_truths_as_the_best(tmp_path: Path) -> None:
    x, y = members_and_truth()
    minutes = 10 * np.arange(12)
    for name, da in (("ensemble", series(x, minutes)), ("truth", series(y, minutes))):
        da.to_dataset().assign_attrs(finescale_factor="3x4").to_netcdf(tmp_path / f"{name}.nc", engine="netcdf4")
    verify(tmp_path / "ensemble.nc", tmp_path / "truth.nc", tmp_path / "out", baselines=("nearest",))
    stored = json.loads((tmp_path / "out" / "scores.json").read_text())
    ours = stored["systems"]["ensemble"]
    assert ours["border_ratio"] > ours["border_ratio_truth"] > 0.9
    assert stored["systems"]["nearest"]["border_ratio"] is None
    assert {"autocorrelation", "border_ratio"} <= stored["definitions"].keys()
    page = (tmp_path / "out" / "report.html").read_text()
    row = page[page.index("Border ratio") :][:400]
    assert f"best is {ours['border_ratio_truth']:.3g}" in row and "∞" in row
    assert f'class="best">{ours["border_ratio"]:.3f}' in row
