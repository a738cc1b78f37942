"""RainFARM of pysteps, as its documentation calls it, without a threshold, with which it would not conserve."""

from __future__ import annotations

import harness
import numpy as np
from pysteps.downscaling import rainfarm


def train(given: harness.Training) -> int:
    """Nothing is learnt."""
    return given.seed


def refine(seed: int, coarse: harness.Array, count: int) -> harness.Array:
    np.random.seed(seed)
    fields = coarse.astype(float)
    return np.array([[rainfarm.downscale(one, ds_factor=8, threshold=None) for one in fields] for _ in range(count)])


if __name__ == "__main__":
    harness.main(train, refine)
