"""Scores of fields, objects and distributions; intervals and comparisons; climatology; bands of rows."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage, stats

from finescale.errors import InputError
from finescale.grids.blocks import block_means
from finescale.grids.factor import Factor
from finescale.grids.grid import Grid, cell_bands, cell_size
from finescale.scores import bootstrap, conservation, distribution, multivariate, sal, spectra
from finescale.verify import Settings, Sums, baselines, score, score_arrays
from finescale.verify.report import names_of

Array = NDArray[np.float64]


def rain(shape: tuple[int, ...], seed: int = 0) -> Array:
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, [0] * (len(shape) - 2) + [2, 2])
    return np.maximum(np.exp(2.5 * smooth / smooth.std()) - 1.0, 0.0)


def test_variogram_score_equals_scoringrules() -> None:
    import scoringrules

    height, width = 6, 12
    x, y = rain((5, 1, height, width), 1), rain((1, height, width), 2)
    weights, lags = np.zeros((height * width, height * width)), 0
    for down, right in multivariate.LAGS:
        count = max(height - down, 0) * max(width - right, 0)
        lags += count > 0
        for i in range(height - down):
            for j in range(width - right):
                weights[i * width + j, (i + down) * width + j + right] = 1 / count
    found = scoringrules.vs_ensemble(y.ravel(), x.reshape(5, -1), w=weights, m_axis=0, v_axis=-1, p=0.5)
    assert multivariate.variogram_score(x, y) == pytest.approx(float(found) / lags, rel=1e-10)


def test_variogram_score_leaves_out_pairs_with_missing_cells() -> None:
    x, y = rain((3, 1, 1, 5), 1), rain((1, 1, 5), 2)
    y[0, 0, 2] = np.nan
    pairs = [(0, 1), (3, 4)], [(0, 3), (1, 4)]
    miss = [
        np.mean(
            [
                (abs(y[0, 0, a] - y[0, 0, b]) ** 0.5 - np.mean(np.abs(x[:, 0, 0, a] - x[:, 0, 0, b]) ** 0.5)) ** 2
                for a, b in one
            ]
        )
        for one in pairs
    ]
    assert multivariate.variogram_score(x, y) == pytest.approx(np.mean(miss))


def block(at: tuple[int, int], value: float = 5.0, size: int = 6) -> Array:
    field = np.zeros((1, 40, 60))
    field[0, at[0] : at[0] + size, at[1] : at[1] + size] = value
    return field


def test_sal_of_blocks_by_hand() -> None:
    y = block((10, 10))
    same = sal.sal(y[None], y)
    assert all(same[name] == pytest.approx(0.0, abs=1e-12) for name in sal.KEYS)
    shifted = sal.sal(block((13, 14))[None], y, cell=(2.0, 1.0))
    assert shifted["sal_location"] == pytest.approx(np.hypot(6, 4) / np.hypot(80, 60))
    assert shifted["sal_structure"] == shifted["sal_amplitude"] == pytest.approx(0.0, abs=1e-12)
    double = sal.sal(block((10, 10), 10.0)[None], y)
    assert double["sal_amplitude"] == pytest.approx(2 / 3) and double["sal_structure"] == pytest.approx(0.0)
    # A block of 144 cells instead of 36, of the same total: four times the volume.
    wide = sal.sal(block((7, 7), 1.25, 12)[None], y)
    assert wide["sal_structure"] == pytest.approx(2 * 3 / 5) and wide["sal_amplitude"] == pytest.approx(0.0)
    assert wide["sal_location"] == pytest.approx(0.0, abs=1e-12)
    # Two blocks about the centre of one: r is 10 instead of 0.
    two = sal.sal((block((10, 0)) + block((10, 20)))[None] / 2, y)
    assert two["sal_location"] == pytest.approx(2 * 10 / np.hypot(40, 60))
    assert np.isnan(sal.sal(0 * y[None], y)["sal_location"])
    opposite = sal.sal(np.stack([block((10, 10), 10.0), block((10, 10), 2.5)]), y)
    assert opposite["sal_amplitude"] == pytest.approx(0.0) and opposite["sal_amplitude_error"] == pytest.approx(2 / 3)


def test_sal_amplitude_and_centre_equal_pysteps() -> None:
    salscores = pytest.importorskip("pysteps.verification.salscores")
    x, y = rain((50, 70), 1), rain((50, 70), 2)
    found = sal.sal(x[None, None], y[None])
    assert found["sal_amplitude"] == pytest.approx(salscores.sal_amplitude(x, y), rel=1e-10)
    ours, true = (sal.describe(f, np.ones_like(f), (1.0, 1.0)) for f in (x, y))
    assert ours is not None and true is not None
    apart = np.hypot(*(ours.centre - true.centre)) / np.hypot(50, 70)
    assert apart == pytest.approx(salscores._sal_l1_param(x, y), rel=1e-2)


def test_distribution() -> None:
    x, y = rain((4, 2, 60, 50), 3) + 0.01, rain((2, 60, 50), 4) + 0.01
    found = distribution.distribution(x, y)
    # NumPy's own sample quantiles, without interpolation between the sparse largest values.
    for name, values in (("quantiles", x), ("quantiles_truth", y)):
        expected = np.quantile(values, distribution.LEVELS, method="inverted_cdf")
        np.testing.assert_allclose(found[name], expected, rtol=1e-3)
    all_scores = score_arrays(x, y)
    assert all_scores["maximum"] == pytest.approx(x.max(axis=(1, 2, 3)).mean(), rel=1e-12)
    assert all_scores["maximum_truth"] == y.max()
    assert all_scores["p99_bias"] == pytest.approx(np.quantile(x, 0.99) / np.quantile(y, 0.99) - 1, abs=1e-2)
    cold = score_arrays(x - 300.0, y - 300.0, dry=None)
    assert cold["maximum"] == pytest.approx(all_scores["maximum"] - 300.0)


def test_residuals_by_cell_and_interval() -> None:
    coarse = np.arange(1.0, 13.0).reshape(2, 2, 3)
    members = np.repeat(np.repeat(coarse, 2, axis=-1), 2, axis=-2)[None].repeat(2, axis=0)
    members[1, 0, 0, 0] += 4.0  # one of four cells: the block mean is off by 1
    members[0, 1, 2, 5] -= 2.0
    sums = Sums(Settings(factor=Factor(1, 2)))
    for t in range(2):
        sums.add(members[:, t : t + 1], members[0, t : t + 1], coarse[t : t + 1])
    np.testing.assert_allclose(sums.residuals.cells, [[1.0, 0, 0], [0, 0, 0.5]])
    found = sums.scores()
    assert found["residual_by_interval"] == [1.0, 0.5]
    assert found["conservation_residual"] == pytest.approx(1 / 12)
    assert conservation.conservation_residual(members, coarse, Factor(1, 2)) == pytest.approx(1 / 12)


def test_threads_and_parts_give_the_same_scores() -> None:
    x, y = rain((5, 7, 24, 36), 3), rain((7, 24, 36), 4)
    y[:, :3] = np.nan
    area = np.repeat(np.linspace(1, 2, 24)[:, None], 36, axis=1)
    settings = Settings(area=area, factor=Factor(1, 4))
    whole, parts = Sums(settings), Sums(settings)
    coarse = block_means(y, Factor(1, 4), area)
    with ThreadPoolExecutor(2) as pool:
        whole.add(x, y, coarse, pool=pool)
    for a, b in ((0, 1), (1, 4), (4, 7)):
        parts.add(x[:, a:b], y[a:b], coarse[a:b])
    for name, value in whole.scores().items():
        np.testing.assert_allclose(parts.scores()[name], value, rtol=1e-12, atol=1e-14, err_msg=name)
    drawn = bootstrap.intervals(whole), bootstrap.intervals(parts)
    for name in drawn[0]:
        np.testing.assert_allclose(drawn[0][name], drawn[1][name], rtol=1e-12, atol=1e-14, err_msg=name)


def test_draws_are_of_whole_blocks_and_of_the_right_variance() -> None:
    counts = bootstrap.draws(12, 3, n=4000)
    assert (counts.sum(axis=1) == 12).all() and counts.mean(axis=0) == pytest.approx(1.0, abs=0.06)
    # The mean of 12 single times has a twelfth of their variance; of 4 blocks, a quarter of the running mean's.
    values = np.repeat([1.0, 2.0, 3.0, 6.0], 3)
    single, blocks = ((bootstrap.draws(12, k, n=4000) @ values / 12).var() for k in (1, 3))
    assert single == pytest.approx(values.var() / 12, rel=0.1)
    running = np.mean([np.roll(values, k) for k in range(3)], axis=0)
    assert blocks == pytest.approx(running.var() / 4, rel=0.1) and blocks > 1.5 * single
    assert bootstrap.block_length(27) == 3 and bootstrap.block_length(28) == 4
    with pytest.raises(InputError, match="must have 1 to 12"):
        bootstrap.draws(12, 13)


def test_interval_of_the_crps_equals_a_bootstrap_by_hand() -> None:
    x, y = rain((4, 9, 20, 20), 3), rain((9, 20, 20), 4)
    sums = Sums()
    sums.add(x, y)
    low, high = bootstrap.intervals(sums, block=2, n=500, seed=3)["crps"]
    means = bootstrap.draws(9, 2, 500, 3) @ np.array(sums.scores()["crps_by_time"]) / 9
    np.testing.assert_allclose([low, high], np.quantile(means, [0.025, 0.975]), rtol=1e-10)
    fss = bootstrap.intervals(sums)["fss"]
    assert np.shape(fss) == (2, 4, 4) and np.all(fss[0][:, :3] <= fss[1][:, :3])
    assert bootstrap.intervals(Sums()) == {}


def test_comparison_is_paired_and_knows_which_way_is_better() -> None:
    truth = rain((9, 20, 20), 4)
    noise = np.random.default_rng(0).normal(size=(4, *truth.shape))
    systems = [Sums(Settings(dry=None)) for _ in range(2)]
    for one, size in zip(systems, (0.5, 0.6), strict=True):
        one.add(truth + size * noise, truth)
    best: dict[str, str | float] = {
        "crps": "low", "csi": "high", "bias": 0.0, "maximum": "truth", "autocorrelation": "truth"
    }  # fmt: skip
    found = bootstrap.compare(*systems, best)
    assert set(found) == {"crps", "csi", "bias", "autocorrelation"}
    for name in ("crps", "autocorrelation"):
        assert found[name].difference < 0 and found[name].significant, name
    assert found["csi"].difference[0] < 0 and found["csi"].significant[0]
    same = bootstrap.compare(systems[0], systems[0], best)
    assert same["crps"].difference == 0 and not same["crps"].significant
    ours, theirs = (s.scores() for s in systems)
    assert found["crps"].difference == pytest.approx(ours["crps"] - theirs["crps"])
    assert found["bias"].difference == pytest.approx(abs(ours["bias"]) - abs(theirs["bias"]))


def test_climatology_never_shows_a_time_near_the_time_itself() -> None:
    truth = np.arange(24.0)[:, None, None] * np.ones((2, 3))
    whole = baselines.climatology(lambda at: truth[at], 24, slice(0, 24), 5, seed=1, step=2)
    assert whole.shape == (5, 24, 2, 3)
    shift = (whole[:, :, 0, 0] - np.arange(24)) % 24
    assert (shift == shift[:, :1]).all() and len(set(shift[:, 0])) == 5
    assert shift.min() >= 6 and shift.max() <= 18 and not (shift % 2).any()
    parts = [
        baselines.climatology(lambda at: truth[at], 24, slice(a, a + 6), 5, seed=1, step=2) for a in (0, 6, 12, 18)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    with pytest.raises(InputError, match="leave it out"):
        baselines.climatology(lambda at: truth[at], 2, slice(0, 2), 5)


def series(values: Array, lat: Array, minutes: int = 10) -> xr.DataArray:
    times = values.shape[-3]
    coords = {
        "time": np.datetime64("2024-06-01T00:00", "ns") + np.arange(times) * np.timedelta64(minutes, "m"),
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", 8 + 0.5 * np.arange(values.shape[-1]), {"units": "degrees_east"}),
    }
    dims = ("realization", "time", "lat", "lon")[-values.ndim :]
    return xr.DataArray(values, coords, dims, "rain_rate", {"units": "mm/h"})


def test_dataset_has_all_scores_of_all_systems() -> None:
    lat = 40.0 + 0.5 * np.arange(16)
    truth, ensemble = series(rain((8, 16, 24), 4), lat), series(rain((4, 8, 16, 24), 3), lat)
    found = score(
        ensemble,
        truth,
        factor="2x4",
        baselines=("nearest", "climatology"),
        against={"six": ensemble[[0, 1, 2, 3, 0, 1]]},
    )
    assert found.sizes["system"] == 4 and found.sizes["rank"] == 7 and found.sizes["count"] == 7
    assert np.isnan(found["rank_histogram"].sel(system="ensemble")[5:]).all()
    assert np.isnan(found["mace"].sel(system="nearest")) and found["mace"].sel(system="climatology") >= 0
    assert found["residual_map"].dims == ("system", "coarse_y", "coarse_x")
    assert float(found["residual_map"].sel(system="nearest").max()) < 1e-6
    low, value, high = (found[n].sel(system="ensemble") for n in ("crps_interval", "crps", "crps_interval"))
    assert low[0] <= value <= high[1]
    assert found["threshold_weighted_crps"].attrs["units"] == "mm/h" and found["brier"].dims == ("system", "threshold")
    # Rows weigh as sin of their upper edge less sin of their lower one.
    error = np.abs((ensemble.mean("realization") - truth).values).mean(axis=(0, 2))
    edges = np.sin(np.deg2rad(np.append(lat - 0.25, lat[-1] + 0.25)))
    by_hand = np.average(error, weights=np.diff(edges))
    assert float(found["mae"].sel(system="ensemble")) == pytest.approx(by_hand, rel=1e-6)
    assert float(found["mae"].sel(system="ensemble")) != pytest.approx(error.mean(), rel=1e-4)


def test_bands_follow_the_size_of_cells() -> None:
    grid = Grid(np.arange(2.0), 20 + 0.25 * np.arange(161), 0.25 * np.arange(65), "latlon")
    bands = cell_bands(grid)
    assert bands[0][0] == 0 and bands[-1][1] == 160 and len(bands) > 2
    assert all(a[1] == b[0] and a[1] - a[0] >= 32 for a, b in itertools.pairwise(bands))
    assert cell_bands(Grid(np.arange(2.0), 50 + 0.01 * np.arange(101), 0.01 * np.arange(65), "latlon")) == ()
    # A wave of one physical length along latitude circles has a peak at its wavenumber only in bands.
    middle = (grid.y[1:] + grid.y[:-1]) / 2
    metres = 111_194.9 * 0.25 * np.cos(np.deg2rad(middle))[:, None] * np.arange(64)
    wave = np.sin(2 * np.pi * metres / 150_000.0)
    settings = Settings(cell=cell_size(grid), bands=bands)
    k = spectra.ring_wavenumbers(wave.shape, settings.cell)
    whole, banded = (spectra.banded_spectrum(wave, s) for s in (Settings(cell=settings.cell), settings))
    near = np.abs(k * 150_000.0 - 1) < 0.12
    assert banded[near].sum() / banded.sum() > 1.25 * whole[near].sum() / whole.sum()


def test_white_noise_is_white_in_bands_too() -> None:
    noise = np.random.default_rng(0).normal(size=(64, 96))
    bands = ((0, 32, (1.0, 2.0)), (32, 64, (1.0, 1.0)))
    power = spectra.banded_spectrum(noise, Settings(cell=(1.0, 1.5), bands=bands))
    assert power.mean() == pytest.approx(1.5, rel=0.1)


def test_names_of_other_systems() -> None:
    from pathlib import Path

    paths = [Path("a/out.nc"), Path("b/out.nc"), Path("c/ensemble.nc"), Path("b/nearest.nc"), Path("b/out.zarr")]
    assert list(names_of(paths)) == ["out", "b/out", "c/ensemble", "b/nearest", "out (5)"]


@pytest.mark.parametrize("shift", [0.0, -3.0], ids=["amounts", "both signs"])
def test_earth_movers_and_quantile_distance(shift: float) -> None:
    """Against SciPy's Wasserstein distance of all values together, weights included, and NumPy's quantiles."""
    rng = np.random.default_rng(1)
    x, y = rng.gamma(2.0, 2.0, (3, 2, 20, 30)) + shift, rng.gamma(3.0, 1.5, (2, 20, 30)) + shift
    w = rng.uniform(0.5, 2.0, (20, 30))
    found = distribution.distribution(x, y, w)
    weights = [np.broadcast_to(w, a.shape).ravel() for a in (x, y)]
    wanted = stats.wasserstein_distance(x.ravel(), y.ravel(), *weights)
    assert float(found["earth_mover"]) == pytest.approx(wanted, rel=2e-3)
    plain = distribution.distribution(x, y)
    quantiles = [np.quantile(a, distribution.LEVELS) for a in (x, y)]
    assert float(plain["quantile_distance"]) == pytest.approx(np.abs(quantiles[0] - quantiles[1]).mean(), rel=0.02)
    # Where values are does not matter, only which there are; a shift moves all by itself.
    same = distribution.distribution(y[None, :, ::-1], y)
    assert float(same["earth_mover"]) == float(same["quantile_distance"]) == 0.0
    moved = distribution.distribution(y[None] + 0.5, y)
    assert float(moved["earth_mover"]) == pytest.approx(0.5, rel=2e-3)
    assert float(moved["quantile_distance"]) == pytest.approx(0.5, rel=2e-3)
