"""Simple ways to refine a coarse field, which any model must beat.

All take coarse (t, h, w) and a `Factor` and give members (M, T, H, W), NaN where the coarse cell is NaN.

    nearest    each coarse value repeated over its block: conserves, has no detail
    bilinear   linear between cell centres, in time too
    bicubic    cubic spline between cell centres in space, linear in time; clipped at 0 where the coarse field has no
               negatives
    rainfarm   RainFARM (Rebora et al. 2006, D'Onofrio et al. 2014; by pysteps): with g a Gaussian random field whose
               power spectrum k^-α continues the coarse one and A the block mean,  x = c · exp(g/σ_g) / A exp(g/σ_g).
               It conserves exactly without a threshold; setting values below one to 0 makes it drier than c
    climatology
               what the truth was at other times: member m at time t is the truth at t + s_m, going round from the last
               time to the first, with shifts s_m drawn at random from those at least a quarter of the series away, so
               that the truth of the time itself, or one close to it, is never among the members. It looks at truth
               that no forecast has, and not at the coarse field: a measure of how much there is to know, right in
               texture and extremes, wrong in place. A short file has few weathers: then it is too good
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from finescale.errors import InputError
from finescale.errors import nearest as nearest_name
from finescale.grid import Factor
from finescale.verify.conservation import block_mean

Array = NDArray[np.float64]


def nearest(coarse: ArrayLike, factor: Factor) -> Array:
    """Replication, (1, T, H, W)."""
    return _replicate(_frames(coarse), factor)[None]


def bilinear(coarse: ArrayLike, factor: Factor) -> Array:
    """Linear between cell centres in space and time, (1, T, H, W); the outermost half cells are constant."""
    return _interpolate(coarse, factor, order=1)


def bicubic(coarse: ArrayLike, factor: Factor) -> Array:
    """Cubic spline in space, linear in time, (1, T, H, W)."""
    return _interpolate(coarse, factor, order=3)


def rainfarm(
    coarse: ArrayLike,
    factor: Factor,
    *,
    members: int = 8,
    seed: int = 0,
    threshold: float | None = None,
    first: int = 0,
) -> Array:
    """RainFARM without smoothing (``kernel_type=None``), frame by frame, (members, T, H, W).

    pysteps refines space only: the frames of a refined time repeat their coarse one. Blocks that are not square
    (factors fy, fx) are refined by the least common multiple of both, then averaged, which conserves as well. Missing
    coarse cells count as dry while the spectrum is estimated; dry frames stay zero.

    Args:
        coarse: rain (t, h, w), not negative.
        factor: the refinement.
        members: M.
        seed: noise depends on (seed, member, frame) alone; numpy's global random state is left as it was.
        threshold: values below become 0 (pysteps' option). The block means then no longer equal the coarse field.
        first: index of the first frame, so that parts of a series get the noise of the whole.

    Raises:
        InputError: without pysteps, or for negative values.
    """
    downscale = _pysteps()
    frames = _frames(coarse)
    if np.nanmin(frames, initial=0.0) < 0:
        raise InputError(
            "RainFARM needs a field without negative values, such as rain: leave the baseline rainfarm out"
        )
    both = math.lcm(factor.y, factor.x)
    shrink = Factor(1, y=both // factor.y, x=both // factor.x)
    filled = np.nan_to_num(frames)
    out = np.zeros((members, frames.shape[0], frames.shape[1] * factor.y, frames.shape[2] * factor.x))
    state = np.random.get_state()
    try:
        for t, frame in enumerate(filled):
            if frame.max() <= 0:
                continue
            # A frame without structure, or with too few waves for a fit, has no slope of its own: take a typical one.
            slope = 2.0 if np.ptp(frame) == 0 or min(frame.shape) < 4 else None
            for m in range(members):
                np.random.seed(np.random.SeedSequence([seed, m, first + t]).generate_state(1))
                fine = downscale(frame, both, alpha=slope, threshold=threshold, kernel_type=None)
                out[m, t] = block_mean(fine[None], shrink)[0]
    finally:
        np.random.set_state(state)
    return _mask(np.repeat(out, factor.time, axis=1), frames, factor)


BASELINES: dict[str, Callable[..., Array]] = {
    "nearest": nearest,
    "bilinear": bilinear,
    "bicubic": bicubic,
    "rainfarm": rainfarm,
}
"""Name -> function(coarse, factor) -> (M, T, H, W); rainfarm also takes members, seed, threshold and first."""
NAMES = (*BASELINES, "climatology")
"""All baselines; climatology takes the truth's other times instead of a coarse field."""


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


def baseline(name: str, coarse: ArrayLike, factor: Factor, *, members: int = 8, seed: int = 0, first: int = 0) -> Array:
    """The baseline called ``name``; members, seed and first matter to random ones only.

    Raises:
        InputError: for an unknown name.
    """
    if name not in BASELINES:
        raise InputError(f"there is no baseline {name!r}{nearest_name(name, NAMES)}")
    if name == "rainfarm":
        return rainfarm(coarse, factor, members=members, seed=seed, first=first)
    return BASELINES[name](coarse, factor)


def _frames(coarse: ArrayLike) -> Array:
    frames = np.asarray(coarse, dtype=np.float64)
    if frames.ndim != 3:
        raise InputError(f"a coarse field must be (t, h, w), but it has shape {frames.shape}")
    return frames


def _replicate(frames: Array, factor: Factor) -> Array:
    for axis, n in enumerate(factor):
        frames = np.repeat(frames, n, axis=axis)
    return frames


def _mask(fine: Array, frames: Array, factor: Factor) -> Array:
    missing = np.isnan(frames)
    return np.where(_replicate(missing, factor), np.nan, fine) if missing.any() else fine


def _interpolate(coarse: ArrayLike, factor: Factor, order: int) -> Array:
    frames = _frames(coarse)
    space = [_zoom(frame, factor, order) for frame in _fill(frames)]
    fine = np.stack(space)
    if factor.time > 1:
        # Frame j of T is centred at (j + ½)/ft − ½ coarse frames; before the first and after the last centre hold
        # still.
        place = np.clip((np.arange(len(fine) * factor.time) + 0.5) / factor.time - 0.5, 0, len(fine) - 1)
        low = np.minimum(place.astype(np.int64), max(len(fine) - 2, 0))
        part = (place - low)[:, None, None]
        fine = fine[low] * (1 - part) + fine[np.minimum(low + 1, len(fine) - 1)] * part
    if np.nanmin(frames, initial=np.inf) >= 0:
        fine = np.maximum(fine, 0.0)
    return _mask(fine, frames, factor)[None]


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


def _pysteps() -> Callable[..., Array]:
    """pysteps' RainFARM, imported without its greeting on stdout."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from pysteps.downscaling.rainfarm import downscale
    except ImportError:
        raise InputError("the baseline rainfarm needs pysteps: pip install finescale[baselines]") from None
    return downscale
