"""Is the error large where the ensemble says so?

Cells are sorted into bins by the members' standard deviation s; in each bin the root mean square error of the ensemble
mean should equal the spread, corrected for the number of members M (Leutbecher and Palmer 2008):

    spread  √((M+1)/M) · √⟨s²⟩        error  √⟨(x̄ − y)²⟩

Bins are half octaves of s (octaves of s²) between 2⁻²⁰ and 2¹⁶ units of the field, the same for all data, so that their
sums add up. The first also holds all smaller spreads, among them 0 (dry cells), the last all larger ones.
"""

from __future__ import annotations

import numpy as np

from finescale.scores.cells import Array, Cells, ratio
from finescale.scores.record import FIELD, Score, Statistic
from finescale.scores.settings import Settings

BINS = 72
_LOWEST = -39
"""s² of bin k lies in 2^(k − 40) … 2^(k − 39)."""


def spread_error_terms(cells: Cells, settings: Settings) -> Array:
    """Σw · (1, s², e²) by bin, (3, BINS): e the error of the ensemble mean, s² the unbiased variance."""
    variance = cells.variance
    # frexp: variance = m · 2^exponent with ½ ≤ m < 1
    place = np.clip(np.frexp(variance)[1] - _LOWEST, 0, BINS - 1)
    place[variance == 0] = 0
    squares = (1.0, variance, cells.error.astype(np.float64) ** 2)
    return np.stack([np.bincount(place, weights=cells.w * value, minlength=BINS) for value in squares])


def spread_error_formula(terms: Array, members: int) -> dict[str, Array]:
    """spread_by_bin, error_by_bin (NaN for empty bins) and bin_weight (…, BINS) from summed `spread_error_terms`."""
    weight, variance, square = terms[..., 0, :], terms[..., 1, :], terms[..., 2, :]
    return {
        "spread_by_bin": np.sqrt(ratio((members + 1) / members * variance, weight)),
        "error_by_bin": np.sqrt(ratio(square, weight)),
        "bin_weight": ratio(weight, weight.sum(axis=-1, keepdims=True)),
    }


SPREAD_ERROR = Statistic(
    "spread_error",
    spread_error_terms,
    lambda terms, members, settings: spread_error_formula(terms, members),
    (
        Score("spread_by_bin", units=FIELD, dims=("spread_bin",), several=True),
        Score("error_by_bin", units=FIELD, dims=("spread_bin",), several=True),
        Score("bin_weight", dims=("spread_bin",), several=True),
    ),
    several=True,
)
