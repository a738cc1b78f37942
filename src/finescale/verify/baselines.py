"""Simple ways to refine a coarse field, which any model must beat.

All take coarse (t, h, w) and a `Factor` and give members (M, T, H, W), NaN where the coarse cell is NaN.

    nearest    each coarse value repeated over its block: conserves, has no detail
    bilinear   linear between cell centres, in time too
    bicubic    cubic spline between cell centres in space, linear in time; clipped at 0 where the coarse field has no
               negatives
    noise      bicubic with white noise of the right spread: Gaussian, x = b + s ε, and for rain log-normal,
               x = b · exp(s ε − s²/2), with the one number s such that the variance of members is the mean
               square of truth − b in each frame. That number is the truth's, which no forecast has: what remains
               to be won against it is detail, not the mere fact of being an ensemble
    rainfarm   RainFARM (Rebora et al. 2006): with g a Gaussian random field whose power spectrum k^-α continues the
               coarse one (`finescale.verify.rainfarm`) and A the block mean,  x = c · exp(g/σ_g) / A exp(g/σ_g).
               It conserves exactly without a threshold; setting values below one to 0 makes it drier than c
    climatology
               what the truth was at other times: member m at time t is the truth at t + s_m, going round from the last
               time to the first, with shifts s_m drawn at random from those at least a quarter of the series away, so
               that the truth of the time itself, or one close to it, is never among the members. It looks at truth
               that no forecast has, and not at the coarse field: a measure of how much there is to know, right in
               texture and extremes, wrong in place. A short file has few weathers: then it is too good
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy import ndimage

from finescale.errors import InputError
from finescale.errors import nearest as nearest_name
from finescale.grids.blocks import replicate
from finescale.grids.factor import Factor
from finescale.scores.cells import Array
from finescale.verify.rainfarm import coarse_frames, mask_missing, rainfarm


def nearest(coarse: ArrayLike, factor: Factor) -> Array:
    """Replication, (1, T, H, W)."""
    return replicate(coarse_frames(coarse), factor)[None]


def bilinear(coarse: ArrayLike, factor: Factor, pool: ThreadPoolExecutor | None = None) -> Array:
    """Linear between cell centres in space and time, (1, T, H, W); the outermost half cells are constant."""
    return _interpolate(coarse, factor, 1, pool)


def bicubic(coarse: ArrayLike, factor: Factor, pool: ThreadPoolExecutor | None = None) -> Array:
    """Cubic spline in space, linear in time, (1, T, H, W)."""
    return _interpolate(coarse, factor, 3, pool)


BASELINES: dict[str, Callable[..., Array]] = {
    "nearest": nearest,
    "bilinear": bilinear,
    "bicubic": bicubic,
    "rainfarm": rainfarm,
}
"""Name -> function(coarse, factor) -> (M, T, H, W); rainfarm also takes members, seed, threshold, first and area."""
INTERPOLATIONS = ("bilinear", "bicubic")
NAMES = (*BASELINES, "noise", "climatology")
"""All baselines; noise takes the truth's spread, climatology its other times instead of a coarse field."""


def climatology(
    truth: Callable[[slice], Array], times: int, cut: slice, members: int, *, seed: int = 0, step: int = 1
) -> Array:
    """The truth at other times, (M, T, H, W) for the times ``cut``.

    Args:
        truth: gives the fine truth (T, H, W) of a slice of times.
        times: T of the whole series.
        cut: the times wanted.
        members: most members; fewer where there are fewer shifts.
        seed: of the shifts.
        step: fine frames in a coarse interval; shifts are whole intervals.

    Raises:
        InputError: if the series is too short for two members.
    """
    intervals = times // step
    gap = max(-(-intervals // 4), 1)
    shifts = np.arange(gap, intervals - gap + 1)
    if shifts.size < 2:
        raise InputError(f"the baseline climatology needs more than {intervals} coarse intervals: leave it out")
    drawn = np.random.default_rng([seed, times]).permutation(shifts)[:members] * step
    out = []
    for shift in np.sort(drawn):
        start, stop = (cut.start + shift) % times, (cut.stop - 1 + shift) % times + 1
        pieces = [slice(start, stop)] if start < stop else [slice(start, times), slice(0, stop)]
        out.append(np.concatenate([truth(piece) for piece in pieces]))
    return np.stack(out)


def noise(fine: ArrayLike, truth: ArrayLike, members: int, *, rain: bool, seed: int = 0, first: int = 0) -> Array:
    """An interpolated field with white noise of the right spread, (M, T, H, W).

    Args:
        fine: b (T, H, W).
        truth: (T, H, W), NaN where unknown.
        members: M.
        rain: take log-normal noise, which keeps the sign and the mean of b.
        seed: noise depends on (seed, member, frame) alone.
        first: index of the first frame, so that parts of a series get the noise of the whole.
    """
    b, y = np.asarray(fine), np.asarray(truth)
    out = np.empty((members, *b.shape), dtype=b.dtype)
    for t, (field, wanted) in enumerate(zip(b, y, strict=True)):
        known = np.isfinite(wanted) & np.isfinite(field)
        square = np.sum((wanted[known] - field[known]) ** 2, dtype=np.float64)
        size = np.sum(field[known] ** 2, dtype=np.float64) if rain else float(known.sum())
        ratio = square / size if size > 0 else 0.0
        spread = np.sqrt(np.log1p(ratio) if rain else ratio)
        for m in range(members):
            drawn = spread * np.random.default_rng([seed, m, first + t]).standard_normal(field.shape, dtype=np.float32)
            out[m, t] = field * np.exp(drawn - spread**2 / 2) if rain else field + drawn
    return out


def baseline(
    name: str,
    coarse: ArrayLike,
    factor: Factor,
    *,
    members: int = 8,
    seed: int = 0,
    first: int = 0,
    area: ArrayLike | None = None,
    dtype: DTypeLike = np.float64,
    pool: ThreadPoolExecutor | None = None,
) -> Array:
    """The baseline called ``name`` in precision ``dtype``, by the threads of ``pool``.

    ``members``, ``seed``, ``first`` and ``area`` matter to RainFARM only.

    Raises:
        InputError: for an unknown name.
    """
    if name not in BASELINES:
        raise InputError(f"there is no baseline {name!r}{nearest_name(name, NAMES)}")
    if name == "rainfarm":
        return rainfarm(coarse, factor, members=members, seed=seed, first=first, area=area, dtype=dtype, pool=pool)
    options = {"pool": pool} if name in INTERPOLATIONS else {}
    return BASELINES[name](coarse, factor, **options).astype(dtype, copy=False)


def _interpolate(coarse: ArrayLike, factor: Factor, order: int, pool: ThreadPoolExecutor | None) -> Array:
    frames = coarse_frames(coarse)
    fine = np.stack(list((map if pool is None else pool.map)(lambda one: _zoom(one, factor, order), _fill(frames))))
    if factor.time > 1:
        # Frame j of T is centred at (j + ½)/ft − ½ coarse frames; before the first and after the last centre hold
        # still.
        place = np.clip((np.arange(len(fine) * factor.time) + 0.5) / factor.time - 0.5, 0, len(fine) - 1)
        low = np.minimum(place.astype(np.int64), max(len(fine) - 2, 0))
        part = (place - low)[:, None, None]
        fine = fine[low] * (1 - part) + fine[np.minimum(low + 1, len(fine) - 1)] * part
    if np.nanmin(frames, initial=np.inf) >= 0:
        fine = np.maximum(fine, 0.0)
    return mask_missing(fine, frames, factor)[None]


def _zoom(frame: Array, factor: Factor, order: int) -> Array:
    """Interpolation at fine cell centres: fine centre i lies at (i + ½)/f − ½ coarse cells."""
    return ndimage.zoom(frame, (factor.y, factor.x), order=order, mode="nearest", grid_mode=True)


def _fill(frames: Array) -> Array:
    """Frames with missing cells given the value of the nearest valid one (0 where a frame has none)."""
    if np.isfinite(frames).all():
        return frames
    out = frames.copy()
    for frame in out:
        missing = np.isnan(frame)
        if missing.all():
            frame[:] = 0.0
        elif missing.any():
            place = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
            frame[:] = frame[tuple(place)]
    return out
