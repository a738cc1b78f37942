"""Likeness of pictures: of the ensemble mean to the truth, in log-rain, log10(1 + R/0.1).

    PSNR           10 log10(range² / mean square difference)
    SSIM           structural similarity with Gaussian windows of 1.5 cells (Wang et al. 2004)

The range is fixed at 3 (R up to 100 mm/h), so that they compare between cases.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from finescale.scores.cells import Array, Frame, field_sums, log_rain, ratio
from finescale.scores.record import Score, Statistic
from finescale.scores.settings import Settings

LOG_RANGE = 3.0
"""Range of log-rain for PSNR and SSIM: log10(1 + R/0.1) of R = 99.9 mm/h."""


def image_terms(frame: Frame, settings: Settings) -> Array:
    """Σw(a − b)², Σw, and Σw·SSIM, Σw over windows without missing cells; a, b the log-rain of the mean and y."""
    a, b, w = log_rain(frame.mean), frame.of_truth("log_rain", lambda: log_rain(frame.y)), frame.w
    similar, inside = 0.0, 0.0
    if min(a.shape) >= 11:
        # A window that holds a missing cell says nothing about the picture: it is left out, as are those across the
        # edge.
        weight = w[5:-5, 5:-5]
        if not w.all():
            weight = (~ndimage.maximum_filter(w == 0, 11))[5:-5, 5:-5] * weight
        blurred = frame.of_truth("blurred", lambda: (_blur(b), _blur(b * b)))
        similar = float((weight * _ssim(a, b, *blurred, LOG_RANGE)[5:-5, 5:-5]).sum())
        inside = float(weight.sum())
    return np.array([(w * (a - b) ** 2).sum(), w.sum(), similar, inside])


def ssim_cells(a: Array, b: Array, data_range: float = LOG_RANGE) -> Array:
    """Structural similarity (H, W) of two pictures (H, W), windows Gaussian with 1.5 cells' standard deviation."""
    return _ssim(a, b, _blur(b), _blur(b * b), data_range)


def _ssim(a: Array, b: Array, mean_b: Array, square_b: Array, data_range: float) -> Array:
    mean_a, square_a, product = _blur(a), _blur(a * a), _blur(a * b)
    var_a, var_b, cov = square_a - mean_a**2, square_b - mean_b**2, product - mean_a * mean_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


def _blur(field: Array) -> Array:
    return ndimage.gaussian_filter(field, 1.5, truncate=3.5)


def image_formula(terms: Array) -> dict[str, Array]:
    """psnr in dB (infinite for a perfect mean) and ssim from summed `image_terms` (…, 4)."""
    square, similar = ratio(terms[..., 0], terms[..., 1]), ratio(terms[..., 2], terms[..., 3])
    with np.errstate(divide="ignore"):
        return {"psnr": 10 * np.log10(LOG_RANGE**2 / square), "ssim": similar}


def image_scores(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> dict[str, float]:
    """psnr in dB and ssim of the ensemble mean's log-rain."""
    found = image_formula(field_sums(image_terms, members, truth, weights))
    return {name: float(value) for name, value in found.items()}


IMAGE = Statistic(
    "image",
    image_terms,
    lambda terms, members, settings: image_formula(terms),
    (
        Score(
            "psnr",
            "PSNR (dB)",
            "high",
            "Fields",
            "Peak signal-to-noise ratio of the ensemble mean in log-rain, log10(1 + R/0.1), with a range of 3.",
            units="dB",
            style="tenths",
        ),
        Score(
            "ssim",
            "SSIM",
            "high",
            "Fields",
            "Structural similarity of the ensemble mean in log-rain, Gaussian windows of 1.5 cells.",
        ),
    ),
    over="frame",
    wanted=lambda settings: settings.rain,
)
