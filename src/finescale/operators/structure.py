"""How differences between cells grow with their distance: the structure function of a field.

    D(l) = mean of (y(p + l e) − y(p))²  over pairs of counted cells l apart along a row or a column
    ζ    = log(D(b) / D(a)) / log(b / a),    D ~ l^ζ

White noise has ζ = 0, a field without structure below b cells ζ = 2. Rain in logarithms lies between .6 and 1.5, by how
its product was made (e.g. Marsan, Schertzer, Lovejoy 1996, doi 10.1029/96JD01840, for its scaling).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LAGS = (1, 4)
"""a and b, in cells."""
LEAST = 256
"""Pairs at each distance that tell an exponent."""


def exponent(y: Tensor, counted: Tensor) -> Tensor:
    """ζ of every item (B,); NaN where there are too few pairs, or no differences.

    Args:
        y: (B, …, H, W).
        counted: the same shape, True where a cell counts.
    """
    (near, few), (far, fewer) = (_differences(y, counted, lag) for lag in LAGS)
    found = (far / near).log() / math.log(LAGS[1] / LAGS[0])
    told = (few >= LEAST) & (fewer >= LEAST) & (near > 0) & (far > 0)
    return torch.where(told, found, torch.nan)


def _differences(y: Tensor, counted: Tensor, lag: int) -> tuple[Tensor, Tensor]:
    """D at a distance, and its number of pairs, of every item."""
    sums, pairs = y.new_zeros(len(y)), y.new_zeros(len(y))
    for axis in (-2, -1):
        cells = y.shape[axis] - lag
        if cells < 1:
            continue
        both = counted.narrow(axis, lag, cells) & counted.narrow(axis, 0, cells)
        step = y.narrow(axis, lag, cells) - y.narrow(axis, 0, cells)
        sums += torch.where(both, step.square(), 0.0).flatten(1).sum(1)
        pairs += both.flatten(1).sum(1)
    return sums / pairs, pairs
