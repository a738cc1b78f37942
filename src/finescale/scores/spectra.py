"""Isotropic power spectra and the distance between two of them.

For a field f on H x W cells of dy x dx metres with discrete Fourier transform F, the power spectral density is
|F|² dy dx / (H W), and P(k) its mean over the ring of wavenumbers |k| within half a bin of k (cycles per metre).
Wavenumbers come from the physical sizes, so fields and cells need not be square; the bin is the coarser of the two
fundamental wavenumbers 1/(H dy), 1/(W dx), so no ring is empty; rings end at the lesser of the two Nyquist wavenumbers.

Where rows of cells differ in size (cos φ on latitude and longitude) the field is cut into bands of rows whose cells are
within a tenth of each other, each transformed with its own cell size; the mean over bands is that of the whole.

    log-spectral distance = √( mean over k of (log10 P_x(k) − log10 P_y(k))² )      in dex: 1 is a factor of ten in
                                                                                    power
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from finescale.scores.cells import Array, Frame, field_sums, log_rain, ratio
from finescale.scores.record import Score, Statistic
from finescale.scores.settings import Settings


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
    values = np.asarray(fields)
    values = values if values.dtype == np.float32 else values.astype(np.float64)
    height, width = values.shape[-2:]
    wavenumbers, ring, copies, count = _rings(height, width, *cell)
    if taper:
        window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]
        values = values * (window / np.sqrt((window**2).mean())).astype(values.dtype)
    waves = fft.rfft2(values)
    power = (waves.real**2 + waves.imag**2) * (cell[0] * cell[1] / (height * width))
    flat = (power * copies).reshape(-1, ring.size)
    used = slice(1, wavenumbers.size + 1)  # ring 0 is the mean; those beyond Nyquist are cut by the corners
    rings = np.array([np.bincount(ring, weights=one)[used] / count[used] for one in flat])
    return wavenumbers, rings.reshape(*values.shape[:-2], wavenumbers.size)


def spectrum_terms(frame: Frame, settings: Settings, *, rain: bool = False, taper: bool = False) -> Array:
    """Spectra (3, K) of a time: of the members (mean over members), of the truth, and 1.

    Args:
        frame: missing cells hold 0; those of a field that is not rain are filled with the truth's mean instead, since a
            0 in a temperature would be a cliff.
        settings: cell size, or bands of it, and whether the field is rain.
        rain: take the spectra of log10(1 + R/0.1), in which weak rain counts too, instead of the field itself.
        taper: see `power_spectrum`.
    """
    mean = 0.0 if settings.rain else float((frame.w * frame.y).sum() / max(frame.w.sum(), 1e-300))
    valid = None if settings.rain or frame.w.all() else frame.w > 0

    def power(field: Array) -> Array:
        values = log_rain(field) if rain else field - field.dtype.type(mean)
        return banded_spectrum(values if valid is None else values * valid, settings, taper=taper)

    ours = np.mean([power(member) for member in frame.x], axis=0)
    true = frame.of_truth(("spectrum", rain, taper), lambda: power(frame.y))
    return np.stack([ours, true, np.ones_like(ours)])


def banded_spectrum(field: Array, settings: Settings, *, taper: bool = False) -> Array:
    """Power (K,) of a field (H, W) at the wavenumbers of the whole, mean over bands where cells differ in size.

    Wavenumbers beyond a band's own range take the value at its end.
    """
    if not settings.bands:
        return power_spectrum(field, settings.cell, taper=taper)[1]
    k = ring_wavenumbers(field.shape, settings.cell)
    total = np.zeros(k.size)
    for first, last, cell in settings.bands:
        own, power = power_spectrum(field[first:last], cell, taper=taper)
        if own.size:
            # Linear in the logarithms: a spectrum is close to a power law.
            smooth = np.exp(np.interp(np.log(k), np.log(own), np.log(np.maximum(power, 1e-300))))
            total += (last - first) / field.shape[0] * np.where(smooth <= 1e-299, 0.0, smooth)
    return total


def ring_wavenumbers(shape: tuple[int, ...], cell: tuple[float, float]) -> Array:
    """The rings' wavenumbers (K,) of fields (…, H, W)."""
    return _rings(*shape[-2:], *cell)[0]


def spectrum_formula(terms: Array) -> dict[str, Array]:
    """spectrum, spectrum_truth (…, K) and log_spectral_distance from summed `spectrum_terms` (…, 3, K)."""
    ours, true = np.moveaxis(ratio(terms[..., :2, :], terms[..., 2:, :]), -2, 0)
    return {"spectrum": ours, "spectrum_truth": true, "log_spectral_distance": spectral_distance(ours, true)}


def spectral_distance(power: ArrayLike, reference: ArrayLike) -> Array:
    """Root mean square (…) of log10(power / reference) (…, K) in dex, where both are positive; NaN where never."""
    p, q = np.asarray(power, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    there = (p > 0) & (q > 0)
    dex = np.log10(np.where(there, p, 1.0) / np.where(there, q, 1.0))
    return np.sqrt(ratio((dex**2).sum(axis=-1), there.sum(axis=-1)))


def log_spectral_distance(
    members: ArrayLike,
    truth: ArrayLike,
    cell: tuple[float, float] = (1.0, 1.0),
    *,
    rain: bool = False,
    centre: bool = False,
    taper: bool = False,
) -> float:
    """Log-spectral distance in dex of members (M, T, H, W) from truth (T, H, W).

    ``rain``: of log-rain; ``centre``: fill missing cells with the truth's mean; ``taper``: see `power_spectrum`.
    """
    settings = Settings(cell=cell, dry=None if centre else 0.05)
    sums = field_sums(lambda f, s: spectrum_terms(f, s, rain=rain, taper=taper), members, truth, None, settings)
    return float(spectrum_formula(sums)["log_spectral_distance"])


@lru_cache(maxsize=8)
def _rings(height: int, width: int, dy: float, dx: float) -> tuple[Array, NDArray[np.int64], Array, Array]:
    """Ring wavenumbers (K,), ring of each coefficient of rfft2, how often a column counts in the whole plane, and how
    many coefficients of that plane each ring has."""
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
    count = np.bincount(ring.ravel(), weights=np.broadcast_to(copies, ring.shape).ravel())
    return wavenumbers, ring.ravel(), copies, count


SPECTRUM = Statistic(
    "spectrum",
    spectrum_terms,
    lambda terms, members, settings: spectrum_formula(terms),
    (
        Score("spectrum", dims=("wavenumber",), truth=True),
        Score(
            "log_spectral_distance",
            "Spectral distance",
            "low",
            "Fields",
            "Root mean square difference of log10 power between the members' and the truth's radial spectra, in dex: is"
            " there the right amount of detail at each scale?",
        ),
    ),
    over="frame",
)
LOG_SPECTRUM = Statistic(
    "log_spectrum",
    lambda frame, settings: spectrum_terms(frame, settings, rain=True),
    lambda terms, members, settings: {
        "log_spectral_distance_log_rain": spectrum_formula(terms)["log_spectral_distance"]
    },
    (
        Score(
            "log_spectral_distance_log_rain",
            "Spectral distance, log-rain",
            "low",
            "Fields",
            "The same of log10(1 + R/0.1), in which weak rain counts too.",
        ),
    ),
    over="frame",
    wanted=lambda settings: settings.rain,
)
