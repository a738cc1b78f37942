"""Scores against independent implementations and known cases; parts against the whole; baselines; the report."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

from finescale.errors import InputError
from finescale.grids.blocks import block_means
from finescale.grids.factor import Factor
from finescale.grids.grid import Grid
from finescale.scores import (
    cells,
    conservation,
    crps,
    deterministic,
    distribution,
    events,
    fss,
    image,
    multivariate,
    ranks,
    spectra,
)
from finescale.scores.cells import Frame
from finescale.verify import Settings, Sums, baselines, paired_bootstrap, rainfarm, score, score_arrays, verify
from finescale.verify.align import align
from finescale.verify.scorecard import short, text

FACTOR = Factor(1, y=4, x=6)


def rain(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Rain with dry areas, correlated over a few cells."""
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, [0] * (len(shape) - 2) + [2, 2])
    return np.maximum(np.exp(2.5 * smooth / smooth.std()) - 1.0, 0.0)


def holes(truth: np.ndarray, seed: int = 1) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(truth.shape) < 0.1, np.nan, truth)


@pytest.fixture(scope="module")
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Members (5, 3, 24, 36), truth with NaN, area (24, 36)."""
    area = np.repeat(np.cos(np.deg2rad(np.linspace(40, 70, 24)))[:, None], 36, axis=1)
    return rain((5, 3, 24, 36), 3), holes(rain((3, 24, 36), 4)), area


def test_crps_equals_scores_and_scoringrules(case: Any) -> None:
    import scoringrules
    from scores.probability import crps_for_ensemble

    x, y, _ = case
    fcst, obs = xr.DataArray(x, dims=("m", "t", "y", "x")), xr.DataArray(y, dims=("t", "y", "x"))
    expected = float(crps_for_ensemble(fcst, obs, "m", method="fair"))
    assert crps.fair_crps(x, y) == pytest.approx(expected, rel=1e-12)
    valid = np.isfinite(y)
    other = scoringrules.crps_ensemble(y[valid], x[:, valid], m_axis=0, estimator="fair")
    np.testing.assert_allclose(crps.crps_cells(x, np.nan_to_num(y))[valid], other, atol=1e-12)


def test_energy_score_equals_scoringrules(case: Any) -> None:
    import scoringrules

    x, y, _ = rain((5, 2, 9, 7), 1), rain((2, 9, 7), 2), None
    flat = x.reshape(5, 2, -1)
    nrg = [scoringrules.es_ensemble(y[t].ravel(), flat[:, t], m_axis=0, v_axis=-1, estimator="fair") for t in range(2)]
    assert multivariate.energy_score(x, y) == pytest.approx(np.mean(nrg) / np.sqrt(63), rel=1e-10)


def test_one_member_crps_is_the_absolute_error(case: Any) -> None:
    x, y, area = case
    assert crps.fair_crps(x[:1], y, area) == pytest.approx(deterministic.mean_errors(x[:1], y, area)["mae"], rel=1e-12)
    assert np.isnan(deterministic.mean_errors(x[:1], y)["spread_skill"])


def test_mean_errors_with_weights_by_hand(case: Any) -> None:
    x, y, area = case
    error, w = x.mean(axis=0) - y, np.where(np.isfinite(y), area, 0.0)
    assert deterministic.mean_errors(x, y, area)["mae"] == pytest.approx(np.nansum(w * np.abs(error)) / w.sum())
    assert deterministic.mean_errors(x, y, area)["rmse"] == pytest.approx(np.sqrt(np.nansum(w * error**2) / w.sum()))
    assert deterministic.mean_errors(x, y, area)["bias"] == pytest.approx(np.nansum(w * error) / w.sum())
    assert deterministic.mean_errors(x, y, area)["mae"] != pytest.approx(
        deterministic.mean_errors(x, y)["mae"], rel=1e-4
    )


@pytest.mark.parametrize("threshold", [0.1, 5.0])
def test_csi_equals_scores(case: Any, threshold: float) -> None:
    from scores.categorical import ThresholdEventOperator

    x, y, _ = case
    table = ThresholdEventOperator(default_event_threshold=threshold)
    expected = [
        float(table.make_contingency_manager(xr.DataArray(m), xr.DataArray(y)).transform().critical_success_index())
        for m in x
    ]
    assert events.event_scores(x, y, (threshold,))["csi"][0] == pytest.approx(np.mean(expected), rel=1e-12)


@pytest.mark.parametrize("scale", [3, 6])
def test_fss_equals_scores(scale: int) -> None:
    from scores.spatial import fss_2d

    x, y = rain((2, 2, 20, 30), 5), rain((2, 20, 30), 6)
    expected = [
        float(
            fss_2d(
                xr.DataArray(m, dims=("t", "y", "x")),
                xr.DataArray(y, dims=("t", "y", "x")),
                event_threshold=1.0,
                window_size=(scale, scale),
                spatial_dims=("y", "x"),
                threshold_operator=np.greater_equal,
            )
        )
        for m in x
    ]
    assert fss.fss(x, y, (1.0,), (scale,))[0][0] == pytest.approx(np.mean(expected), rel=1e-10)


def test_psnr_and_ssim_equal_skimage() -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    x, y = rain((4, 2, 30, 40), 7), rain((2, 30, 40), 8)
    a, b = cells.log_rain(x.mean(axis=0)), cells.log_rain(y)
    assert image.image_scores(x, y)["psnr"] == pytest.approx(peak_signal_noise_ratio(b, a, data_range=3.0), rel=1e-12)
    options: dict[str, Any] = {
        "data_range": 3.0,
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
    }
    assert image.image_scores(x, y)["ssim"] == pytest.approx(
        np.mean([structural_similarity(*p, **options) for p in zip(a, b, strict=True)]), rel=1e-10
    )


def test_psnr_and_ssim_of_members_and_of_other_fields() -> None:
    """Of each member, then averaged; of temperatures with the truth's range, whatever their units."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    rng = np.random.default_rng(0)
    y = ndimage.gaussian_filter(rng.normal(size=(2, 30, 40)), (0, 2, 2)) * 30
    x = y + ndimage.gaussian_filter(rng.normal(size=(5, 2, 30, 40)), (0, 0, 1, 1))
    span = float(np.ptp(y))
    options: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    found = score_arrays(x + 280, y + 280, dry=None, thresholds=())
    single = x.astype(np.float32) + np.float32(280), y.astype(np.float32) + np.float32(280)
    rough = score_arrays(*single, dry=None, thresholds=())  # 280 K in single precision lose no structure
    pictures = [(m[t] - y.min(), y[t] - y.min()) for m in x[: image.FIRST] for t in range(2)]
    mean = [(x.mean(axis=0)[t] - y.min(), y[t] - y.min()) for t in range(2)]
    for key, pairs in (("ssim_members", pictures), ("ssim", mean)):
        wanted = np.mean([structural_similarity(*p, data_range=span, **options) for p in pairs])
        assert found[key] == pytest.approx(wanted, rel=1e-9) and rough[key] == pytest.approx(wanted, abs=1e-4), key
    assert found["psnr"] == pytest.approx(peak_signal_noise_ratio(y, x.mean(axis=0), data_range=span))
    wanted = np.mean([peak_signal_noise_ratio(y, m, data_range=span) for m in x])
    assert found["psnr_members"] == pytest.approx(wanted) and wanted < found["psnr"]
    alone = score_arrays(x[:1], y, dry=None, thresholds=())
    assert alone["psnr_members"] == alone["psnr"] and alone["ssim_members"] == alone["ssim"]
    assert "psnr" not in score_arrays(x, np.full_like(y, 3.0), dry=None, thresholds=())  # no range


def test_ssim_leaves_out_windows_with_missing_cells() -> None:
    x, y = rain((4, 1, 30, 40), 7), rain((1, 30, 40), 8)
    spoilt = y.copy()
    spoilt[0, :, :3] = np.nan
    cut = image.image_scores(x[..., 3:], y[..., 3:])["ssim"]
    assert image.image_scores(x, spoilt)["ssim"] == pytest.approx(cut, rel=1e-10)


def test_quantile_is_close_to_numpys() -> None:
    values = rain((300, 300), 9) + 1e-3
    weights = np.ones(values.shape)
    counts = distribution.value_terms(Frame(values[None], values, weights), Settings())[0]
    for q in (0.5, 0.99, 0.999):
        assert distribution.quantiles(counts, q) == pytest.approx(np.quantile(values, q), rel=2e-3)
    temperature = distribution.value_terms(Frame(values[None], values - 2.0, weights), Settings())[1]
    assert distribution.quantiles(temperature, 0.001) == pytest.approx(np.quantile(values - 2.0, 0.001), rel=2e-3)
    weights[:, 0] = 0.5  # weights that differ are added up instead of counted
    unequal = distribution.value_terms(Frame(np.stack([values, values - 2.0]), values, weights), Settings())
    np.testing.assert_allclose(unequal.sum(axis=1), [2 * weights.sum(), weights.sum()])
    assert counts.sum() == temperature.sum() == values.size


def test_perfect_forecast() -> None:
    y = rain((2, 48, 48), 1)
    y[:, :9, :11] = np.nan
    result = score_arrays(np.repeat(y[None], 4, axis=0), y, block_means(y, Factor(1, 8)), Factor(1, 8))
    for name in ("crps", "mae", "rmse", "energy_score", "p999_bias"):
        assert result[name] == pytest.approx(0.0, abs=1e-12), name
    assert result["csi"] == [1.0] * 4
    assert result["ssim"] == pytest.approx(1.0)
    assert result["log_spectral_distance"] == pytest.approx(0.0, abs=1e-12)
    assert result["conservation_residual"] < 1e-12
    assert result["wet_fraction"] == result["wet_fraction_truth"]


def test_gaussian_ensemble_has_the_known_scores() -> None:
    rng, sigma, members = np.random.default_rng(0), 2.0, 10
    x, y = rng.normal(0, sigma, (members, 1, 300, 300)), rng.normal(0, sigma, (1, 300, 300))
    result = score_arrays(x, y, thresholds=(), dry=None)
    # E of the CRPS of N(0, σ²) against its own draws is σ/√π, and the fair estimator is unbiased for any M.
    assert result["crps"] == pytest.approx(sigma / np.sqrt(np.pi), rel=0.01)
    assert result["spread_skill"] == pytest.approx(1.0, abs=0.01)
    assert result["rank_departure"] < 0.03
    wide = score_arrays(np.sqrt(2.0) * x, y, thresholds=(), dry=None)
    assert wide["spread_skill"] > 1.3 and wide["rank_histogram"][0] < 0.09
    narrow = score_arrays(0.5 * x, y, thresholds=(), dry=None)
    assert narrow["spread_skill"] < 0.6 and narrow["rank_histogram"][0] > 0.15


def test_shifted_field_scores_worse_in_csi_than_in_fss_at_large_scale() -> None:
    y = rain((1, 64, 64), 2)
    table = fss.fss(np.roll(y, 5, axis=-1)[None], y, (1.0,), (1, 21))[0]
    assert events.event_scores(np.roll(y, 5, axis=-1)[None], y, (1.0,))["csi"][0] < 0.5
    assert table[1] > table[0] + 0.3
    assert spectra.log_spectral_distance(np.roll(y, 5, axis=-1)[None], y) == pytest.approx(0.0, abs=1e-9)


def test_ranks_of_dry_cells_are_drawn_at_random() -> None:
    zeros = np.zeros((1, 200, 200))
    drizzle = np.full((3, 1, 200, 200), 0.01)
    assert np.abs(ranks.rank_scores(drizzle, zeros, dry=0.05)["rank_histogram"] - 0.25).max() < 0.01
    assert ranks.rank_scores(drizzle, zeros)["rank_histogram"][0] == 1.0


def test_spectrum_of_a_wave_and_parseval_on_a_field_that_is_not_square() -> None:
    height, width, cell = 40, 90, (2.0, 1.0)
    x = np.arange(width) * cell[1]
    wave = np.broadcast_to(np.sin(2 * np.pi * x * 9 / 90), (height, width))
    k, power = spectra.power_spectrum(wave, cell)
    assert k[power.argmax()] == pytest.approx(0.1, abs=1 / 160)
    noise = np.random.default_rng(0).normal(size=(20, height, width))
    k, power = spectra.power_spectrum(noise, cell)
    # White noise of variance 1 has density dy·dx at every wavenumber.
    np.testing.assert_allclose(power.mean(axis=0), 2.0, rtol=0.25)
    assert k[-1] <= 0.25


def test_spectral_distance_of_half_the_power() -> None:
    y = rain((2, 32, 32), 1)
    assert spectra.log_spectral_distance(10.0 * y[None], y) == pytest.approx(2.0)


def test_missing_cells_of_a_warm_field_do_not_drown_its_spectrum() -> None:
    rng = np.random.default_rng(0)
    y, x = 280 + rng.normal(size=(1, 32, 32)), 280 + 3 * rng.normal(size=(1, 1, 32, 32))
    y[:, 8:16, 8:16] = np.nan
    assert spectra.log_spectral_distance(x, y, centre=True) == pytest.approx(np.log10(9), rel=0.15)
    assert spectra.log_spectral_distance(x, y) < 0.7 * np.log10(9)
    assert score_arrays(x, y, dry=None)["log_spectral_distance"] == spectra.log_spectral_distance(x, y, centre=True)


@pytest.mark.parametrize("parts", [(1, 1, 1), (2, 1)])
def test_parts_add_up_to_the_whole(case: Any, parts: tuple[int, ...]) -> None:
    x, y, area = case
    coarse = block_means(y, FACTOR, area)
    settings = Settings(area=area, factor=FACTOR, scales=(1, 5))
    whole, sums = Sums(settings), Sums(settings)
    whole.add(x, y, coarse)
    start = 0
    for n in parts:
        sums.add(x[:, start : start + n], y[start : start + n], coarse[start : start + n])
        start += n
    assert sums.scores().keys() == whole.scores().keys()
    for name, value in whole.scores().items():
        np.testing.assert_allclose(sums.scores()[name], value, rtol=1e-12, atol=1e-14, err_msg=name)


def test_scores_by_time_and_bootstrap(case: Any) -> None:
    x, y, _ = case
    a, b = score_arrays(x, y), score_arrays(x + 1.0, y)
    assert len(a["crps_by_time"]) == 3
    difference, low, high = paired_bootstrap(a["crps_by_time"], b["crps_by_time"])
    assert low <= difference <= high < 0
    assert paired_bootstrap([1.0, 2.0], [1.0, 2.0]) == (0.0, 0.0, 0.0)
    with pytest.raises(InputError, match="match in number"):
        paired_bootstrap([1.0], [1.0, 2.0])


def test_nothing_valid_and_wrong_shapes() -> None:
    y = np.full((1, 8, 8), np.nan)
    with pytest.raises(InputError, match="nothing to score"):
        score_arrays(np.zeros((2, 1, 8, 8)), y)
    with pytest.raises(InputError, match="members must be"):
        score_arrays(np.zeros((2, 1, 8, 9)), y)


@pytest.mark.parametrize("name", list(baselines.BASELINES))
@pytest.mark.parametrize("factor", [Factor(1, 4), Factor(1, y=2, x=3), Factor(3, 5)])
def test_baselines_have_the_fine_shape_and_keep_missing_cells(name: str, factor: Factor) -> None:
    coarse = rain((2, 8, 12), 3)
    coarse[0, 2, 3] = np.nan
    fine = baselines.baseline(name, coarse, factor, members=2)
    assert fine.shape == (2 if name == "rainfarm" else 1, *(n * f for n, f in zip(coarse.shape, factor, strict=True)))
    assert np.nanmin(fine) >= 0.0
    missing = np.isnan(fine[0, 0])
    assert missing.sum() == factor.y * factor.x
    assert missing[2 * factor.y, 3 * factor.x]


def test_interpolation_reproduces_a_plane_inside() -> None:
    t, y, x = np.meshgrid(np.arange(3.0), np.arange(6.0), np.arange(7.0), indexing="ij")
    factor = Factor(2, y=3, x=4)
    fine = baselines.bilinear(2 * t + 3 * y - x, factor)[0]
    centre = [(np.arange(n * f) + 0.5) / f - 0.5 for n, f in zip((3, 6, 7), factor, strict=True)]
    ft, fy, fx = np.meshgrid(*centre, indexing="ij")
    inside = np.s_[1:-1, 2:-2, 2:-2]
    np.testing.assert_allclose(fine[inside], (2 * ft + 3 * fy - fx)[inside], atol=1e-12)


@pytest.mark.parametrize(("shape", "step"), [((24, 36), 4), ((15, 21), 3), ((16, 16), 1)])
def test_rainfarm_equals_pysteps_with_the_same_phases(shape: tuple[int, int], step: int) -> None:
    module = pytest.importorskip("pysteps.downscaling.rainfarm")
    coarse = rain(shape, 11)
    np.random.seed(3)
    expected, slope = module.downscale(coarse, step, return_alpha=True, kernel_type=None)
    assert rainfarm.spectral_slope(coarse) == pytest.approx(slope, rel=1e-10)
    fine = (shape[0] * step, shape[1] * step)
    k = np.hypot(np.fft.fftfreq(fine[0], 1 / step)[:, None], np.fft.rfftfreq(fine[1], 1 / step))
    k[0, 0] = np.inf
    phases = np.random.RandomState(3).rand(*fine).astype(np.float32)
    detail = rainfarm.texture(phases, (k ** (-slope / 2)).astype(np.float32)).astype(np.float64)
    means = block_means(detail[None], Factor(1, step))[0]
    ours = np.kron(coarse / means, np.ones((step, step))) * detail
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4 * expected.max())


def test_rainfarm_conserves_without_threshold_and_knows_parts_and_threads() -> None:
    coarse = rain((3, 10, 16), 5)
    coarse[1] = 0.0
    fine = baselines.rainfarm(coarse, FACTOR, members=3, seed=1)
    single = baselines.rainfarm(coarse, FACTOR, members=3, seed=1, dtype=np.float32)
    assert single.dtype == np.float32 and conservation.conservation_residual(single, coarse, FACTOR) < 1e-6
    # Phases and transforms are in float32: twice 6 standard deviations of some 10 roundings, in the exponent.
    close = {"rtol": 120 * float(np.finfo(np.float32).eps)}
    with ThreadPoolExecutor(2) as pool:
        np.testing.assert_allclose(baselines.rainfarm(coarse, FACTOR, members=3, seed=1, pool=pool), fine, **close)
    # A member does not depend on how many there are.
    np.testing.assert_allclose(baselines.rainfarm(coarse, FACTOR, members=2, seed=1), fine[:2], **close)
    assert conservation.conservation_residual(fine, coarse, FACTOR) < 1e-12
    assert not fine[:, 1].any()
    assert not np.allclose(fine[0], fine[1])
    np.testing.assert_array_equal(fine, baselines.rainfarm(coarse, FACTOR, members=3, seed=1))
    parts = baselines.rainfarm(coarse[2:], FACTOR, members=3, seed=1, first=2)
    np.testing.assert_allclose(parts, fine[:, 2:], **close)
    cut = baselines.rainfarm(coarse, FACTOR, members=3, seed=1, threshold=0.1)
    assert conservation.conservation_residual(cut, coarse, FACTOR) > 1e-6


def test_rainfarm_refuses_negative_values_and_unknown_baselines_are_named() -> None:
    assert baselines.rainfarm(np.array([[[-1e-9, 1.0]]]), Factor(1, 2), members=1).shape == (1, 1, 2, 4)
    with pytest.raises(InputError, match="negative"):
        baselines.rainfarm(-np.ones((1, 4, 4)), Factor(1, 2))
    with pytest.raises(InputError, match="did you mean 'bicubic'"):
        baselines.baseline("bicubik", np.ones((1, 4, 4)), Factor(1, 2))


def dataset(
    members: int = 4, times: int = 3, name: str = "rain_rate", descending: bool = False
) -> tuple[xr.DataArray, xr.DataArray]:
    """A synthetic ensemble and truth on latitude and longitude, 24 x 36 cells."""
    base = rain((times, 24, 36), 20)
    noise = rain((members, times, 24, 36), 21)
    coords = {
        "time": np.datetime64("2024-06-01T00:00", "ns") + np.arange(times) * np.timedelta64(600, "s"),
        "lat": ("lat", 50 + 0.01 * np.arange(24), {"units": "degrees_north"}),
        "lon": ("lon", 8 + 0.01 * np.arange(36), {"units": "degrees_east"}),
    }
    truth = xr.DataArray(base, coords, ("time", "lat", "lon"), name, {"units": "mm/h"})
    ensemble = xr.DataArray(
        0.7 * base + 0.3 * noise, coords, ("realization", "time", "lat", "lon"), name, {"units": "mm/h"}
    )
    return ensemble, truth.isel(lat=slice(None, None, -1)) if descending else truth


def test_score_gives_all_systems_along_one_dimension() -> None:
    ensemble, truth = dataset()
    result = score(ensemble, truth, factor="1x4", baselines=("nearest", "bicubic"), against={"other": ensemble + 1.0})
    assert list(result["system"].values) == ["ensemble", "other", "nearest", "bicubic"]
    assert result["crps"].dims == ("system",)
    assert result["fss"].dims == ("system", "threshold", "scale")
    assert result["crps"].attrs["units"] == "mm/h"
    assert float(result["crps"].sel(system="ensemble")) < float(result["crps"].sel(system="other"))
    area = Grid(np.arange(4.0), 49.995 + 0.01 * np.arange(25), 7.995 + 0.01 * np.arange(37), "latlon").cell_area
    direct = score_arrays(ensemble.values, truth.values, area=area)
    assert float(result["crps"].sel(system="ensemble")) == pytest.approx(direct["crps"], rel=1e-9)


def test_weighted_scores_equal_xarrays() -> None:
    ensemble, truth = dataset()
    wide = {"lat": 10 + 3.0 * np.arange(24)}  # from 10 to 79 degrees north, where cells differ sixfold
    ensemble, truth = (da.assign_coords(lat=da.lat.copy(data=wide["lat"])) for da in (ensemble, truth))
    found = score(ensemble, truth).sel(system="ensemble")
    sines = np.sin(np.deg2rad(np.append(wide["lat"] - 1.5, wide["lat"][-1] + 1.5)))
    weights = xr.DataArray(np.diff(sines), {"lat": truth.lat}, ("lat",))
    error = ensemble.mean("realization") - truth
    for name, value in {"mae": abs(error), "bias": error, "wet_fraction": (ensemble >= 0.1) * 1.0}.items():
        assert float(found[name]) == pytest.approx(float(value.weighted(weights).mean()), rel=1e-9), name
        assert float(found[name]) != pytest.approx(float(value.mean()), rel=1e-3), name
    assert float(found["rmse"]) == pytest.approx(float(np.sqrt((error**2).weighted(weights).mean())), rel=1e-9)
    mean = ensemble.mean("realization")
    assert float(found["correlation"]) == pytest.approx(float(xr.corr(mean, truth, weights=weights)), rel=1e-9)


def test_random_baselines_have_few_members_and_the_report_says_so(tmp_path: Path) -> None:
    ensemble, truth = dataset(members=10, times=12)
    single = ensemble.astype(np.float32), truth.astype(np.float32)
    for name, da in zip(("ensemble", "truth"), single, strict=True):
        da.to_dataset().assign_attrs(finescale_factor="1x4").to_zarr(tmp_path / f"{name}.zarr", consolidated=False)
    paths = tmp_path / "ensemble.zarr", tmp_path / "truth.zarr"
    result = verify(*paths, tmp_path / "out", baselines=("rainfarm", "climatology"))
    assert {name: r["members"] for name, r in result["systems"].items()} == {
        "ensemble": 10,
        "rainfarm": 8,
        "climatology": 7,
    }
    # √((1 + 1/7) / (1 + 1/10)) = 1.0193
    note = next(n for n in result["notes"] if "do not depend" in n)
    assert "10 members, RainFARM 8 and Climatology 7" in note and "by 2 %" in note
    assert result["systems"]["rainfarm"]["conservation_residual"] < 1e-6
    table = text(result).splitlines()
    assert len(table) == 8 and max(map(len, table)) <= 100 and "RainFARM" in table[0]
    crps = result["systems"]["ensemble"]["crps"]
    assert table[1].startswith("CRPS (mm/h") and f"{crps:.3f}*" in table[1] and table[1].count("*") == 1
    assert [line.split()[0] for line in table[2:]] == [
        "Spread–skill",
        "FSS",
        "Spectral",
        "99.9th",
        "Wet",
        "Conservation",
    ]


def test_what_was_made_of_the_truth_is_not_used_for_other_cells() -> None:
    x, y = rain((2, 1, 24, 36), 3), rain((1, 24, 36), 4)
    holed = x.copy()
    holed[:, :, :6] = np.nan
    made: list[dict[Any, Any]] = [{}]
    together = [Sums(Settings()) for _ in range(3)]
    for sums, members in zip(together, (x, holed, 0.5 * x), strict=True):
        sums.add(members, y, made=made)
    for sums, members in zip(together, (x, holed, 0.5 * x), strict=True):
        alone = Sums(Settings())
        alone.add(members, y)
        for name, value in alone.scores().items():
            np.testing.assert_allclose(sums.scores()[name], value, rtol=1e-12, err_msg=name)


def test_score_in_parts_equals_the_whole_with_time_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    from finescale.verify import evaluate

    ensemble, truth = dataset(times=6)
    names = ("nearest", "bilinear", "bicubic")
    whole = score(ensemble, truth, factor="2x4", baselines=names)
    monkeypatch.setattr(evaluate, "PART_BYTES", 1)
    xr.testing.assert_allclose(score(ensemble, truth, factor="2x4", baselines=names), whole, rtol=1e-12)


def test_alignment_flips_cuts_converts_and_matches_times() -> None:
    ensemble, truth = dataset(descending=True)
    plain = score(ensemble, dataset()[1])
    xr.testing.assert_allclose(score(ensemble, truth), plain)
    assert float(score(ensemble.rename(realization="number"), truth)["crps"][0]) == float(plain["crps"][0])
    si = (truth / 3600.0).assign_attrs(units="kg m-2 s-1")
    xr.testing.assert_allclose(score(ensemble, si), plain, rtol=1e-6)
    inner = ensemble[:, 1:, 4:16, 6:30]
    case = align(inner, truth)
    assert case.truth.shape == inner.shape[1:]
    np.testing.assert_array_equal(case.truth.values, dataset()[1].values[1:, 4:16, 6:30])


def test_alignment_with_a_coarse_field() -> None:
    ensemble, truth = dataset()
    low = truth.coarsen(lat=4, lon=6).mean().isel(lat=slice(None, None, -1))
    result = score(ensemble, truth, low, baselines=("nearest",))
    assert float(result["conservation_residual"].sel(system="nearest")) < 1e-12
    with pytest.raises(InputError, match="no whole multiple"):
        score(ensemble, truth, low.isel(lon=slice(0, 5)))
    with pytest.raises(InputError, match="not on the same cells"):
        score(ensemble, truth, low.assign_coords(lon=low.lon + 0.5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign_coords(lat=t.lat + 0.003), "not on the same cells: along y"),
        (lambda t: t.isel(lon=slice(0, 10)), "not on the same cells: along x the truth has 10 cells"),
        (lambda t: t.assign_coords(time=t.time + np.timedelta64(1, "D")), "no time in common"),
        (lambda t: t * np.nan, "nothing to score"),
        (lambda t: t.assign_attrs(units="K"), "cannot be converted"),
        (lambda t: t.expand_dims(realization=2), "swapped"),
    ],
)
def test_what_does_not_belong_together_is_said(change: Any, message: str) -> None:
    ensemble, truth = dataset()
    with pytest.raises(InputError, match=message) as error:
        score(ensemble, change(truth).assign_attrs(truth.attrs | change(truth).attrs))
    assert "\n" not in str(error.value)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Ensemble (5 times), truth (upside down) and coarse files."""
    ensemble, truth = dataset(times=5, descending=True)
    paths = tuple(tmp_path / f"{name}.nc" for name in ("ensemble", "truth", "coarse"))
    ensemble.to_dataset().assign_attrs(finescale_factor="1x4").to_netcdf(paths[0], engine="netcdf4")
    truth.to_dataset().to_netcdf(paths[1], engine="netcdf4")
    truth.coarsen(lat=4, lon=4).mean().to_dataset(name="rain_rate").to_netcdf(paths[2], engine="netcdf4")
    return paths  # type: ignore[return-value]


def rewrite(path: Path, change: Any) -> None:
    with xr.open_dataset(path, engine="netcdf4") as ds:
        ds = change(ds.load())
    ds.to_netcdf(path, engine="netcdf4")


def test_report_from_files(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    ensemble, truth, coarse = files
    done: list[float] = []
    result = verify(
        ensemble, truth, tmp_path / "out", coarse=coarse, baselines=("nearest", "bicubic"), progress=done.append
    )
    assert done[-1] == 1.0 and done == sorted(done)
    # Three systems are scored in one part; then each figure is a step.
    made_figures = {p.stem for p in (tmp_path / "out" / "figures").iterdir()}
    assert len(done) == 3 + len(made_figures) + 1 and done[3] < 1.0
    made = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert made == ["figures", "overview.png", "report.html", "scores.csv", "scores.json"]
    stored = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert list(stored["systems"]) == ["ensemble", "nearest", "bicubic"]
    assert stored["systems"]["ensemble"]["crps"] == pytest.approx(result["systems"]["ensemble"]["crps"])
    assert stored["factor"] == "1x4" and stored["units"] == "mm/h" and stored["times"] == 5
    assert set(stored["definitions"]) <= set(stored["systems"]["ensemble"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert list(result["verdict"]) == ["closeness", "spread", "extremes", "totals"]
    for line in (*result["verdict"].values(), result["made_by"]):
        assert line["says"] in html.unescape(page)
    assert "95 % intervals over 5 times" in result["verdict"]["closeness"]["says"]
    assert "says neither which model" in result["made_by"]["says"]
    with pytest.raises(InputError, match=r"already holds scores\.json"):
        verify(ensemble, truth, tmp_path / "out")
    verify(ensemble, truth, tmp_path / "out", baselines=(), overwrite=True)
    assert "stand in" in (tmp_path / "out" / "report.html").read_text()


def test_other_ensembles_stand_beside_the_first(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    other, out = tmp_path / "other.nc", tmp_path / "out"
    other.write_bytes(files[0].read_bytes())
    rewrite(other, lambda ds: ds + 1.0)
    options = ["--against", str(other), "--against", str(files[1]), "--baselines", "climatology"]
    command = [sys.executable, "-m", "finescale", "verify", str(files[0]), str(files[1]), "-o", str(out), *options]
    refused = subprocess.run([*command, "--thresholds", "1,wet"], capture_output=True, text=True)
    assert refused.returncode == 2 and "--thresholds is '1,wet', but must be numbers" in refused.stderr
    assert refused.stderr.count("\n") == 1 and not out.exists()
    subprocess.run([*command, "--thresholds", "2,0.5", "--no-report"], check=True, capture_output=True)
    stored = json.loads((out / "scores.json").read_text())
    assert stored["thresholds"] == [0.5, 2.0]
    systems = stored["systems"]
    assert list(systems) == ["ensemble", "other", "truth", "climatology"]
    assert systems["other"]["bias"] == pytest.approx(systems["ensemble"]["bias"] + 1.0)
    assert systems["truth"]["crps"] == 0.0 and systems["climatology"]["crps"] > systems["ensemble"]["crps"]


def test_report_escapes_names_from_the_files(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    # NetCDF refuses such a name, Zarr does not.
    evil = {"long_name": "$\\frac<b>rain", "units": "mm/h"}
    stores = [tmp_path / f"{path.stem}.zarr" for path in files[:2]]
    for path, store in zip(files, stores, strict=False):
        with xr.open_dataset(path, engine="netcdf4") as ds:
            ds = ds.load().rename(rain_rate="<script>alert(1)")
        ds["<script>alert(1)"].attrs = evil
        ds.drop_encoding().to_zarr(store, consolidated=False)
    verify(stores[0], stores[1], tmp_path / "out", baselines=("nearest",))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_report_without_factor_and_with_one_member(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    rewrite(files[0], lambda ds: ds.isel(realization=[0]).drop_attrs(deep=False))
    result = verify(files[0], files[1], tmp_path / "out")
    assert list(result["systems"]) == ["ensemble"]
    assert {"spread_skill", "rank_departure", "rank_histogram", "energy_score", "coverage"} <= set(result["left_out"])
    assert not set(result["left_out"]) & result["systems"]["ensemble"].keys()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "no baselines" in page and "one member" in page and "Nothing to compare with" in page
    assert "No spread" in page and "Totals unknown" in page
    assert "Rank departure" not in page


def test_report_of_a_field_that_is_not_rain(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    def warm(ds: xr.Dataset) -> xr.Dataset:
        sst = (ds["rain_rate"] + 280).assign_attrs(units="K")
        return sst.to_dataset(name="sst").assign_attrs(ds.attrs)

    for path in files:
        rewrite(path, warm)
    result = verify(files[0], files[1], tmp_path / "out", coarse=files[2])
    assert list(result["systems"]) == ["ensemble", "nearest", "bicubic", "noise"]
    assert "RainFARM is left out: it is for rain." in result["notes"]
    assert result["systems"]["ensemble"]["psnr"] > 0 and result["thresholds"] == []
    page = html.unescape((tmp_path / "out" / "report.html").read_text())
    # Shown in °C: units, levels and their differences; scores stay in K.
    assert result["shown"] == {"units": "°C", "add": -273.15} and result["units"] == "K"
    ours = result["systems"]["ensemble"]
    assert f"begin at {ours['p999'] - 273.15:.1f} °C" in page and " K" not in page.split("<details>")[0]
    apart = ours["p999"] - ours["p999_truth"]
    assert (
        short(result)[[r["name"] for r in short(result)].index("99.9th percentile")]["cells"][0]["text"].replace(
            "−", "-"
        )
        == f"{apart:+.3f}"
    )
    span = result["data_range"]
    assert span["value"] > 0 and span["says"].startswith("PSNR and SSIM take the range of the truth, ")
    assert f"with the range of the truth. {span['says']}" in (tmp_path / "out" / "report.html").read_text()


def test_report_writes_nothing_when_it_fails(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no baseline 'bicubik'"):
        verify(files[0], files[1], tmp_path / "out", baselines=("bicubik",))
    with pytest.raises(InputError, match="does not exist"):
        verify(files[0], tmp_path / "nowhere.nc", tmp_path / "out")
    rewrite(files[1], lambda ds: ds * np.nan)
    with pytest.raises(InputError, match="nothing to score"):
        verify(files[0], files[1], tmp_path / "out", baselines=())
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be a folder"):
        verify(files[0], files[1], tmp_path / "file")


def test_verification_never_imports_torch() -> None:
    code = "import sys, finescale.verify, finescale.plots; assert not {'torch', 'matplotlib'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
