"""How the noise of a prediction is carried along the motion of its coarse field.

Motion is found between whole coarse frames, once, whatever windows ask for it, so that they agree.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from finescale.diffusion import Carried
from finescale.grids import motion
from finescale.grids.windows import Window

Array = NDArray[np.float32]
KEPT, FEWEST = 2**27, 8
"""Bytes of displacements that are kept, and frames at least."""


@dataclass(frozen=True, eq=False)
class Motion:
    """The motion of one coarse field.

    Attributes:
        frame: number of a coarse frame -> the whole of it (h, w), of rain the logarithm; NaN where unknown.
        shape: (h, w).
        ends: the first frames of sequences without gaps in time, and the frame after the last.
        lifetime: of what is carried, in coarse frames; None where nothing is.
        each: latent frames of a coarse one.
    """

    frame: Callable[[int], Array]
    shape: tuple[int, int]
    ends: Sequence[int]
    lifetime: float | None
    each: int

    def velocity(self, window: Window) -> Array:
        """Cells (2, t, h, w) that frames of a window move by in their length: the mean from and to their neighbours."""
        t, y, x = window.read
        frames = [self._mean(frame)[:, y, x] for frame in range(t.start, t.stop)]
        return np.stack(frames, 1)

    def _mean(self, frame: int) -> Array:
        number = bisect_right(self.ends, frame)
        pairs = range(max(self.ends[number - 1], frame - 1), min(self.ends[number] - 1, frame + 1))
        return motion.mean_velocity([self._velocity(pair) for pair in pairs], self.shape)

    def carried(self, windows: Sequence[Window]) -> Carried | None:
        """Where the noise of some windows came from; None where it is not carried."""
        if self.lifetime is None:
            return None
        parts = [self._of(window) for window in windows]
        return Carried(*(torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True)))

    def _of(self, window: Window) -> tuple[Array, Array, NDArray[np.int64], NDArray[np.int64]]:
        t, y, x = window.read
        times = [(frame, part) for frame in range(t.start, t.stop) for part in range(self.each)]
        start = max(end for end in self.ends if end <= t.start)
        shares, epochs = zip(*(self._epochs(self._time(*time) - start) for time in times), strict=True)
        found = np.stack([self._displaced(*time)[..., y.start : y.stop + 2, x.start : x.stop + 2] for time in times])
        return found, np.array(shares, np.float32), np.array(epochs), np.array(start)

    def _time(self, frame: int, part: int) -> float:
        """The middle of a latent frame, in coarse frames."""
        return frame + (part + 0.5) / self.each

    def _epochs(self, time: float) -> tuple[tuple[float, float], tuple[int, int]]:
        """Weights and numbers of the two fields that the noise is made of, at a time of its sequence."""
        assert self.lifetime is not None
        number = math.floor(time / self.lifetime)
        angle = math.pi / 2 * (time / self.lifetime - number)
        return (math.cos(angle), math.sin(angle)), (number, number + 1)

    @cached_property
    def _displaced(self) -> Callable[[int, int], Array]:
        """Displacements (2, 2, h + 2, w + 2) at a latent frame from the times of its two fields."""

        assert self.lifetime is not None
        (height, width), lifetime = self.shape, self.lifetime

        @lru_cache(maxsize=max(FEWEST, KEPT // (16 * height * width)))
        def displaced(frame: int, part: int) -> Array:
            number = max(n for n, end in enumerate(self.ends) if end <= frame)
            start, pairs = self.ends[number], self.ends[number + 1] - self.ends[number] - 1
            time = self._time(frame, part) - start
            if not pairs:
                return np.zeros((2, 2, height + 2, width + 2), np.float32)
            found = [
                motion.displacement(lambda pair: self._velocity(start + pair), pairs, time, epoch * lifetime)
                for epoch in self._epochs(time)[1]
            ]
            return np.pad(np.stack(found), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge").astype(np.float32)

        return displaced

    @cached_property
    def _velocity(self) -> Callable[[int], Array]:
        """Motion from a frame to the next, in cells."""
        height, width = self.shape
        kept = max(FEWEST, KEPT // (8 * height * width))
        return lru_cache(maxsize=kept)(lambda frame: motion.motion(self.frame(frame), self.frame(frame + 1)))
