"""SAL, a score of rain objects (Wernli et al. 2008): structure, amplitude and location of one field against another.

With R a rain field, D its weighted mean over the domain, d the domain's diagonal, and objects the connected areas (by
edges) of at least R* = R95 / 15, R95 the 95th percentile of wet cells (≥ 0.1 mm/h; Wernli et al. 2009); of object n,
R_n is its total, R_n^max its largest value, x_n its centre of mass, and x̂ that of the whole field:

    A = (D_x − D_y) / ½(D_x + D_y)                                       −2 … 2; 0 is right, 2/3 is twice the rain
    S = (V_x − V_y) / ½(V_x + V_y),   V = Σ R_n · (R_n / R_n^max) / Σ R_n     −2 … 2; > 0: objects too large or flat
    L = |x̂_x − x̂_y| / d + 2 |r_x − r_y| / d,   r = Σ R_n |x̂ − x_n| / Σ R_n    0 … 2; 0 is right

Of each member and each time at which member and truth both have an object; then averaged. Since S and A of opposite
sign cancel, their absolute values are averaged as well.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from finescale.scores.cells import Array, Frame, field_sums, ratio
from finescale.scores.record import Score, Statistic
from finescale.scores.settings import WET, Settings

KEYS = ("sal_structure", "sal_amplitude", "sal_location", "sal_structure_error", "sal_amplitude_error")


class Shape(NamedTuple):
    """What SAL compares: mean D, volume V, centre of mass (y, x) and scatter r."""

    mean: float
    volume: float
    centre: Array
    scatter: float


def sal_terms(frame: Frame, settings: Settings) -> Array:
    """Sums (6,) over members of S, A, L, |S|, |A|, and their number."""
    total = np.zeros(6)
    true = frame.of_truth("shape", lambda: describe(frame.y, frame.w, settings.cell))
    if true is None:
        return total
    diagonal = float(np.hypot(*(n * d for n, d in zip(frame.y.shape, settings.cell, strict=True))))
    for member in frame.x:
        ours = describe(member, frame.w, settings.cell)
        if ours is None:
            continue
        amplitude, structure = (2 * (a - b) / (a + b) for a, b in zip(ours[:2], true[:2], strict=True))
        apart = float(np.hypot(*(ours.centre - true.centre))) + 2 * abs(ours.scatter - true.scatter)
        total += [structure, amplitude, apart / diagonal, abs(structure), abs(amplitude), 1.0]
    return total


def sal_formula(terms: Array) -> dict[str, Array]:
    """`KEYS` from summed `sal_terms`; NaN where there never was an object."""
    return {name: ratio(terms[..., k], terms[..., 5]) for k, name in enumerate(KEYS)}


def sal(
    members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None, cell: tuple[float, float] = (1.0, 1.0)
) -> dict[str, float]:
    """SAL for arrays at hand; ``cell`` (dy, dx) is the cells' size."""
    found = sal_formula(field_sums(sal_terms, members, truth, weights, Settings(cell=cell)))
    return {name: float(value) for name, value in found.items()}


def describe(rain: Array, w: Array, cell: tuple[float, float]) -> Shape | None:
    """The shape of a rain field (H, W); None without an object."""
    valid = w > 0
    wet = rain[(rain >= WET) & valid]
    if wet.size == 0:
        return None
    rank = min(int(0.95 * wet.size), wet.size - 1)
    part_of_one = (rain >= np.partition(wet, rank)[rank] / 15) & valid
    labels, number = ndimage.label(part_of_one)
    amount = w * np.maximum(rain, 0.0)
    rows, columns = amount.sum(axis=1), amount.sum(axis=0)
    whole = rows.sum()
    centre = np.array([np.dot(f, np.arange(f.size)) * d for f, d in zip((rows, columns), cell, strict=True)]) / whole
    places = np.flatnonzero(part_of_one)
    label = labels.ravel()[places]
    part, value = amount.ravel()[places], rain.ravel()[places]
    total = np.bincount(label, weights=part, minlength=number + 1)[1:]
    most = np.zeros(number + 1, dtype=rain.dtype)  # of one kind with the values: several times as fast
    np.maximum.at(most, label, value)
    y, x = (
        np.bincount(label, weights=part * f, minlength=number + 1)[1:] / total * d
        for f, d in zip(np.divmod(places, rain.shape[1]), cell, strict=True)
    )
    scatter = np.dot(total, np.hypot(y - centre[0], x - centre[1])) / total.sum()
    # The mean weight makes V a number of cells, whatever the unit of area; it cancels in S.
    volume = np.dot(total, total / most[1:]) / total.sum()
    return Shape(float(whole / w.sum()), float(volume), centre, float(scatter))


SAL = Statistic(
    "sal",
    sal_terms,
    lambda terms, members, settings: sal_formula(terms),
    (
        Score("sal_structure"),
        Score("sal_amplitude"),
        Score(
            "sal_structure_error",
            "SAL structure",
            "low",
            "Fields",
            "Mean |S|: are rain objects as large and as peaked as in the truth (sal_structure above 0: too large or "
            "flat)?",
        ),
        Score(
            "sal_amplitude_error",
            "SAL amplitude",
            "low",
            "Fields",
            "Mean |A|, the relative error of the domain's mean rain.",
        ),
        Score(
            "sal_location",
            "SAL location",
            "low",
            "Fields",
            "L: displacement of the centre of rain, and of the objects about it, over the domain's diagonal.",
        ),
    ),
    over="frame",
    wanted=lambda settings: settings.full and settings.rain,
)
