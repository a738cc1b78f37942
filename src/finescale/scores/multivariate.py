"""Scores of whole fields, to which it matters how cells vary together.

energy score      1/M Σ_i ‖x_i − y‖ − 1/(2M(M−1)) Σ_ij ‖x_i − x_j‖,  ‖d‖ = √⟨d²⟩ over the cells of one time
                  (Gneiting and Raftery 2007, the fair form); mean over times
variogram score   mean over pairs of cells (a, b) of ( |y_a − y_b|^½ − 1/M Σ_i |x_ia − x_ib|^½ )²  (Scheuerer and
                  Hamill 2015, p = ½). All pairs would be too many: those at the offsets `LAGS` (down, right) in cells
                  count, each lag alike, pairs weighted by √(w_a w_b). Not fair: it falls slightly with M
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from finescale.scores.cells import CHUNK, Array, Frame, dot, field_sums, ratio
from finescale.scores.record import FIELD, Score, Statistic
from finescale.scores.settings import Settings

PIECE = 512
"""Cells in a product of matrices: small ones are left to the thread that asks, larger ones BLAS would give to threads
of its own, in the way of those that take a time each."""
LAGS = ((0, 1), (1, 0), (0, 3), (3, 0), (0, 9), (9, 0))


def energy_terms(frame: Frame, settings: Settings) -> Array:
    """The fair energy score of a time with valid cells, and 1; else 0 and 0."""
    total, count = frame.w.sum(), len(frame.x)
    if total == 0:
        return np.zeros(2)
    gram = np.zeros((count, count))
    for cells in frame.chunks():
        d = (cells.x - cells.y) * np.sqrt(cells.w / total)
        whole = d.shape[1] // PIECE * PIECE
        pieces = d[:, :whole].reshape(count, -1, PIECE).swapaxes(0, 1)
        rest = d[:, whole:]
        gram += (pieces @ pieces.swapaxes(1, 2)).sum(axis=0) + rest @ rest.T
    norm = np.diag(gram)
    apart = np.sqrt(np.maximum(norm[:, None] + norm[None, :] - 2 * gram, 0.0)).sum()
    return np.array([np.sqrt(norm).mean() - (apart / (2 * count * (count - 1)) if count > 1 else 0.0), 1.0])


def energy_formula(terms: Array) -> Array:
    return ratio(terms[..., 0], terms[..., 1])


def energy_score(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Fair energy score, mean over times, in units of the field."""
    return float(energy_formula(field_sums(energy_terms, members, truth, weights)))


def variogram_terms(frame: Frame, settings: Settings) -> Array:
    """Σw(v_y − mean v_x)² and Σw (L, 2) over pairs at each lag, v = |difference|^½."""
    sums = np.zeros((len(LAGS), 2))
    height, width = frame.y.shape
    step = max(1, CHUNK // width)  # some rows at a time, which stay in the cache
    for k, (down, right) in enumerate(LAGS):
        if down >= height or right >= width:
            continue
        for top in range(0, height - down, step):
            stop = min(top + step, height - down)
            sums[k] += _variogram_rows(frame, slice(top, stop), slice(top + down, stop + down), right)
    return sums


def _variogram_rows(frame: Frame, first: slice, second: slice, right: int) -> tuple[float, float]:
    """The sums of pairs between cells of rows ``first`` and those of ``second``, ``right`` columns further on."""
    left, ahead = slice(0, frame.y.shape[1] - right), slice(right, None)
    seen = np.sqrt(np.abs(frame.y[first, left] - frame.y[second, ahead]))
    mean, step = np.zeros_like(seen), np.empty_like(seen)
    for x in frame.x:
        np.subtract(x[first, left], x[second, ahead], out=step)
        np.sqrt(np.abs(step, out=step), out=step)
        mean += step
    miss = np.square(seen - mean / len(frame.x))
    if frame.alike:
        return float(frame.w[0, 0] * miss.sum(dtype=np.float64)), float(frame.w[0, 0] * miss.size)
    weight = np.sqrt(frame.w[first, left] * frame.w[second, ahead])
    return dot(weight.ravel(), miss.ravel()), float(weight.sum())


def variogram_formula(terms: Array) -> Array:
    """Mean over the lags that fit into the field."""
    by_lag = ratio(terms[..., 0], terms[..., 1])
    there = ~np.isnan(by_lag)
    return ratio(np.where(there, by_lag, 0.0).sum(axis=-1), there.sum(axis=-1))


def variogram_score(members: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Variogram score of order ½ on `LAGS`, in units of the field."""
    return float(variogram_formula(field_sums(variogram_terms, members, truth, weights)))


ENERGY = Statistic(
    "energy",
    energy_terms,
    lambda terms, members, settings: {"energy_score": energy_formula(terms)},
    (
        Score(
            "energy_score",
            "Energy score",
            "low",
            "Fields",
            "The CRPS of whole fields: distances between fields are root mean squares over cells; mean over times.",
            units=FIELD,
            several=True,
        ),
    ),
    over="frame",
)
VARIOGRAM = Statistic(
    "variogram",
    variogram_terms,
    lambda terms, members, settings: {"variogram_score": variogram_formula(terms)},
    (
        Score(
            "variogram_score",
            "Variogram score",
            "low",
            "Fields",
            "Mean square error of the ensemble mean of √|difference| between cells 1, 3 and 9 apart, along both axes: "
            "do cells vary together as in the truth?",
            units=FIELD,
        ),
    ),
    over="frame",
    wanted=lambda settings: settings.full,
)
