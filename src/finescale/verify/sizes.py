"""Sizes of cells, for wavenumbers and distances."""

from __future__ import annotations

import numpy as np

from finescale.grid import Grid


def cell_size(grid: Grid) -> tuple[float, float]:
    """Mean (dy, dx) in metres on latitude and longitude (at the mean latitude), else in units of the coordinates."""
    dy, dx = (float(np.abs(np.diff(e)).mean()) for e in (grid.y, grid.x))
    if not grid.geographic:
        return dy, dx
    metres = np.pi / 180 * 6_371_000.0
    return dy * metres, dx * metres * float(np.cos(np.deg2rad((grid.y[0] + grid.y[-1]) / 2)))


def cell_bands(grid: Grid) -> tuple[tuple[int, int, tuple[float, float]], ...]:
    """(first row, last row + 1, (dy, dx)) of bands of rows whose cells are within a tenth of each other in size.

    Empty where one band holds all. A band has at least 32 rows, or there would be few wavenumbers left in it.
    """
    dy, dx = np.abs(np.diff(grid.y)), np.full(grid.y.size - 1, np.abs(np.diff(grid.x)).mean())
    if grid.geographic:
        metres = np.pi / 180 * 6_371_000.0
        dy, dx = dy * metres, dx * metres * np.cos(np.deg2rad((grid.y[1:] + grid.y[:-1]) / 2))
    cuts = [0]
    for row in range(dy.size):
        part = slice(cuts[-1], row + 1)
        if (
            row - cuts[-1] >= 32
            and dy.size - row >= 32
            and max(np.ptp(np.log(dy[part])), np.ptp(np.log(dx[part]))) > 0.1
        ):
            cuts.append(row)
    if len(cuts) == 1:
        return ()
    pairs = zip(cuts, [*cuts[1:], dy.size], strict=True)
    return tuple((a, b, (float(dy[a:b].mean()), float(dx[a:b].mean()))) for a, b in pairs)
