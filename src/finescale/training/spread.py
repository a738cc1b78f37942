"""The factor of the members' deviations with which their spread–skill ratio is 1.

With r(s) the ratio after a factor s, the next one is found from the last two by the secant of log r over log s, which
is nearly a line. Few crops say little: with e the standard error of log r, what is taken is the posterior mean of a
normal prior,

    log s · τ² / (τ² + e²),    τ the scatter of log s between networks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.model.batch import Batch, Members
from finescale.model.calibrated import Calibrated

MEMBERS = 8
LEAST, MOST = 0.25, 4.0
"""Factors of the spread that are tried."""
ROUNDS = 6
CLOSE = 0.01
"""|log of the ratio| at which the search ends."""
STEEP = 0.2
"""Least slope that the search goes by."""


PRIOR = 0.37
"""Standard deviation of log s over networks: six radars at 1x8 have 1.36, 1.04, .98, .74, .68 and .49."""


@dataclass(frozen=True)
class Ratio:
    """A spread–skill ratio, and the standard error of its logarithm; infinite of a single crop."""

    value: float
    error: float

    @property
    def off(self) -> float:
        """|log| of the ratio: how far it is from 1."""
        return abs(math.log(self.value))


def search(model: Downscaler, batch: Batch, calibrated: Calibrated, seed: int, ratio: Ratio) -> tuple[float, Ratio]:
    """The factor with which the spread is right, as far as the range and the crops allow, and the ratio that it gives.

    Args:
        model: whose members are drawn.
        batch: crops.
        calibrated: with the factor that is tried first.
        seed: of the members.
        ratio: that of this factor.
    """
    tried: list[tuple[float, Ratio]] = []
    log, low, high = math.log(calibrated.spread_at(model.factor)), math.log(LEAST), math.log(MOST)
    while True:
        tried.append((log, ratio))
        off, slope = math.log(ratio.value), 1.0
        if len(tried) > 1:
            (before, other), _ = tried[-2:]
            slope = (off - math.log(other.value)) / (log - before)
        log = min(max(log - off / max(slope, STEEP), low), high)
        known = any(abs(log - before) < CLOSE / 10 for before, _ in tried)
        if ratio.off <= CLOSE or known or len(tried) == ROUNDS:
            break
        ratio = ratio_of(model, batch, replace(calibrated, spread=math.exp(log)), seed)
    log, ratio = min(tried, key=lambda one: one[1].off)
    believed = log * PRIOR**2 / (PRIOR**2 + ratio.error**2)
    if abs(believed - log) > CLOSE:
        log, ratio = believed, ratio_of(model, batch, replace(calibrated, spread=math.exp(believed)), seed)
    return math.exp(log), ratio


def ratio_of(model: Downscaler, batch: Batch, calibrated: Calibrated, seed: int) -> Ratio:
    """√((M+1)/M ⟨s²⟩) / √⟨(x̄ − y)²⟩ over known cells; of several variables the geometric mean of theirs.

    Its standard error is the jackknife's over crops (Efron and Stein 1981).

    Raises:
        InputError: for members without a spread, or without an error.
    """
    model.calibrated = calibrated
    found = []
    for part, fields in members_of(model, batch, seed):
        error = fields.mean(1) - part.fine.cpu()
        known = error.isfinite()
        terms = torch.stack([fields.var(1), error.square()])
        found.append(torch.where(known, terms, 0.0).sum((3, 4, 5), dtype=torch.float64))
    sums = torch.cat(found, 1)  # variance and squared error (2, N, C)
    total, count = sums.sum(1, keepdim=True), sums.shape[1]

    def log(sums: Tensor) -> Tensor:
        variance, square = sums
        return ((MEMBERS + 1) / MEMBERS * variance / square).sqrt().log().mean(-1)

    without = log(total - sums)
    value, scatter = float(log(total).exp()), math.inf
    if not (math.isfinite(value) and value > 0):
        raise InputError("the members do not differ on these fields: there is no spread to calibrate")
    if count > 1 and bool(without.isfinite().all()):
        scatter = float(((count - 1) * without.var(correction=0)).sqrt())
    return Ratio(value, scatter)


def members_of(model: Downscaler, batch: Batch, seed: int) -> Iterator[tuple[Batch, Tensor]]:
    """Some crops at a time, and their members (B, M, C, T, H, W)."""
    start = 0
    for part in batch.split(max(1, model.at_once(batch.fine[0, 0].numel()) // MEMBERS)):
        # Far from each other, so that no two crops share their noise.
        origins = [(0, model.multiple[1] * 4096 * (start + n), 0) for n in range(len(part))]
        start += len(part)
        placed = replace(part, origin=origins)
        yield placed, model.sample(placed, Members(range(MEMBERS), seed)).fields.cpu()
