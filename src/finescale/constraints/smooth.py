"""Rescaling of non-negative fields by factors that vary continuously."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from finescale.constraints.emptied import emptied
from finescale.constraints.multiplicative import Multiplicative, spread
from finescale.grids.factor import Factor
from finescale.operators.coarsen import Coarsen
from finescale.operators.interpolate import upsample
from finescale.ranges import NotNegative, Size

STEEPEST = 2.0
"""Largest |ln s|."""
LAST = 0.35
"""γ of `steps`. The least share is a quarter; zeros as low as that would leave more of ratios that vary slowly."""
LENGTHENED = 0.5
"""|w ln s| beyond which w does not lengthen it: far from 1, ratios are those of a few wet cells, and erratic."""
LARGEST = 1e15
"""Of amounts of ordinary size, and the reciprocal of the smallest."""
HUMP = 8.0
"""Largest ratio of an interpolated cell to its coarse cell in what an empty block is given."""


class Smooth(Multiplicative):
    """x = y · exp(L w_1 ln s_1) · … · exp(L w_R ln s_R) · U(s), for y, c >= 0, s_r being c over the block means before.

    L interpolates linearly between the centres of coarse cells, of which dry ones take the mean of their wet
    neighbours: factors vary continuously within and across coarse cells, where `Multiplicative`'s jump at every border
    and leave its imprint. R rounds, in which parts of blocks stand for their cells, bring the block means close to c,
    and the last factor, constant in each block and near one, makes them exact. Of a ratio that is the same everywhere a
    round leaves nothing, of one that alternates three quarters; with the steps w_r (`steps`) R rounds leave little of
    any. It is the smooth rescaling of Tobler's (1979) pycnophylactic interpolation applied to a ratio instead of a
    field (the iteration, its logarithm and its exact end are ours).

    A block with c > 0 whose y is all zero takes the linearly interpolated coarse field as its y, not a flat square.
    With ``least``, cells that would end below that amount are emptied and the others take what they had, so that no
    cell is between zero and it; where all of a block would be emptied its largest cells take all, as many as end above
    it, or one.

    A window's result depends on the coarse cells R around it.

    Args:
        factor: the whole factor between c and y.
        area: as in `Constraint`.
        mask: as in `Constraint`.
        rounds: R.
        least: amount in the units of c.

    Example:
        >>> import torch
        >>> from finescale import Factor
        >>> from finescale.constraints import Smooth
        >>> x = Smooth(Factor(space=4))(torch.ones(1, 1, 8, 8), torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
        >>> bool(abs(x[..., :4, :4].mean() - 1) < 1e-5), bool(x[0, 0, 0, 3] > x[0, 0, 0, 0])  # mean, rise
        (True, True)
    """

    def __init__(
        self,
        factor: Factor,
        area: Tensor | None = None,
        mask: Tensor | None = None,
        rounds: Size = 3,
        least: NotNegative = 0.0,
    ) -> None:
        super().__init__(factor, area, mask)
        self.rounds, self.least = rounds, least

    def gently(self, y: Tensor, coarse: Tensor, coarsen: Coarsen | None = None) -> Tensor:
        """As in `Multiplicative`, of y times factors without a slope, since those of neighbours' ratios are erratic."""
        operators, y = coarsen or self.coarsen, y.clamp_min(0)
        with torch.no_grad():
            rescaled = self._rescaled(y, coarse.nan_to_num(), operators)
            factors = torch.where(y > 0, rescaled / y, 1.0)
        return super().gently(y * factors, coarse, operators)

    def apply_to(self, y: Tensor, coarse: Tensor, operators: Coarsen) -> Tensor:
        wanted = coarse.nan_to_num()
        y = y.clamp_min(0)
        mean = operators.average(y, missing=False)
        empty = (mean <= 0) & (wanted > 0)
        if bool(empty.any()):
            given = operators.times(_interpolated(wanted, operators.factor).expand_as(y), empty.to(y.dtype))
            if operators.mask is not None:  # cells that do not count shall not be taken for those that hold the total
                given = torch.where(operators.mask, given, 0.0)
            y = y + given
        if bool((mean > LARGEST).any()):  # what is raised could overflow
            y = y.clamp_max(LARGEST)
        y = self._rescaled(y, wanted, operators)
        mean = operators.average(y, missing=False)
        held = mean.detach()
        ordinary = (torch.minimum(held, wanted) > 1 / LARGEST) & (torch.maximum(held, wanted) < LARGEST)
        # Amounts of ordinary size need no care for overflow and subnormal numbers.
        plain = bool((ordinary | (wanted == 0)).all())
        x = spread(y, coarse, operators, mean) if plain else super().apply_to(y, coarse, operators)
        return x if self.least == 0 else emptied(x, coarse, operators, self.least)

    def _rescaled(self, y: Tensor, wanted: Tensor, operators: Coarsen) -> Tensor:
        """The rounds: on parts of blocks, whose factors are multiplied, so that the field is gone through once."""
        wet, factor = wanted > 0, operators.factor
        dry = not bool(wet.all())
        parts, rest = _parts(factor)
        of_parts, tiny = Coarsen(parts), torch.finfo(y.dtype).tiny
        weighted = operators.area is not None or operators.mask is not None
        held = _sums(y * operators.weight(y) if weighted else y, rest)
        count = operators.sums(operators.weight(y)).clamp_min(tiny) if weighted else factor.cells
        total = torch.zeros_like(wanted)
        for step in steps(self.rounds):
            mean = of_parts.sums(held) / count
            # Below, where no amounts are, slopes would overflow.
            there = wet & (mean > tiny**0.5)
            logarithm = torch.where(there, wanted, 1.0).log() - torch.where(there, mean, 1.0).log()
            logarithm = logarithm.clamp(-STEEPEST, STEEPEST)
            if step > 1:
                most = logarithm.abs().clamp_min(LENGTHENED)
                logarithm = torch.minimum(torch.maximum(step * logarithm, -most), most)
            logarithm = continued(logarithm, wet) if dry else logarithm
            total, held = total + logarithm, held * factors_of(logarithm, parts)
        return y * factors_of(total, factor)


def steps(rounds: int) -> list[float]:
    """w_r = 1 / γ_r, γ_r = 1 − (1 − γ) (r − 1)² / (max(R, 3) − 1)²: Richardson's iteration with a step for each round.

    Of a pattern of ln s, of which block means show a share g after L, R rounds leave Π_r (1 − w_r g): nothing where g
    is 1, a ratio that is the same everywhere, and little of all others. g is a quarter where the ratio alternates from
    cell to cell along both axes; of that three rounds leave .15, where rounds with w = 1 leave .42. Zeros are closest
    at 1, where ratios vary slowly, as most do (Chebyshev's, which make the largest remainder least, leave more there).

    Example:
        >>> from finescale.constraints.smooth import steps
        >>> [round(step, 2) for step in steps(3)]
        [1.0, 1.19, 2.86]
    """
    return [1 / (1 - (1 - LAST) * (r / (max(rounds, 3) - 1)) ** 2) for r in range(rounds)]


def continued(x: Tensor, wet: Tensor) -> Tensor:
    """x (..., t, h, w) where it is wet, and elsewhere the mean over those of its neighbours in space that are, or 0."""
    known = wet.to(x.dtype)
    near = _around(x * known) / _around(known).clamp_min(torch.finfo(x.dtype).tiny)
    return torch.where(wet, x, near)


def _around(x: Tensor) -> Tensor:
    """Sums over 3 x 3 cells."""
    rows = F.pad(x, (0, 0, 1, 1))
    rows = rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]
    both = F.pad(rows, (1, 1))
    return both[..., :-2] + both[..., 1:-1] + both[..., 2:]


def _sums(x: Tensor, parts: Factor) -> Tensor:
    """Sums over a few rows and columns, which are added as wholes."""
    rows = sum((x[..., n :: parts.y, :] for n in range(1, parts.y)), x[..., :: parts.y, :])
    return sum((rows[..., n :: parts.x] for n in range(1, parts.x)), rows[..., :: parts.x])


def _parts(factor: Factor) -> tuple[Factor, Factor]:
    """Into how many parts the rounds cut blocks, four a side or a few more, and cells a part."""
    cells = [next(n for n in range(max(1, f // 4), 0, -1) if f % n == 0) for f in (factor.y, factor.x)]
    y, x = cells
    return Factor(factor.time, y=factor.y // y, x=factor.x // x), Factor(1, y=y, x=x)


def factors_of(logarithm: Tensor, factor: Factor) -> Tensor:
    """exp of the linearly interpolated logarithm, (..., t, h, w) -> (..., T, H, W).

    Along y the factors between two centres are a geometric sequence, so that only coarse rows are exponentiated.
    """
    rows = upsample(logarithm, Factor(factor.time, y=1, x=factor.x), "linear")
    n = factor.y
    first, edges = rows.exp(), torch.cat([rows[..., :1, :], rows, rows[..., -1:, :]], -2)
    found: list[Tensor] = [first] * n  # the middle of an odd number of rows
    for side, other in ((-1, edges[..., :-2, :]), (1, edges[..., 2:, :])):
        ratio = ((other - rows) / n).exp()
        # Of an even number the first rows lie half a row from the centre.
        row = first * ratio.sqrt() if n % 2 == 0 else first * ratio
        for step in range(n // 2):
            found[(n // 2 + step + n % 2) if side > 0 else (n - 1) // 2 - n % 2 - step] = row
            row = row * ratio
    return torch.stack(found, -2).flatten(-3, -2)


def _interpolated(wanted: Tensor, factor: Factor) -> Tensor:
    """What an empty block is given, positive where it is wet; its scale in a block does not matter."""
    own = Coarsen(factor).replicate(torch.where(wanted > 0, wanted, 1.0))
    return (upsample(wanted, factor, "linear") / own).clamp_max(HUMP)
