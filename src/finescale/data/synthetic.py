"""Synthetic rain: a moving, evolving, intermittent field whose statistics are known, for tests and the demo.

A Gaussian field g lives on a periodic domain larger than the one returned. With k = |k| in cycles per km:

    P(k) ∝ (k² + k0²)^(−s/2)                          2-D spectral density: ∝ k^−s beyond the outer scale 1/k0
    ĝ_t(k) = φ(k) e^(−2πi k·v Δt) ĝ_{t−1}(k) + sqrt(1 − φ(k)²) n_t(k),      E|n_t(k)|² = P(k)
    φ(k) = exp(−Δt / τ(k)),   τ(k) = τ0 min(1, k0/k)    small scales forget sooner

Two independent such fields make the rain: g says where it rains, and where it rains harder (storms, outer scale
80 km); h adds convective cells within (outer scale 20 km, the same lifetimes τ(k)). With Q = 1 − Φ the normal tail, q
the quantile of g that leaves the wanted wet area above it, and r0 the lightest rain:

    z = Q⁻¹( Q(g) / Q(q) )                 where g > q: standard normal, → −∞ at the edge of a storm
    R = m exp( σ (z + h) / √2 )            set to 0 below r0 and where g ≤ q

so wet rates are log-normal with median m and log-standard deviation σ, cut off at r0, from which they rise
continuously at the edges. Thresholding a Gaussian is the meta-Gaussian rain model (Guillot and Lebel 1999, J. Geophys.
Res. 104); lifetimes that depend on scale follow the string-of-beads and STEPS models (Seed 2003, J. Appl. Meteorol.
42). With the defaults, four tenths of the variance lie within blocks of 8 × 8 cells, as in radar images of summer rain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from finescale.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

LIGHTEST = 0.05
"""The lightest rain r0, in mm/h: what a radar would still see."""
MEDIAN = 1.0
"""The median m of wet rates before the cut-off, in mm/h."""


def gaussian_field(
    shape: tuple[int, int, int],
    *,
    seed: int | tuple[int, ...] = 0,
    spacing_km: float = 1.0,
    cadence_minutes: float = 5.0,
    slope: float = 4.0,
    outer_km: float = 80.0,
    velocity: tuple[float, float] = (3.0, 9.0),
    decorrelation: float = 120.0,
) -> NDArray[np.float32]:
    """The field g of the module docstring, of shape (T, H, W), mean 0 and variance 1 over all realisations.

    Args:
        shape: (T, H, W).
        seed: equal seeds and arguments give equal bits.
        spacing_km: cell size.
        cadence_minutes: time Δt between frames.
        slope: s of the 2-D spectral density k^−s (the radially averaged spectrum then falls with the same slope).
        outer_km: outer scale 1/k0, beyond which the spectrum is flat.
        velocity: (vy, vx) in m/s, towards growing y and x.
        decorrelation: lifetime τ0 in minutes of the structures of the outer scale and above.
    """
    frames, height, width = shape
    rng = np.random.default_rng(seed)
    # A margin of half the crop decouples opposite borders, which the periodic domain would join.
    ny, nx = (_even(n + max(n // 2, 8)) for n in (height, width))
    ky, kx = np.fft.fftfreq(ny, spacing_km)[:, None], np.fft.rfftfreq(nx, spacing_km)[None, :]
    k2, k0 = ky**2 + kx**2, 1.0 / outer_km

    power = (k2 + k0**2) ** (-slope / 2)
    power[0, 0] = 0.0
    # The half spectrum of a real field holds each column but the first and the last twice.
    twice = np.where((np.arange(kx.size) == 0) | (np.arange(kx.size) == nx // 2), 1.0, 2.0)
    amplitude = np.sqrt(power * (ny * nx / (power * twice).sum())).astype(np.float32)

    lifetime = decorrelation * np.minimum(1.0, k0 / np.sqrt(np.maximum(k2, 1e-30)))
    phi = np.exp(-cadence_minutes / lifetime)
    km_per_frame = np.asarray(velocity) * 60e-3 * cadence_minutes
    step = (phi * np.exp(-2j * np.pi * (ky * km_per_frame[0] + kx * km_per_frame[1]))).astype(np.complex64)
    fresh = (np.sqrt(1.0 - phi**2) * amplitude).astype(np.float32)

    def spectral_noise() -> NDArray[np.complex64]:
        white = rng.standard_normal((ny, nx), dtype=np.float32)
        return np.fft.rfft2(white, norm="ortho").astype(np.complex64)

    out = np.empty(shape, np.float32)
    state = amplitude * spectral_noise()
    for t in range(frames):
        out[t] = np.fft.irfft2(state, s=(ny, nx), norm="ortho")[:height, :width]
        state = step * state + fresh * spectral_noise()
    return out


def synthetic_rain(
    shape: tuple[int, int, int] = (24, 256, 256),
    *,
    seed: int = 0,
    spacing_km: float = 1.0,
    cadence_minutes: float = 5.0,
    slope: float = 4.0,
    wet_fraction: float = 0.3,
    sigma: float = 1.3,
    outer_km: float = 80.0,
    cell_km: float = 20.0,
    velocity: tuple[float, float] = (3.0, 9.0),
    decorrelation: float = 120.0,
    start: str = "2024-07-01T12:00",
) -> xr.DataArray:
    """Rain rates ``precipitation_rate(time, y, x)`` in mm h⁻¹ with CF coordinates and attributes.

    Statistics (each measured by a test): the underlying Gaussian fields have a spectral density ∝ k^−slope below their
    outer scales; ``wet_fraction`` of all cells are wet; log-rates of wet cells are normal with median 1 mm/h and
    standard deviation ``sigma``, cut off at 0.05 mm/h; the pattern moves with ``velocity``; structures live for
    ``decorrelation`` minutes at the outer scale, and for a time proportional to their wavelength below it.

    Args:
        shape: (T, H, W).
        seed: equal seeds and arguments give equal bits.
        wet_fraction: part of the cells, over all frames together, that is wet.
        sigma: standard deviation of the natural logarithm of wet rates.
        cell_km: outer scale of the convective cells within the storms, whose outer scale is ``outer_km``.
        start: the first time.

    The other arguments are those of `gaussian_field`.

    Raises:
        InputError: if a size or a parameter is out of range.

    Example:
        >>> from finescale.data.synthetic import synthetic_rain
        >>> rain = synthetic_rain((4, 64, 64), seed=3)
        >>> rain.dims, rain.attrs["units"]
        (('time', 'y', 'x'), 'mm h-1')
    """
    _check(shape, spacing_km=spacing_km, cadence_minutes=cadence_minutes, slope=slope, sigma=sigma, outer_km=outer_km,
           cell_km=cell_km, decorrelation=decorrelation)  # fmt: skip
    if seed < 0:
        raise InputError(f"seed is {seed}, but must be 0 or greater")
    if not 0.0 < wet_fraction < 0.9:
        raise InputError(f"wet_fraction is {wet_fraction}, but must lie between 0 and 0.9")

    def field(stream: int, outer_km: float, decorrelation: float) -> NDArray[np.float32]:
        return gaussian_field(
            shape,
            seed=(seed, stream),
            spacing_km=spacing_km,
            cadence_minutes=cadence_minutes,
            slope=slope,
            outer_km=outer_km,
            velocity=velocity,
            decorrelation=decorrelation,
        )

    storms = field(0, outer_km, decorrelation)
    cells = field(1, cell_km, decorrelation * min(1.0, cell_km / outer_km))
    return _as_array(_rain(storms, cells, wet_fraction, sigma), spacing_km, cadence_minutes, seed, start)


def _rain(
    storms: NDArray[np.float32], cells: NDArray[np.float32], wet_fraction: float, sigma: float
) -> NDArray[np.float32]:
    """R of the module docstring from g and h, each standardised first: one realisation has the statistics of all."""
    from scipy.special import ndtr, ndtri

    g, h = ((f - f.mean(dtype=np.float64)) / f.std(dtype=np.float64) for f in (storms, cells))
    lightest = np.log(LIGHTEST / MEDIAN) / sigma
    # Some of the storm area falls below the lightest rain, so a larger one is taken.
    area = min(wet_fraction / ndtr(-lightest), 0.999)
    q = np.quantile(g, 1.0 - area)
    inside = g > q
    z = -ndtri(np.minimum(ndtr(-g[inside]) / ndtr(-q), 1.0))
    rate = MEDIAN * np.exp(sigma * (z + h[inside]) / np.sqrt(2.0))
    rain = np.zeros(storms.shape, np.float32)
    rain[inside] = np.where(rate >= LIGHTEST, rate, 0.0)
    return rain


def _as_array(
    rain: NDArray[np.float32], spacing_km: float, cadence_minutes: float, seed: int, start: str
) -> xr.DataArray:
    """The CF array of rain (T, H, W), cell centres in metres."""
    import xarray as xr

    frames, height, width = rain.shape
    time = np.datetime64(start, "ns") + np.round(np.arange(frames) * cadence_minutes * 60e9).astype("timedelta64[ns]")
    metres = spacing_km * 1000.0

    def axis(name: str, size: int) -> tuple[str, NDArray[np.floating], dict[str, str]]:
        attrs = {"standard_name": f"projection_{name}_coordinate", "units": "m", "axis": name.upper()}
        return name, (np.arange(size) + 0.5) * metres, attrs

    return xr.DataArray(
        rain,
        dims=("time", "y", "x"),
        coords={
            "time": ("time", time, {"standard_name": "time", "axis": "T"}),
            "y": axis("y", height),
            "x": axis("x", width),
        },
        name="precipitation_rate",
        attrs={
            "standard_name": "lwe_precipitation_rate",
            "long_name": "synthetic rain rate",
            "units": "mm h-1",
            "cell_methods": "time: point area: mean",
            "seed": seed,
        },
    )


def _even(n: int) -> int:
    """The smallest even number >= n without prime factors above 5, for which FFTs are fast."""
    from scipy.fft import next_fast_len

    return 2 * int(next_fast_len(-(-n // 2), real=True))


def _check(shape: tuple[int, int, int], **positive: float) -> None:
    if len(shape) != 3 or shape[0] < 1 or min(shape[1:]) < 2:
        raise InputError(f"the shape of synthetic rain must be (time, y, x) of at least (1, 2, 2), not {shape}")
    for name, value in positive.items():
        if not value > 0:
            raise InputError(f"{name} is {value}, but must be greater than 0")
