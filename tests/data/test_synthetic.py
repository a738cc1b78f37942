"""Synthetic rain has the statistics that its docstring promises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from finescale.data.synthetic import LIGHTEST, MEDIAN, gaussian_field, synthetic_rain
from finescale.errors import InputError


@pytest.fixture(scope="module")
def rain():
    return synthetic_rain((24, 256, 256), seed=3)


def radial_spectrum(field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wavenumbers (cycles per cell) and the 2-D spectral density averaged over rings and frames, with a Hann window."""
    _, height, width = field.shape
    window = np.hanning(height)[:, None] * np.hanning(width)
    density = (np.abs(np.fft.fft2(field * window)) ** 2).mean(axis=0)
    k = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    edges = np.geomspace(0.03, 0.45, 16)
    ring = np.digitize(k, edges)
    middles = np.sqrt(edges[1:] * edges[:-1])
    return middles, np.array([density[ring == i].mean() for i in range(1, edges.size)])


@pytest.mark.parametrize("slope", [3.0, 4.0])
def test_gaussian_field_has_the_spectral_slope(slope):
    field = gaussian_field((12, 192, 256), slope=slope, seed=1)
    k, density = radial_spectrum(field)
    measured = -np.polyfit(np.log(k), np.log(density), 1)[0]
    assert measured == pytest.approx(slope, abs=0.15)


def test_gaussian_field_has_mean_zero_and_variance_one():
    fields = np.stack([gaussian_field((1, 64, 96), seed=s, outer_km=10) for s in range(20)])
    assert fields.mean() == pytest.approx(0, abs=0.05)
    assert fields.std() == pytest.approx(1, abs=0.03)


def test_wet_fraction_and_lightest_rain(rain):
    assert float((rain > 0).mean()) == pytest.approx(0.3, abs=0.005)
    assert float(rain.where(rain > 0).min()) >= LIGHTEST
    assert float((synthetic_rain((4, 128, 96), wet_fraction=0.1) > 0).mean()) == pytest.approx(0.1, abs=0.01)


def test_wet_rates_are_log_normal_above_the_cut_off(rain):
    wet = np.log(rain.values[rain.values > 0] / MEDIAN) / 1.3
    cut = np.log(LIGHTEST / MEDIAN) / 1.3
    for share in (0.05, 0.25, 0.5, 0.75, 0.95, 0.99):
        expected = ndtri(ndtr(cut) + share * (1 - ndtr(cut)))
        assert np.quantile(wet, share) == pytest.approx(expected, abs=0.12)


def test_rain_rises_continuously_at_its_edges(rain):
    values = rain.values
    dry = values == 0
    beside_dry = np.zeros_like(dry)
    beside_dry[:, 1:] |= dry[:, :-1]
    beside_dry[:, :-1] |= dry[:, 1:]
    wet = values > 0
    assert np.median(values[wet & beside_dry]) < 0.3 * np.median(values[wet])


def test_pattern_moves_with_the_velocity():
    velocity = (-5.0, 10.0)
    field = gaussian_field((13, 192, 256), seed=2, velocity=velocity, decorrelation=240)
    lag = 4
    window = np.hanning(192)[:, None] * np.hanning(256)
    cross = sum(
        np.fft.ifft2(np.conj(np.fft.fft2(a * window)) * np.fft.fft2(b * window)).real
        for a, b in zip(field, field[lag:], strict=False)
    )
    shift = np.array(np.unravel_index(cross.argmax(), cross.shape))
    shift = np.where(shift > np.array(cross.shape) // 2, shift - cross.shape, shift)
    cells = np.array(velocity) * lag * 5 * 60 / 1000
    assert np.abs(shift - cells).max() <= 1.5


def test_small_scales_forget_sooner_at_the_promised_rate():
    field = gaussian_field((40, 128, 128), seed=4, velocity=(0, 0), decorrelation=100, outer_km=80)
    window = np.hanning(128)[:, None] * np.hanning(128)
    modes = np.fft.fft2(field * window)
    k = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None, :])

    def lag_one(low: float, high: float) -> float:
        ring = modes[:, (k > low) & (k <= high)]
        product = (ring[1:] * np.conj(ring[:-1])).real.sum()
        return product / np.sqrt((np.abs(ring[1:]) ** 2).sum() * (np.abs(ring[:-1]) ** 2).sum())

    large, middle, small = lag_one(0.01, 0.03), lag_one(0.06, 0.07), lag_one(0.24, 0.26)
    assert large > middle > small
    # lifetime = 100 min * (1/80) / k; a frame is 5 min
    assert middle == pytest.approx(np.exp(-5 * 0.065 * 80 / 100), abs=0.05)
    assert small == pytest.approx(np.exp(-5 * 0.25 * 80 / 100), abs=0.06)


def test_rain_has_structure_within_blocks(rain):
    blocks = rain.values.reshape(24, 32, 8, 32, 8)
    within = blocks - blocks.mean(axis=(2, 4), keepdims=True)
    assert 0.3 < (within**2).mean() / rain.values.var() < 0.6


def test_same_seed_same_bits():
    first, again = (synthetic_rain((3, 48, 40), seed=7) for _ in range(2))
    assert first.identical(again)
    assert first.values.tobytes() == again.values.tobytes()
    assert not np.array_equal(first.values, synthetic_rain((3, 48, 40), seed=8).values)


def test_coordinates_and_attributes():
    rain = synthetic_rain((3, 32, 48), spacing_km=2, cadence_minutes=10)
    assert rain.name == "precipitation_rate"
    assert rain.dims == ("time", "y", "x")
    assert rain.shape == (3, 32, 48)
    assert rain.dtype == np.float32
    assert rain.attrs["units"] == "mm h-1"
    np.testing.assert_array_equal(np.diff(rain.time), np.timedelta64(10, "m"))
    for axis in ("y", "x"):
        np.testing.assert_allclose(np.diff(rain[axis]), 2000.0)
        assert rain[axis].attrs == {
            "standard_name": f"projection_{axis}_coordinate",
            "units": "m",
            "axis": axis.upper(),
        }


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"shape": (3, 32)}, "shape"),
        ({"shape": (0, 32, 32)}, "shape"),
        ({"wet_fraction": 1.5}, "wet_fraction"),
        ({"sigma": 0.0}, "sigma"),
        ({"seed": -1}, "seed"),
        ({"spacing_km": -1.0}, "spacing_km"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(InputError, match=named):
        synthetic_rain(**{"shape": (2, 16, 16)} | arguments)
