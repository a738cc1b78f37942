"""Conservation: do the block means of a fine field equal the coarse field?

residual = max |A x − c| / max |c| over coarse cells known in both, A the area-weighted block mean.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from finescale.grids.blocks import block_means
from finescale.grids.factor import Factor, check_divisible
from finescale.scores.cells import Array
from finescale.scores.record import FIELD, Score


@dataclass
class Residuals:
    """Largest |A x − c| over members so far.

    Attributes:
        cells: (h, w), over times; NaN where a coarse cell was never known in both.
        intervals: of each coarse interval, over cells.
        scale: max |c|.
    """

    cells: Array | None = None
    intervals: list[float] = field(default_factory=list)
    scale: float = 0.0

    def add(
        self,
        members: ArrayLike,
        coarse: ArrayLike,
        factor: Factor,
        area: ArrayLike | None = None,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        """Add whole coarse intervals: members (M, T, H, W), coarse (t, h, w). With a ``pool`` threads take one each."""
        x, c = np.asarray(members), np.asarray(coarse, dtype=np.float64)
        check_divisible((x.shape[1], x.shape[2], x.shape[3]), factor)

        def largest(interval: int) -> Array:
            cut = slice(interval * factor.time, (interval + 1) * factor.time)
            most = np.full(c.shape[1:], np.nan)
            for member in x:
                np.fmax(most, np.abs(block_means(member[cut], factor, area)[0] - c[interval]), out=most)
            return most

        most = np.stack(list((map if pool is None else pool.map)(largest, range(len(c)))))
        self.intervals += [float(np.fmax.reduce(one, axis=None)) for one in most]
        by_cell = np.fmax.reduce(most, axis=0, initial=np.nan)
        self.cells = by_cell if self.cells is None else np.fmax(self.cells, by_cell)
        self.scale = max(self.scale, float(np.fmax.reduce(np.abs(c), axis=None, initial=0.0)))

    def value(self) -> float:
        """max |A x − c| / max |c|; for an all-zero coarse field max |A x|."""
        largest = 0.0 if self.cells is None else float(np.fmax.reduce(self.cells, axis=None, initial=0.0))
        return largest / (self.scale or 1.0)


def conservation_residual(
    members: ArrayLike, coarse: ArrayLike, factor: Factor, area: ArrayLike | None = None
) -> float:
    """max |A x − c| / max |c|; 0 where nothing is lost."""
    residuals = Residuals()
    residuals.add(members, coarse, factor, area)
    return residuals.value()


SCORES = (
    Score(
        "conservation_residual",
        "Conservation",
        "low",
        "Conservation",
        "max |block mean − coarse value| / max |coarse value|: 0 when the coarse totals are kept.",
        rounding=1e-6,
    ),
    Score("residual_by_interval", units=FIELD, dims=("interval",)),
)
