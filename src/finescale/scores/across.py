"""Scores of several variables together: do the members' variables belong to one another as the truth's do?

Every variable v is standardised by the truth, z = (value − μ_v) / σ_v, with μ_v and σ_v its mean and standard deviation
over all cells and times (weighted by area) at which the truth has every variable. No variable counts more because
of its units, and scores have none. With x_1 … x_M the members, y the truth, V variables, ⟨·⟩ the mean over cells and
times weighted by area:

    energy score         ⟨1/M Σ_i ‖x_i − y‖ − 1/(2M(M−1)) Σ_ij ‖x_i − x_j‖⟩, fair (Gneiting and Raftery 2007; Ferro
                         2014), of the vector of variables in a cell, ‖d‖ = √(1/V Σ_v d_v²), and of the vector of all
                         variables and cells of a block, ‖d‖ the root mean square over both. Of one variable the first
                         is the CRPS over σ
    variogram score      ⟨(|y_v − y_u|^½ − 1/M Σ_i |x_iv − x_iu|^½)²⟩ of two variables in a cell, mean over all pairs
                         v < u (Scheuerer and Hamill 2015, p = ½). Not fair: it falls slightly with M
    correlation          Pearson's r of two variables over all members, cells and times, against the truth's; of the
                         fields, and of the detail: what is left of them less the mean of their block

Blocks are those of the factor, where there is one that refines space, otherwise `BLOCK` cells square.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from finescale.scores.cells import Array, ratio
from finescale.scores.record import Score, Statistic
from finescale.scores.settings import Settings
from finescale.scores.temporal import EQUAL

BLOCK = 8


@dataclass(eq=False)
class Joint:
    """One time of several standardised variables: members x (M, V, H, W), truth y (V, H, W), weights w (H, W)."""

    x: Array
    y: Array
    w: Array
    block: tuple[int, int]

    @cached_property
    def area(self) -> Array:
        """The weight (h, w) of each block."""
        return self.added(self.w)

    def added(self, values: Array) -> Array:
        """Sums (…, h, w) over the blocks of (…, H, W); the last ones may be smaller."""
        rows, columns = (np.arange(0, n, b) for n, b in zip(self.w.shape, self.block, strict=True))
        return np.add.reduceat(np.add.reduceat(values, rows, axis=-2), columns, axis=-1)

    def detail(self, values: Array) -> Array:
        """Values (…, H, W) less the mean of their block."""
        mean = ratio(self.added(self.w * values), self.area)
        height, width = self.w.shape
        spread = mean.repeat(self.block[0], axis=-2).repeat(self.block[1], axis=-1)[..., :height, :width]
        return np.where(self.w > 0, values - spread, 0.0)


def block_of(settings: Settings) -> tuple[int, int]:
    """Rows and columns of a block."""
    factor = settings.factor
    return (factor.y, factor.x) if factor is not None and factor.y * factor.x > 1 else (BLOCK, BLOCK)


def energy_terms(frame: Joint, settings: Settings) -> Array:
    """Σw·ES and Σw (2, 2), of cells and of blocks."""
    count, known = len(frame.x), np.where(frame.area > 0, frame.area, 1.0)

    def apart(a: Array, b: Array) -> Array:
        square = np.square(a - b).mean(axis=0)
        blocks = np.sqrt(frame.added(frame.w * square) / known)
        return np.array([(frame.w * np.sqrt(square)).sum(), (frame.area * blocks).sum()])

    total = np.sum([apart(member, frame.y) for member in frame.x], axis=0) / count
    for i in range(1, count):
        total -= np.sum([apart(frame.x[i], other) for other in frame.x[:i]], axis=0) / (count * (count - 1))
    return np.stack([total, np.full(2, frame.w.sum())], axis=-1)


def energy_formula(terms: Array) -> dict[str, Array]:
    """joint_energy_score of cells, joint_energy_score_blocks."""
    found = ratio(terms[..., 0], terms[..., 1])
    return {"joint_energy_score": found[..., 0], "joint_energy_score_blocks": found[..., 1]}


def variogram_terms(frame: Joint, settings: Settings) -> Array:
    """Σw(v_y − mean v_x)² of each pair of variables, v = |difference|^½, and Σw, (P + 1,)."""
    first, second = pairs(len(frame.y))
    mean = np.zeros((len(first), *frame.w.shape))
    for member in frame.x:
        mean += np.sqrt(np.abs(member[first] - member[second]))
    miss = np.square(np.sqrt(np.abs(frame.y[first] - frame.y[second])) - mean / len(frame.x))
    return np.append((frame.w * miss).sum(axis=(-2, -1)), frame.w.sum())


def variogram_formula(terms: Array) -> dict[str, Array]:
    """joint_variogram_score, the mean over pairs."""
    return {"joint_variogram_score": ratio(terms[..., :-1].mean(axis=-1), terms[..., -1])}


def correlation_terms(frame: Joint, settings: Settings) -> Array:
    """Σw z zᵀ with z = (1, variables), (2, 2, V + 1, V + 1): of fields and detail, of members (per member), truth."""
    w = frame.w.ravel()

    def products(values: Array) -> Array:
        z = np.concatenate([np.ones((1, w.size)), values.reshape(len(values), -1)])
        return np.einsum("un,vn->uv", z * w, z)

    found = []
    for view in (lambda values: values, frame.detail):
        ours = np.sum([products(view(member)) for member in frame.x], axis=0) / len(frame.x)
        found.append(np.stack([ours, products(view(frame.y))]))
    return np.stack(found)


def correlation_formula(terms: Array) -> dict[str, Array]:
    """Correlations (…, P) of each pair, the truth's, and the mean absolute difference, of fields and of detail."""
    first, second = pairs(terms.shape[-1] - 1)
    mean = ratio(terms[..., 0, 1:], terms[..., :1, 0])
    square = ratio(terms[..., 1:, 1:], terms[..., :1, :1])
    variance = np.diagonal(square, axis1=-2, axis2=-1) - mean**2
    varies = variance > EQUAL
    covariance = square[..., first, second] - mean[..., first] * mean[..., second]
    both = varies[..., first] & varies[..., second]
    r = ratio(covariance, np.sqrt(np.where(both, variance[..., first] * variance[..., second], 0.0)))
    result: dict[str, Array] = {}
    for k, name in enumerate(("variable_correlation", "detail_correlation")):
        ours, true = r[..., k, 0, :], r[..., k, 1, :]
        result |= {name: ours, f"{name}_truth": true, f"{name}_error": np.abs(ours - true).mean(axis=-1)}
    return result


def pairs(count: int) -> tuple[Array, Array]:
    """The first and the second variable of each pair."""
    first, second = np.triu_indices(count, 1)
    return first, second


ENERGY = Statistic(
    "joint_energy",
    energy_terms,
    lambda terms, members, settings: energy_formula(terms),
    (
        Score(
            "joint_energy_score",
            "Energy score of a cell",
            "low",
            "Variables together",
            "The CRPS of the vector of all variables in a cell, each over the truth's standard deviation: are members "
            "right in all of them together? Fair.",
        ),
        Score(
            "joint_energy_score_blocks",
            "Energy score of a block",
            "low",
            "Variables together",
            "The same of all variables and cells of a block: also, do cells vary together as in the truth?",
        ),
    ),
    over="frame",
)
VARIOGRAM = Statistic(
    "joint_variogram",
    variogram_terms,
    lambda terms, members, settings: variogram_formula(terms),
    (
        Score(
            "joint_variogram_score",
            "Variogram score of variables",
            "low",
            "Variables together",
            "Mean square error of the ensemble mean of √|difference| between two standardised variables of a cell: do "
            "variables vary together as in the truth?",
        ),
    ),
    over="frame",
)
CORRELATION = Statistic(
    "joint_correlation",
    correlation_terms,
    lambda terms, members, settings: correlation_formula(terms),
    (
        Score(
            "variable_correlation_error",
            "Error of correlations",
            "low",
            "Variables together",
            "Mean over pairs of variables of |r of the members − r of the truth|.",
            style="thousandths",
        ),
        Score(
            "detail_correlation_error",
            "Error of correlations of detail",
            "low",
            "Variables together",
            "The same of what is left of the fields less the means of their blocks: what the coarse field does not "
            "give.",
            style="thousandths",
        ),
        Score(
            "variable_correlation",
            "Correlation",
            "truth",
            "Variables together",
            "Pearson's r of two variables over all members, cells and times; best is that of the truth.",
            dims=("pair",),
            style="thousandths",
        ),
        Score(
            "detail_correlation",
            "Correlation of detail",
            "truth",
            "Variables together",
            "The same of what is left of the fields less the means of their blocks.",
            dims=("pair",),
            style="thousandths",
        ),
    ),
    over="frame",
)
STATISTICS: tuple[Statistic, ...] = (ENERGY, VARIOGRAM, CORRELATION)


def scores() -> dict[str, Score]:
    """The record of each score and of what stands beside it, by key."""
    return {record.key: record for one in STATISTICS for score in one.scores for record in score.records()}
