"""Coastlines of maps, from a small file that comes with the package: nothing is downloaded.

The file is Natural Earth's land at 1:10 million (public domain), simplified to about 2 km by ``docs/coast.py``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).parent / "coast.npz"
UNIT = 0.01
"""Degrees that a step of 1 in the file is."""
PIECE = 64
"""Most points of a line: longer ones are cut, so that a map draws those near it only."""
FINEST = 1 / 800
"""Steps below this share of a map's width are not drawn, nor lines that have none longer."""

Line = NDArray[np.float64]


@lru_cache(maxsize=1)
def coastlines() -> tuple[Line, ...]:
    """Lines (N, 2) of longitude from -180 to 180 and latitude, in degrees."""
    with np.load(FILE, allow_pickle=False) as stored:
        # Steps from line to line may wrap around in 16 bits, and so do their sums.
        points = np.cumsum(stored["steps"], axis=1, dtype=np.int16).T * UNIT
        ends = np.cumsum(stored["lengths"], dtype=np.int64)
    found = []
    for line in np.split(points, ends[:-1]):
        found += [line[start : start + PIECE + 1] for start in range(0, len(line) - 1, PIECE)]
    return tuple(found)


@lru_cache(maxsize=4)
def lines(degrees: tuple[float, float, float, float]) -> list[Line]:
    """The coastlines (N, 2) near an area (left, right, bottom, top) in degrees, in its range of longitudes."""
    left, right, bottom, top = degrees
    step = (right - left) * FINEST
    found = []
    for line in coastlines():
        low, high = line.min(axis=0), line.max(axis=0)
        if high[1] < bottom or low[1] > top:
            continue
        for turn in (-360.0, 0.0, 360.0):
            if high[0] + turn >= left and low[0] + turn <= right:
                thin = _thinned(line, step)
                if len(thin) > 1:
                    found.append(thin + (turn, 0.0))
    return found


def band(south: float, north: float, step: float) -> list[Line]:
    """The coastlines (N, 2) between two latitudes, of longitudes from -180 to 180, with points ``step`` degrees
    apart."""
    near = (line for line in coastlines() if line[:, 1].max() >= south and line[:, 1].min() <= north)
    return [thin for line in near if len(thin := _thinned(line, step)) > 1]


def _thinned(line: Line, step: float) -> Line:
    """The line without points that lie on one place of a raster of ``step`` degrees with the point before; both ends
    stay, so that pieces of a line meet. Empty where nothing else is left."""
    places = np.round(line / step)
    kept = np.concatenate([[True], (np.diff(places, axis=0) != 0).any(axis=1)])
    if kept.sum() < 2:
        return line[:0]
    kept[-1] = True
    return line[kept]
