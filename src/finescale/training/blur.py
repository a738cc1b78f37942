"""The Gaussian with which members are as smooth as fine fields: its standard deviation σ in fine cells.

σ is at the first minimum, from below, of the log-spectral distance between blurred members and the fine fields: a scan
finds between which values, `scipy.optimize.minimize_scalar` where. A second one may lie beyond, where members are the
constraint's alone, which has a spectrum near the fine fields' at small factors, and no spread. Members are drawn once;
for each σ they are blurred and constrained anew.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from finescale.downscaler import Downscaler
from finescale.model import sampling
from finescale.model.batch import Batch
from finescale.model.calibrated import Calibrated
from finescale.scores.spectra import log_spectral_distance
from finescale.training.spread import members_of

LEAST, MOST, STEP = 0.2, 0.25, 0.2
"""The σ that are tried, in cells: from the first, with which a Gaussian is one cell, to this share of the factor."""
CLOSE = 0.02
"""Cells at which the search ends."""
WORTH = 0.05
"""Spectral distance, in dex, that a blur has to save: what is less is not seen, and costs spread."""


def search(model: Downscaler, batch: Batch, calibrated: Calibrated, seed: int) -> float:
    """The σ that brings members nearest to fine fields in spectrum; 0 where none does, or cannot.

    Args:
        model: whose members are drawn.
        batch: crops.
        calibrated: the spread and the smoothness they are drawn with.
        seed: of the members.
    """
    sides = [n for n in (model.factor.y, model.factor.x) if n > 1]
    if not sides:
        return 0.0
    model.calibrated = replace(calibrated, blur=0.0, least=None)
    drawn = list(members_of(model, batch, seed))
    truth = batch.fine.cpu().transpose(0, 1).flatten(1, 2).numpy()

    def distance(std: float) -> float:
        """Of all crops and frames, and of several variables the mean of theirs."""
        model.calibrated = replace(calibrated, blur=std)
        parts = [
            sampling.adapted(model, fields.to(model.device), sampling.known(part, model.device)).cpu()
            for part, fields in drawn
        ]
        members = torch.cat(parts).permute(2, 1, 0, 3, 4, 5).flatten(2, 3).numpy()
        pairs = zip(members, truth, strict=True)
        return float(np.mean([log_spectral_distance(ours, fine, centre=not model.amounts) for ours, fine in pairs]))

    tried = [(LEAST, distance(LEAST))]
    while tried[-1][0] + STEP <= MOST * min(sides) and (len(tried) == 1 or tried[-1][1] < tried[-2][1]):
        std = tried[-1][0] + STEP
        tried.append((std, distance(std)))
    low, high = tried[max(0, len(tried) - 3)][0], tried[-1][0]
    found = minimize_scalar(distance, bounds=(low, high), method="bounded", options={"xatol": CLOSE})
    # Comparisons with NaN, of fields without a spectrum, are false.
    return float(found.x) if tried[0][1] - found.fun > WORTH else 0.0
