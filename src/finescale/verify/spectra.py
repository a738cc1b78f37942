"""Isotropic power spectra and the distance between two of them.

For a field f on H x W cells of dy x dx metres with discrete Fourier transform F, the power spectral density is
|F|² dy dx / (H W), and P(k) its mean over the ring of wavenumbers |k| within half a bin of k (cycles per metre).
Wavenumbers come from the physical sizes, so fields and cells need not be square; the bin is the coarser of the two
fundamental wavenumbers 1/(H dy), 1/(W dx), so no ring is empty; rings end at the lesser of the two Nyquist wavenumbers.

    log-spectral distance = √( mean over k of (log10 P_x(k) − log10 P_y(k))² )      in dex: 1 is a factor of ten in
                                                                                    power
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from finescale.verify.scores import joint, log_rain

Array = NDArray[np.float64]


def power_spectrum(
    fields: ArrayLike, cell: tuple[float, float] = (1.0, 1.0), *, taper: bool = False
) -> tuple[Array, Array]:
    """Radial spectra of fields (…, H, W) without NaN.

    Args:
        fields: values; fill missing ones first (the score fills with 0, in both fields).
        cell: (dy, dx), the cell's size; lengths in metres give wavenumbers in cycles per metre.
        taper: multiply with a Hann window first, which keeps steep spectra of fields that are not periodic from
            leaking.

    Returns:
        Wavenumbers (K,) and power (…, K), in field² · cell units².
    """
    values = np.asarray(fields, dtype=np.float64)
    height, width = values.shape[-2:]
    wavenumbers, ring, copies = _rings(height, width, *cell)
    if taper:
        window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]
        values = values * window / np.sqrt((window**2).mean())
    power = np.abs(fft.rfft2(values)) ** 2 * (cell[0] * cell[1] / (height * width))
    flat = (power * copies).reshape(-1, ring.size)
    used = slice(1, wavenumbers.size + 1)  # ring 0 is the mean; those beyond Nyquist are cut by the corners
    count = np.bincount(ring, weights=np.broadcast_to(copies, power.shape[-2:]).ravel())[used]
    rings = np.array([np.bincount(ring, weights=one)[used] / count for one in flat])
    return wavenumbers, rings.reshape(*values.shape[:-2], wavenumbers.size)


def spectrum_terms(
    x: Array,
    y: Array,
    w: Array,
    cell: tuple[float, float],
    *,
    rain: bool = False,
    centre: bool = False,
    taper: bool = False,
) -> Array:
    """Spectra (2, K) summed over times, of the members (mean over members) and of the truth.

    Args:
        x: members (M, T, H, W) without NaN.
        y: truth (T, H, W) without NaN.
        w: weights (T, H, W), 0 in missing cells, which hold 0 in x and y.
        cell: (dy, dx).
        rain: take the spectra of log10(1 + R/0.1), in which weak rain counts too, instead of the field itself.
        centre: fill missing cells with the truth's mean instead of 0, which for a temperature would be a cliff.
        taper: see `power_spectrum`.
    """
    if rain:
        x, y = log_rain(x), log_rain(y)
    if centre:
        mean = (w * y).sum(axis=(1, 2), keepdims=True) / np.maximum(w.sum(axis=(1, 2), keepdims=True), 1e-300)
        x, y = (x - mean) * (w > 0), (y - mean) * (w > 0)
    ours = power_spectrum(x, cell, taper=taper)[1].mean(axis=0).sum(axis=0)
    return np.stack([ours, power_spectrum(y, cell, taper=taper)[1].sum(axis=0)])


def spectral_distance(power: ArrayLike, reference: ArrayLike) -> float:
    """Root mean square of log10(power / reference) in dex, where both are positive; NaN where they never are."""
    p, q = np.asarray(power, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    there = (p > 0) & (q > 0)
    return float(np.sqrt(np.mean(np.log10(p[there] / q[there]) ** 2))) if there.any() else float("nan")


def log_spectral_distance(
    members: ArrayLike,
    truth: ArrayLike,
    cell: tuple[float, float] = (1.0, 1.0),
    *,
    rain: bool = False,
    centre: bool = False,
    taper: bool = False,
) -> float:
    """Log-spectral distance in dex of members (M, T, H, W) from truth (T, H, W); arguments as in `spectrum_terms`."""
    return spectral_distance(*spectrum_terms(*joint(members, truth), cell, rain=rain, centre=centre, taper=taper))


@lru_cache(maxsize=8)
def _rings(height: int, width: int, dy: float, dx: float) -> tuple[Array, NDArray[np.int64], Array]:
    """Ring wavenumbers (K,), ring of each coefficient of rfft2, how often a column counts in the whole plane."""
    ky, kx = fft.fftfreq(height, dy), fft.rfftfreq(width, dx)
    # Along an axis of one cell there is no wave: it must not set the bin.
    sizes = [1.0 / (n * d) for n, d in ((height, dy), (width, dx)) if n > 1] or [1.0]
    bin_width = max(sizes)
    ring = np.rint(np.hypot(ky[:, None], kx[None, :]) / bin_width).astype(np.int64)
    nyquist = min(0.5 / d for n, d in ((height, dy), (width, dx)) if n > 1) if max(height, width) > 1 else 0.0
    copies = np.full(kx.size, 2.0)
    copies[0] = 1.0
    if width % 2 == 0:
        copies[-1] = 1.0
    wavenumbers: Array = bin_width * np.arange(1.0, np.floor(nyquist / bin_width + 1e-9) + 1)
    return wavenumbers, ring.ravel(), copies
