"""Conservation: do the block means of a fine field equal the coarse field?

residual = max |A x − c| / max |c| over coarse cells known in both, A the area-weighted block mean.
bias     = ⟨A x − c⟩, and ⟨|A x − c|⟩, over members and such cells, weighted by their area: by how much totals differ
           where they are not kept.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from finescale.grids.blocks import block_means
from finescale.grids.factor import Factor, check_divisible
from finescale.scores.cells import Array, ratio
from finescale.scores.record import FIELD, Score


@dataclass
class Residuals:
    """Largest |A x − c| over members so far.

    Attributes:
        cells: (h, w), over times; NaN where a coarse cell was never known in both.
        intervals: of each coarse interval, over cells.
        scale: max |c|.
        sums: Σw(A x − c), Σw|A x − c|, Σw c, Σw c² and Σw over members, w the areas of coarse cells.
    """

    cells: Array | None = None
    intervals: list[float] = field(default_factory=list)
    scale: float = 0.0
    sums: Array = field(default_factory=lambda: np.zeros(5))

    def add(
        self,
        members: ArrayLike,
        coarse: ArrayLike,
        factor: Factor,
        area: ArrayLike | None = None,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        """Add whole coarse intervals: members (M, T, H, W), coarse (t, h, w), or (M, t, h, w) where members have each
        their own. With a ``pool`` threads take an interval each.
        """
        x, c = np.asarray(members), np.asarray(coarse, dtype=np.float64)
        check_divisible((x.shape[1], x.shape[2], x.shape[3]), factor)
        own = np.broadcast_to(c, (len(x), *c.shape[-3:]))
        plain = np.broadcast_to(1.0 if area is None else np.asarray(area, dtype=np.float64), (1, *x.shape[2:]))
        weight = block_means(plain, Factor(1, y=factor.y, x=factor.x))[0]

        def compared(interval: int) -> tuple[Array, Array]:
            cut = slice(interval * factor.time, (interval + 1) * factor.time)
            most, sums = np.full(c.shape[-2:], np.nan), np.zeros(5)
            for member, wanted in zip(x, own[:, interval], strict=True):
                apart = block_means(member[cut], factor, area)[0] - wanted
                np.fmax(most, np.abs(apart), out=most)
                w = np.where(np.isfinite(apart), weight, 0.0)
                value = np.where(w > 0, wanted, 0.0)
                sums += [np.nansum(w * term) for term in (apart, np.abs(apart), value, value**2, np.ones_like(w))]
            return most, sums

        found = list((map if pool is None else pool.map)(compared, range(c.shape[-3])))
        most = np.stack([one for one, _ in found])
        self.sums = self.sums + np.sum([sums for _, sums in found], axis=0)
        self.intervals += [float(np.fmax.reduce(one, axis=None)) for one in most]
        by_cell = np.fmax.reduce(most, axis=0, initial=np.nan)
        self.cells = by_cell if self.cells is None else np.fmax(self.cells, by_cell)
        self.scale = max(self.scale, float(np.fmax.reduce(np.abs(c), axis=None, initial=0.0)))

    def value(self) -> float:
        """max |A x − c| / max |c|; for an all-zero coarse field max |A x|."""
        return self.largest() / (self.scale or 1.0)

    def largest(self) -> float:
        """max |A x − c|."""
        return 0.0 if self.cells is None else float(np.fmax.reduce(self.cells, axis=None, initial=0.0))

    def apart(self) -> tuple[float, float, float, float]:
        """⟨A x − c⟩, ⟨|A x − c|⟩, ⟨c⟩ and the standard deviation of c; NaN where no coarse cell is known."""
        bias, apart, mean, square = ratio(self.sums[:4], self.sums[4]).tolist()
        return bias, apart, mean, math.sqrt(max(square - mean**2, 0.0))


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
