"""How differences between cells grow with their distance: the structure function of a field.

    D(l) = mean of (y(p + l e) − y(p))²  over pairs of counted cells l apart along a row or a column
    ζ    = log(D(b) / D(a)) / log(b / a),    D ~ l^ζ

White noise has ζ = 0, a field without structure below b cells ζ = 2. Rain in logarithms lies between .6 and 1.5, by how
its product was made (e.g. Marsan, Schertzer, Lovejoy 1996, doi 10.1029/96JD01840, for its scaling).
"""

from __future__ import annotations

import math

import numpy as np
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


def halved(zeta: float) -> float:
    """The exponent of a field with D ~ l^ζ, interpolated linearly to cells of half its size.

    An interpolated value is Σ_k w_k y_k over the four cells about it, so that with c the weights of one less those of
    another l away D(l) = −½ Σ_jk c_j c_k |p_j − p_k|^ζ; at both distances its mean is taken over the four places that
    fine cells have in coarse ones.

    Args:
        zeta: ζ > 0, at the larger cells.

    Example:
        >>> round(halved(0.8), 2)
        1.53
    """
    cells = np.arange(-1.0, LAGS[1] / 2 + 3)
    places = np.stack(np.meshgrid(cells, cells, indexing="ij"), -1).reshape(-1, 2)
    variogram = np.linalg.norm(places[:, None] - places, axis=-1) ** zeta

    def weights(y: float, x: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        along, across = (np.clip(1 - np.abs(cells - at), 0, None) for at in (y, x))
        return np.outer(along, across).ravel()

    def differences(lag: int) -> float:
        four = [(y, x) for y in (0.25, 0.75) for x in (0.25, 0.75)]
        steps = np.array([weights(y + lag / 2, x) - weights(y, x) for y, x in four])
        return float(-0.5 * np.einsum("ij,jk,ik->i", steps, variogram, steps).mean())

    return math.log(differences(LAGS[1]) / differences(LAGS[0])) / math.log(LAGS[1] / LAGS[0])


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
