"""Bicubic interpolation with log-normal noise, whose spread is that of the training crops about their interpolation."""

from __future__ import annotations

import harness
import numpy as np
from bicubic import interpolated

CROPS = 512


def train(given: harness.Training) -> tuple[float, int]:
    fine, smooth = given.fine[:CROPS], interpolated(given.coarse[:CROPS])
    return float(np.sqrt(np.log1p(np.sum((fine - smooth) ** 2) / np.sum(smooth**2)))), given.seed


def refine(model: tuple[float, int], coarse: harness.Array, count: int) -> harness.Array:
    spread, seed = model
    smooth = interpolated(coarse)
    drawn = spread * np.random.default_rng(seed).standard_normal((count, *smooth.shape), dtype=np.float32)
    return smooth * np.exp(drawn - spread**2 / 2)


if __name__ == "__main__":
    harness.main(train, refine, lambda model: {"spread": 1})
