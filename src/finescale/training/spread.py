"""The factor of the members' deviations with which their spread–skill ratio is 1.

With r(s) the ratio after a factor s, the next one is found from the last two by the secant of log r over log s, which
is nearly a line.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

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


def search(model: Downscaler, batch: Batch, calibrated: Calibrated, seed: int, ratio: float) -> tuple[float, float]:
    """The factor with which the spread is right, as nearly as the range allows, and the ratio that it gives.

    Args:
        model: whose members are drawn.
        batch: crops.
        calibrated: with a factor of 1.
        seed: of the members.
        ratio: that of a factor of 1.
    """
    tried: list[tuple[float, float]] = []
    log, low, high = 0.0, math.log(LEAST), math.log(MOST)
    while True:
        if not (math.isfinite(ratio) and ratio > 0):
            raise InputError("the members do not differ on these fields: there is no spread to calibrate")
        tried.append((log, math.log(ratio)))
        slope = 1.0
        if len(tried) > 1:
            slope = (tried[-1][1] - tried[-2][1]) / (tried[-1][0] - tried[-2][0])
        log = min(max(log - tried[-1][1] / max(slope, STEEP), low), high)
        known = any(abs(log - before) < CLOSE / 10 for before, _ in tried)
        if abs(tried[-1][1]) <= CLOSE or known or len(tried) == ROUNDS:
            break
        ratio = ratio_of(model, batch, replace(calibrated, spread=math.exp(log)), seed)
    best = min(tried, key=lambda one: abs(one[1]))
    return math.exp(best[0]), math.exp(best[1])


def ratio_of(model: Downscaler, batch: Batch, calibrated: Calibrated, seed: int) -> float:
    """√((M+1)/M ⟨s²⟩) / √⟨(x̄ − y)²⟩ over known cells; of several variables the geometric mean of theirs."""
    model.calibrated = calibrated
    variance, square = torch.zeros(2, len(batch.fine[0]), dtype=torch.float64)
    start = 0
    for part in batch.split(max(1, model.at_once(batch.fine[0, 0].numel()) // MEMBERS)):
        # Far from each other, so that no two crops share their noise.
        origins = [(0, model.multiple[1] * 4096 * (start + n), 0) for n in range(len(part))]
        start += len(part)
        fields = model.sample(replace(part, origin=origins), Members(range(MEMBERS), seed)).fields.cpu()
        error = fields.mean(1) - part.fine.cpu()
        known = error.isfinite()
        for sums, terms in ((variance, fields.var(1)), (square, error.square())):
            sums += torch.where(known, terms, 0.0).sum((0, 2, 3, 4), dtype=torch.float64)
    ratios = ((MEMBERS + 1) / MEMBERS * variance / square).sqrt()
    return float(ratios.log().mean().exp())
