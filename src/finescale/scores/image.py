"""Likeness of pictures: of the ensemble mean, and of each member, to the truth.

    PSNR           10 log10(range² / mean square difference)
    SSIM           structural similarity with Gaussian windows of 1.5 cells (Wang et al. 2004)

Rain is compared as log-rain, log10(1 + R/0.1), with the range fixed at 3 (R up to 100 mm/h), so that they compare
between cases; other fields less the truth's least value, with the truth's range (`Settings.data_range`), so that K and
°C have the same. Scores of members are taken of each member (SSIM of the first `FIRST`), then averaged. A member is as
rough as the truth and so never as near to it as the mean can be.
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
FIRST = 4
"""Members whose SSIM is taken: it costs more than all other scores of a member together, and they are alike."""


def image_terms(frame: Frame, settings: Settings) -> Array:
    """Σw(a − b)², Σw, and Σw·SSIM, Σw over windows without missing cells, (M + 1, 4); a the mean, then each member."""
    b, w = frame.of_truth("picture", lambda: _picture(frame.y, settings)), frame.w
    weight = None
    if min(b.shape) >= 11:
        # A window that holds a missing cell says nothing about the picture: it is left out, as are those across the
        # edge.
        weight = w[5:-5, 5:-5]
        if not w.all():
            weight = (~ndimage.maximum_filter(w == 0, 11))[5:-5, 5:-5] * weight
    sums = np.zeros((len(frame.x) + 1, 4))
    for row, field in enumerate((frame.mean, *frame.x)):
        if row == 1 and len(frame.x) == 1:  # a single member is its own mean
            sums[1] = sums[0]
            break
        a = _picture(field, settings)
        apart = a - b
        sums[row, :2] = _dot(w, apart * apart), w.sum()
        if weight is not None and row <= FIRST:
            blurred = frame.of_truth("blurred", lambda: (_blur(b), _blur(b * b)))
            similar = _ssim(a, b, *blurred, data_range(settings))[5:-5, 5:-5]
            sums[row, 2:] = _dot(weight, similar), weight.sum()
    return sums


def data_range(settings: Settings) -> float:
    """The range that PSNR and SSIM take: of log-rain, or of the truth; 0 where neither is known."""
    low, high = settings.data_range
    return LOG_RANGE if settings.rain else high - low


def range_text(settings: Settings, units: str) -> str:
    """What the range is, in one sentence; empty where there is none."""
    if settings.rain:
        return f"PSNR and SSIM are of log-rain, log10(1 + R/0.1), with a range of {LOG_RANGE:g}."
    if data_range(settings) <= 0:
        return ""
    low, high = settings.data_range
    value = f"{high - low:.4g} {units}".rstrip()
    return f"PSNR and SSIM take the range of the truth, {value} (from {low:.4g} to {high:.4g})."


def ssim_cells(a: Array, b: Array, data_range: float = LOG_RANGE) -> Array:
    """Structural similarity (H, W) of two pictures (H, W), windows Gaussian with 1.5 cells' standard deviation."""
    return _ssim(a, b, _blur(b), _blur(b * b), data_range)


def _picture(field: Array, settings: Settings) -> Array:
    return log_rain(field) if settings.rain else field - field.dtype.type(settings.data_range[0])


def _ssim(a: Array, b: Array, mean_b: Array, square_b: Array, data_range: float) -> Array:
    """(2 m_a m_b + c1)(2 cov + c2) / ((m_a² + m_b² + c1)(var_a + var_b + c2)); in place, as memory is what it costs."""
    mean_a, both, product = _blur(a), _blur(a * a), _blur(a * b)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    means, squares = mean_a * mean_b, mean_a * mean_a
    squares += mean_b * mean_b
    both += square_b
    both -= squares
    both += c2
    squares += c1
    squares *= both
    product -= means
    product *= 2
    product += c2
    means *= 2
    means += c1
    product *= means
    product /= squares
    return product


def _dot(weights: Array, values: Array) -> float:
    """Σ w v in double precision, without a copy."""
    return float(np.einsum("ij,ij->", weights, values, dtype=np.float64, casting="unsafe"))


def _blur(field: Array) -> Array:
    return ndimage.gaussian_filter(field, 1.5, truncate=3.5)


def image_formula(terms: Array, settings: Settings | None = None) -> dict[str, Array]:
    """psnr in dB (infinite for a perfect mean), ssim, and those of members, from summed `image_terms` (…, M + 1, 4)."""
    square, similar = ratio(terms[..., 0], terms[..., 1]), ratio(terms[..., 2], terms[..., 3])
    with np.errstate(divide="ignore"):
        psnr = 10 * np.log10(data_range(settings or Settings()) ** 2 / square)
    of_mean = {"psnr": psnr[..., 0], "ssim": similar[..., 0]}
    return of_mean | {
        "psnr_members": psnr[..., 1:].mean(axis=-1),
        "ssim_members": similar[..., 1 : FIRST + 1].mean(axis=-1),
    }


def image_scores(
    members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None, settings: Settings | None = None
) -> dict[str, float]:
    """psnr in dB and ssim of the ensemble mean, and of members; of rain unless ``settings`` say otherwise."""
    found = image_formula(field_sums(image_terms, members, truth, weights, settings), settings)
    return {name: float(value) for name, value in found.items()}


_OF = "for rain of log-rain with a range of 3, for other fields with the range of the truth"

IMAGE = Statistic(
    "image",
    image_terms,
    lambda terms, members, settings: image_formula(terms, settings),
    (
        Score(
            "psnr",
            "PSNR of the mean (dB)",
            "high",
            "Fields",
            f"Peak signal-to-noise ratio of the ensemble mean, {_OF}.",
            units="dB",
            style="tenths",
        ),
        Score(
            "ssim",
            "SSIM of the mean",
            "high",
            "Fields",
            f"Structural similarity of the ensemble mean, Gaussian windows of 1.5 cells, {_OF}.",
        ),
        Score(
            "psnr_members",
            "PSNR of members (dB)",
            "high",
            "Fields",
            "The same of each member, then averaged; even a perfect member is further from the truth than the mean.",
            units="dB",
            style="tenths",
        ),
        Score(
            "ssim_members",
            "SSIM of members",
            "high",
            "Fields",
            f"The same of the first {FIRST} members, then averaged.",
        ),
    ),
    over="frame",
    wanted=lambda settings: data_range(settings) > 0,
)
