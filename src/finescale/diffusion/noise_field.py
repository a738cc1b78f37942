"""White noise as a function of position.

The latent plane is cut into blocks of BLOCK × BLOCK cells at absolute positions. The normal numbers of the block at
latent (t, i, j) come from a counter-based generator (Philox 4×64, Salmon et al. 2011) with

    key = (seed, member),      counter = (0, t + 2³² · draw, i, j)

so they depend on nothing else: not on the window they are asked for, the batch, the order, or the number of workers.
Whole numbers u, v of 32 bits become normal ones by Box & Muller's transform,

    √(−2 ln((u + ½) 2⁻³²)) (cos, sin)(2π v 2⁻³²)

in single precision, a third of the time of numpy's ziggurat; the largest is 6.8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 32
Place = tuple[int, tuple[int, int, int]]
"""A member and the absolute latent index (t, y, x) of its first cell."""


def noise_field(
    channels: int,
    shape: tuple[int, int, int],
    *,
    seed: int,
    member: int,
    origin: tuple[int, int, int] = (0, 0, 0),
    draw: int = 0,
) -> Tensor:
    """White noise (channels, T', H', W') of latent cells from absolute index ``origin`` on.

    Args:
        channels: K; noise for another number of channels is another field.
        shape: (T', H', W').
        seed: the run's seed, >= 0.
        member: the member's index, >= 0.
        origin: absolute latent index (t, y, x) of the first cell, each >= 0.
        draw: number of the draw for samplers that need fresh noise at every step.
    """
    (t0, y0, x0), (frames, height, width) = origin, shape
    rows, columns = range(y0 // BLOCK, -(-(y0 + height) // BLOCK)), range(x0 // BLOCK, -(-(x0 + width) // BLOCK))
    canvas = np.empty((channels, frames, len(rows) * BLOCK, len(columns) * BLOCK), dtype=np.float32)
    for t in range(frames):
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                bits = np.random.Philox(key=[seed, member], counter=[0, t0 + t + (draw << 32), row, column])
                block = normal(bits, channels * BLOCK**2).reshape(channels, BLOCK, BLOCK)
                canvas[:, t, i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK] = block
    y, x = y0 - rows.start * BLOCK, x0 - columns.start * BLOCK
    return torch.from_numpy(canvas[:, :, y : y + height, x : x + width].copy())


def normal(bits: np.random.Philox, count: int) -> NDArray[np.float32]:
    """An even number of standard normal numbers."""
    radius, angle = bits.random_raw(count // 2).view(np.uint32).astype(np.float32).reshape(2, -1)
    radius += np.float32(0.5)
    radius *= np.float32(2.0**-32)
    np.log(radius, out=radius)
    radius *= np.float32(-2)
    np.sqrt(radius, out=radius)
    angle *= np.float32(2 * math.pi * 2.0**-32)
    out = np.empty((2, count // 2), dtype=np.float32)
    np.cos(angle, out=out[0])
    np.sin(angle, out=out[1])
    out *= radius
    return out.reshape(-1)


def noise_source(
    channels: int,
    shape: tuple[int, int, int],
    places: Sequence[Place],
    seed: int,
    device: torch.device,
) -> Callable[[int], Tensor]:
    """white(draw) -> (N, K, T', H', W'), noise number ``draw`` of (member, origin) pairs; number 0 starts a sampling.

    Arguments as in `noise_field`.
    """

    def white(draw: int) -> Tensor:
        fields = [
            noise_field(channels, shape, seed=seed, member=member, origin=origin, draw=draw)
            for member, origin in places
        ]
        return torch.stack(fields).to(device)

    return white
