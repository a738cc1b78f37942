"""RainFARM (Rebora et al. 2006): random detail that continues the spectrum of a coarse field, frame by frame.

With c the coarse field, U its replication and A the block mean:

    α       from a straight line through log |F c|² over log k, k the wavenumber, in the middle two thirds of log k
    g       real field with the spectrum k^(−α/2) · exp(2πi φ), φ uniform on (0, 1) and independent
    x       U c · exp(g/σ_g) / U A exp(g/σ_g),   σ_g the standard deviation of g

so that A x = c exactly. The same as pysteps' ``downscale(…, kernel_type=None)`` with the same φ (Pulkkinen et al. 2019)
and several times as fast: phases and transforms in single precision, only the half of the spectrum that a real field
needs, and what all members of a frame share made once. pysteps keeps the real part of the transform of the whole
z = exp(2πi φ); the half spectrum of that is (z(k) + z*(−k)) / 2.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy import fft

from finescale.errors import InputError
from finescale.grids.blocks import block_means, replicate
from finescale.grids.factor import Factor
from finescale.scores.cells import Array

TYPICAL_SLOPE = 2.0
"""α of a frame without structure, or with too few waves for a line."""
NEGATIVE = 1e-3
"""Negative values up to this share of the largest one are what interpolation leaves in rain."""


def rainfarm(
    coarse: ArrayLike,
    factor: Factor,
    *,
    members: int = 8,
    seed: int = 0,
    threshold: float | None = None,
    first: int = 0,
    area: ArrayLike | None = None,
    dtype: DTypeLike = np.float64,
    pool: ThreadPoolExecutor | None = None,
) -> Array:
    """RainFARM without smoothing, (members, T, H, W).

    Space only is refined: the frames of a refined time repeat their coarse one. Missing coarse cells count as dry while
    the spectrum is estimated; dry frames stay zero.

    Args:
        coarse: rain (t, h, w), not negative but for rounding.
        factor: the refinement; blocks need not be square.
        members: M.
        seed: noise depends on (seed, member, frame) alone.
        threshold: values below become 0. The block means then no longer equal the coarse field.
        first: index of the first frame, so that parts of a series get the noise of the whole.
        area: cell areas (H, W), which weigh the block mean; by default all alike.
        dtype: of the result.
        pool: threads, which take a member each.

    Raises:
        InputError: for negative values.
    """
    frames = coarse_frames(coarse)
    if np.nanmin(frames, initial=0.0) < -NEGATIVE * np.nanmax(frames, initial=0.0):
        raise InputError(
            "RainFARM needs a field without negative values, such as rain: leave the baseline rainfarm out"
        )
    shape = (frames.shape[1] * factor.y, frames.shape[2] * factor.x)
    out = np.zeros((members, len(frames), *shape), dtype=dtype)
    for t, frame in enumerate(np.nan_to_num(frames)):
        if frame.max() > 0:
            amplitude = np.exp(np.float32(-spectral_slope(frame) / 4) * _log_squares(shape, factor))
            amplitude[0, 0] = 0.0
            keys = [[seed, m, first + t] for m in range(members)]
            make = partial(_refined, frame, amplitude, factor, area)
            for m, rain in enumerate((map if pool is None else pool.map)(make, keys)):
                out[m, t] = rain
    if threshold is not None:
        out[out < threshold] = 0.0
    return mask_missing(np.repeat(out, factor.time, axis=1) if factor.time > 1 else out, frames, factor)


def _refined(frame: Array, amplitude: Array, factor: Factor, area: ArrayLike | None, key: list[int]) -> Array:
    """One member (H, W) of a frame (h, w); ``key`` sets the phases."""
    blocks = Factor(1, y=factor.y, x=factor.x)
    shape = (frame.shape[0] * factor.y, frame.shape[1] * factor.x)
    phases = np.random.default_rng(key).random(shape, dtype=np.float32)
    detail = texture(phases, amplitude)[None].astype(np.float64)
    rain: Array = (replicate(frame[None] / block_means(detail, blocks, area), blocks) * detail)[0]
    return rain


def spectral_slope(frame: Array) -> float:
    """α of a frame (h, w)."""
    if np.ptp(frame) == 0 or min(frame.shape) < 4:
        return TYPICAL_SLOPE
    k = np.hypot(fft.fftfreq(frame.shape[0])[:, None], fft.fftfreq(frame.shape[1]))
    with np.errstate(divide="ignore"):
        log_k, power = np.log(k), np.log(np.abs(fft.fft2(frame)) ** 2)
    known = np.isfinite(log_k) & np.isfinite(power)
    log_k, power = log_k[known], power[known]
    low, high = log_k.min(), log_k.max()
    middle = (log_k >= low + (high - low) / 6) & (log_k <= high - (high - low) / 6)
    if np.unique(log_k[middle]).size < 2:
        return TYPICAL_SLOPE
    return -float(np.polyfit(log_k[middle], power[middle], 1)[0])


def texture(phases: Array, amplitude: Array) -> Array:
    """exp(g/σ_g) (H, W) from phases φ (H, W) and the amplitudes (H, W // 2 + 1) of the half spectrum."""
    height, width = phases.shape
    turn = phases * np.float32(2 * np.pi)
    waves = np.empty(phases.shape, dtype=np.complex64)
    np.cos(turn, out=waves.real)
    np.sin(turn, out=waves.imag)
    rows, columns = -np.arange(height) % height, -np.arange(width // 2 + 1) % width
    half = waves[:, : width // 2 + 1] + np.conj(waves[rows[:, None], columns])
    field = fft.irfft2(half * amplitude, phases.shape)
    detail: Array = np.exp(field / np.float32(field.std(dtype=np.float64) or 1.0))
    return detail


@lru_cache(maxsize=4)
def _log_squares(shape: tuple[int, int], factor: Factor) -> Array:
    """log k² (H, W // 2 + 1) in cycles per coarse cell; 0 for the mean."""
    ky, kx = fft.fftfreq(shape[0], 1 / factor.y), fft.rfftfreq(shape[1], 1 / factor.x)
    square = ky[:, None] ** 2 + kx**2
    square[0, 0] = 1.0
    logs: Array = np.log(square).astype(np.float32)
    return logs


def coarse_frames(coarse: ArrayLike) -> NDArray[np.float64]:
    """A coarse field as (t, h, w) in double precision.

    Raises:
        InputError: for another number of dimensions.
    """
    frames = np.asarray(coarse, dtype=np.float64)
    if frames.ndim != 3:
        raise InputError(f"a coarse field must be (t, h, w), but it has shape {frames.shape}")
    return frames


def mask_missing(fine: Array, frames: Array, factor: Factor) -> Array:
    """Fine fields (M, T, H, W) with NaN where the coarse cell is."""
    missing = np.isnan(frames)
    return np.where(replicate(missing, factor), fine.dtype.type(np.nan), fine) if missing.any() else fine
