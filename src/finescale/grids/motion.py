"""Motion between frames of a field, and where what it carries came from.

A field that is carried by a velocity v, in cells a frame, has at x at time s what was at p(r) at time r, where

    dp/dσ = v(σ, p),      p(s) = x,      displacement  D(s, r; x) = x − p(r)

v is constant from the middle of one frame to that of the next, where it is what `motion` finds between the two. The
trajectory is followed a frame at a time (semi-Lagrangian), v interpolated linearly; beyond the first and the last pair
of frames it is theirs.

`motion` is scikit-image's iterative Lucas–Kanade method with Gaussian windows (`optical_flow_ilk`: Le Besnerais &
Champagnat 2005), then smoothed with the amounts as weights, so that cells without rain take their neighbours' motion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

Array = NDArray[np.float32]
Places = NDArray[np.float64]
RADIUS = 10
"""Cells of the windows in which motion is taken to be one."""
SMOOTH = 4.0
"""Standard deviation, in cells, of the smoothing."""
LEAST = 12
"""Cells a side below which no motion is looked for."""
FASTEST = 0.25
"""Displacement at most, in sides of the field."""
LOG_FROM = 0.1
"""Amount, such as mm/h, that counts as much as none in the logarithm."""
FAINT = 1e-3
"""Amount, over the largest, at which a cell's motion counts half."""


def seen(values: Array, amounts: bool) -> Array:
    """What motion is looked for in, of the same shape: of amounts such as rain ln(1 + x/`LOG_FROM`), else x itself."""
    return np.log1p(np.maximum(values, 0) / np.float32(LOG_FROM)) if amounts else values


def motion(before: Array, after: Array) -> Array:
    """Displacement (2, h, w), along y and x, of a field from one frame to the next, in cells.

    Args:
        before: (h, w), NaN where unknown; best something that is not ruled by a few peaks (`seen`).
        after: the next frame.

    Returns:
        Zeros where nothing is known of either, nothing varies, or the field has fewer than `LEAST` cells a side.

    >>> import numpy as np
    >>> y, x = np.mgrid[:32, :32]
    >>> blob = lambda at: np.exp(-((y - at) ** 2 + (x - 16) ** 2) / 20)
    >>> float(motion(blob(14), blob(16))[0, 15, 16].round(1))
    2.0
    """
    known = np.isfinite(before) & np.isfinite(after)
    if min(before.shape) < LEAST or not known.any():
        return np.zeros((2, *before.shape), np.float32)
    first, second = (_filled(field.astype(np.float64), known) for field in (before, after))
    low, high = min(first.min(), second.min()), max(first.max(), second.max())
    if not high > low:
        return np.zeros((2, *before.shape), np.float32)
    first, second = ((field - low) / (high - low) for field in (first, second))
    # Takes a fifth of a second to import.
    from skimage.registration import optical_flow_ilk

    # Where the second frame, sampled at x + v, is the first.
    found = optical_flow_ilk(first, second, radius=RADIUS, gaussian=True, prefilter=False)
    weight = np.where(known, first + second + FAINT, 0.0)
    total = gaussian_filter(weight, SMOOTH, mode="nearest")
    smooth = [gaussian_filter(part * weight, SMOOTH, mode="nearest") / np.maximum(total, 1e-12) for part in found]
    most = FASTEST * np.array(before.shape)[:, None, None]
    return np.clip(np.stack(smooth), -most, most).astype(np.float32)


def mean_velocity(parts: Sequence[Array], shape: tuple[int, int]) -> Array:
    """The mean (2, h, w) of motions between frames; zeros where there are none."""
    return np.mean(parts, axis=0, dtype=np.float32) if len(parts) else np.zeros((2, *shape), np.float32)


def resampled(field: Array, cells: tuple[slice, slice], to: tuple[int, int], blocks: tuple[int, int]) -> Array:
    """Fields (…, h, w) on blocks of cells, linearly interpolated to the blocks of another size ``to`` in some cells."""
    axes = [
        ((np.arange(part.start, part.stop, side) + side / 2) / block - 0.5).clip(0, n - 1)
        for part, side, block, n in zip(cells, to, blocks, field.shape[-2:], strict=True)
    ]
    for axis, at in zip((-2, -1), axes, strict=True):
        low = np.floor(at).astype(int)
        share = (at - low).astype(np.float32)
        share = share[:, None] if axis == -2 else share
        high = np.minimum(low + 1, field.shape[axis] - 1)
        field = (1 - share) * np.take(field, low, axis) + share * np.take(field, high, axis)
    return field


def _filled(field: Places, known: NDArray[np.bool_]) -> Places:
    """A field with what is near in unknown cells, so that their border is no edge that stands still."""
    if known.all():
        return field
    low = field[known].min()
    total = gaussian_filter(known.astype(np.float64), SMOOTH, mode="nearest")
    near = gaussian_filter(np.where(known, field - low, 0.0), SMOOTH, mode="nearest") / np.maximum(total, 1e-12)
    return np.where(known, field, low + near)


def displacement(velocity: Callable[[int], Array], pairs: int, time: float, reference: float) -> Places:
    """D(time, reference; x), (2, h, w) in cells, on the cells x of the field.

    Args:
        velocity: ``velocity(i)`` is `motion` from frame i to i + 1, from i = 0 on.
        pairs: how many there are, at least 1.
        time: when the field is looked at, in frames: the middle of frame i is at i + ½.
        reference: when it was where it came from, before or after.
    """
    height, width = velocity(0).shape[1:]
    cells = np.mgrid[:height, :width].astype(np.float64)
    place, now, back = cells.copy(), time - 0.5, reference < time
    end = reference - 0.5
    while now != end:
        number = math.ceil(now) - 1 if back else math.floor(now)
        until = max(number, end) if back else min(number + 1, end)
        speed = velocity(min(max(number, 0), pairs - 1))
        # A frame at most, with the velocity where the middle of the step will be.
        step = until - now
        half = place + step / 2 * _at(speed, place)
        place, now = place + step * _at(speed, half), until
    return cells - place


def origins(shape: tuple[int, int], shift: Array | Places, cells: tuple[int, ...]) -> Places:
    """Where the cells of a field (H, W) came from, (2, H, W), by a displacement (2, h, w) of blocks of cells."""
    place = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    sides = np.array(cells, np.float64)[:, None, None]
    return place - sides * _at(shift, (place + 0.5) / sides - 0.5)


def sampled(field: Array, places: Places) -> Array:
    """A field (H, W) at places (2, …), linearly interpolated; NaN between unknown cells and others."""
    found: Array = map_coordinates(field, places, np.float32, order=1, mode="nearest")
    return found


def _at(field: Array | Places, place: Places) -> Places:
    """A vector field (2, h, w) at places (2, …), linearly interpolated."""
    return np.stack([map_coordinates(part, place, np.float64, order=1, mode="nearest") for part in field])
