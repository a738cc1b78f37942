"""Arrays, or aligned files in parts, to scores: `score_arrays` for arrays, `evaluate` for `Aligned` data."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from finescale.data.units import is_rain, wet_day
from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.grids.grid import cell_bands, cell_size
from finescale.scores.cells import Array
from finescale.scores.settings import SCALES, THRESHOLDS, Settings
from finescale.scores.spectra import ring_wavenumbers
from finescale.scores.sums import Sums
from finescale.verify.align import Aligned
from finescale.verify.baselines import INTERPOLATIONS, baseline, climatology, noise

PART_BYTES = 256 * 2**20
"""Most memory that one system's times may take, in single precision, while they are read."""
MEMBERS = 8
"""Most members of a random baseline: fair scores do not depend on their number, and more take long."""


def score_arrays(
    members: ArrayLike,
    truth: ArrayLike,
    coarse: ArrayLike | None = None,
    factor: Factor | None = None,
    area: ArrayLike | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    dry: float | None = 0.05,
    seed: int = 0,
    *,
    cell: tuple[float, float] = (1.0, 1.0),
    scales: Sequence[int] = SCALES,
    sequence: int | None = None,
    full: bool = False,
) -> dict[str, Any]:
    """Scores of members (M, T, H, W) against truth (T, H, W).

    Times are frames of one sequence, or of several one after another (``sequence``); each may be a case of its own,
    such as a crop, with ``sequence=1``. ``crps_by_time`` has the fair CRPS of each, so that two systems can be compared
    in pairs (`finescale.verify.paired_bootstrap`).

    Args:
        members: one system's ensemble; NaN cells are ignored.
        truth: what was seen.
        coarse: coarse field (t, h, w), for the conservation residual.
        factor: from coarse to fine.
        area: cell areas (H, W).
        thresholds: events ≥ threshold.
        dry: dry threshold in mm/h; None for fields other than rain.
        seed: of random ties.
        cell: cell size (dy, dx) for the wavenumbers.
        scales: FSS windows in cells.
        sequence: frames in each sequence; by default all times are one.
        full: also variogram score and SAL, which take longer.

    Returns:
        Scores by name, as in scores.json, and wavenumber. NaN where a score is undefined (spread_skill of one member).

    Raises:
        InputError: for shapes that do not fit, times that are no whole sequences, or no valid cell.

    Example:
        >>> import numpy as np
        >>> truth = np.random.default_rng(0).gamma(0.5, 2.0, (6, 16, 16))
        >>> members = np.random.default_rng(1).gamma(0.5, 2.0, (4, 6, 16, 16))
        >>> from finescale.verify import score_arrays
        >>> scores = score_arrays(members, truth)
        >>> bool(scores["crps"] < scores["mae"])  # the ensemble says more than its mean
        True
    """
    times = np.shape(truth)[0]
    length = sequence or max(times, 1)
    if times % length:
        raise InputError(f"{times} times are no whole number of sequences of {length} frames")
    follows = np.arange(times) % length != 0
    weights = None if area is None else np.asarray(area, dtype=np.float64)
    span = (0.0, 0.0) if dry is not None else ends(np.asarray(truth))
    sums = Sums(Settings(tuple(thresholds), tuple(scales), dry, seed, weights, cell, factor, full, data_range=span))
    sums.add(members, truth, coarse, follows)
    return sums.scores() | {"wavenumber": wavenumbers(np.shape(truth), cell)}


def wavenumbers(shape: Sequence[int], cell: tuple[float, float]) -> list[float]:
    """The rings' wavenumbers of fields (…, H, W)."""
    return ring_wavenumbers(tuple(shape), cell).tolist()


def settings_for(aligned: Aligned, thresholds: Sequence[float] | None = None, seed: int = 0) -> Settings:
    """Settings that suit the data: rain or not, cell areas and sizes."""
    rain = is_rain(aligned.truth) or is_rain(aligned.systems["ensemble"])
    chosen = tuple(thresholds) if thresholds is not None else (THRESHOLDS if rain else ())
    grid, dry = aligned.grid, 0.05 if rain else None
    span = (0.0, 0.0) if rain else ends(aligned.truth.data)
    sizes = cell_size(grid), aligned.factor, True, cell_bands(grid)
    wet = wet_day(str(aligned.truth.attrs.get("units", ""))) if rain and aligned.daily else None
    return Settings(chosen, SCALES, dry, seed, grid.cell_area, *sizes, data_range=span, wet_day=wet)


def ends(truth: Any) -> tuple[float, float]:
    """The least and the largest finite value of an array, in chunks where it is lazy; (0, 0) where there is none."""
    known = np.isfinite(truth)
    found = np.stack([f(np.where(known, truth, end)) for f, end in ((np.min, np.inf), (np.max, -np.inf))])
    low, high = np.asarray(found).tolist()
    return (low, high) if high >= low else (0.0, 0.0)


def evaluate(
    aligned: Aligned,
    settings: Settings,
    baselines: Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
    workers: int | None = None,
) -> dict[str, Sums]:
    """Add up all systems, a few times at once: the ensemble, other ensembles, then baselines.

    A cell that is missing in the truth or in a member of any ensemble is scored in no system, so that all are compared
    on the same cells; a note says how many there are.

    Args:
        aligned: aligned data.
        settings: what to score.
        baselines: names of baselines; all but climatology need the factor, and the block means of the truth
            stand in for a missing coarse field.
        progress: called with the share done.
        workers: threads, each with a time of its own; by default as many as there are cores, up to 4.
    """
    names = (*aligned.systems, *baselines)
    sums = {name: Sums(settings) for name in names}
    count, step = aligned.truth.sizes[aligned.time], aligned.factor.time if aligned.factor else 1
    threads = workers or threads_of()
    part = part_of(sum(da[:, 0].size for da in aligned.systems.values()), step, threads)
    follows, missing = aligned.follows, np.zeros(2, dtype=np.int64)
    if aligned.truth.size * 4 <= PART_BYTES:
        aligned.truth.load()  # once, instead of once for each member of climatology
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, count, part):
            cut = slice(start, min(start + part, count))
            given = {name: da[:, cut].values for name, da in aligned.systems.items()}
            truth, lost = common_cells(aligned.truth[cut].values, list(given.values()))
            missing += lost
            made: list[dict[Any, Any]] = [{} for _ in truth]
            for k, name in enumerate(names):
                members = given.pop(name) if name in given else refine(aligned, name, cut, settings.seed, pool)
                coarse = aligned.coarse_values(cut, name)
                sums[name].add(members, truth, coarse, follows[cut], pool if threads > 1 else None, made)
                if progress is not None:
                    progress((start + (cut.stop - start) * (k + 1) / len(names)) / count)
    if missing.any():
        where = (f"{missing[0]:,} are missing in the truth", f"{missing[1]:,} more in an ensemble")
        parts = " and ".join(text for text, count in zip(where, missing, strict=True) if count)
        whole = f"{missing.sum():,} of {aligned.truth.size:,} values (cells by times)"
        aligned.notes.append(f"{whole} are scored in no system: {parts}.")
    return sums


def threads_of() -> int:
    """As many threads as there are cores, up to 4."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, 4)


def part_of(cells: int, step: int, threads: int) -> int:
    """Times to be read at once: whole coarse intervals of ``step``, that keep all threads busy where memory allows.

    Args:
        cells: values of all systems at one time.
        step: fine times in a coarse interval.
        threads: that take a time each.
    """
    part = max(step, PART_BYTES // (4 * cells) // step * step)
    return int(part // np.lcm(step, threads) * np.lcm(step, threads) or part)


def common_cells(truth: Array, systems: Sequence[Array]) -> tuple[Array, Array]:
    """The truth (…) less the cells that a member (M, …) of a system lacks; how many it lacks, and how many more."""
    seen = np.isfinite(truth)
    valid = seen.copy()
    for members in systems:
        for member in members:
            valid &= np.isfinite(member)
    lost = np.array([np.count_nonzero(~seen), np.count_nonzero(seen & ~valid)])
    return (np.where(valid, truth, truth.dtype.type(np.nan)) if lost[1] else truth), lost


def refine(aligned: Aligned, name: str, cut: slice, seed: int = 0, pool: ThreadPoolExecutor | None = None) -> Array:
    """A baseline's members (M, T, H, W) for the fine times ``cut`` (whole coarse intervals).

    In single precision where ensemble and truth are, which halves the work. Random baselines have as many members as
    the ensemble, but at most `MEMBERS`, and that many where it has one.
    """
    ensemble, ft = next(iter(aligned.systems.values())), aligned.factor.time if aligned.factor else 1
    members = min(ensemble.shape[0], MEMBERS) if ensemble.shape[0] > 1 else MEMBERS
    dtype = np.float32 if ensemble.dtype == aligned.truth.dtype == np.float32 else np.float64
    if name == "climatology":
        count = aligned.truth.shape[0]
        return climatology(lambda at: aligned.truth[at].values, count, cut, members, seed=seed, step=ft).astype(
            dtype, copy=False
        )
    if aligned.factor is None:
        raise InputError("baselines need the coarse field, or the factor: give --coarse")
    # Interpolation in time sees one interval more on both sides, the neighbours of the part.
    kind = "bicubic" if name == "noise" else name
    more = ft if ft > 1 and kind in INTERPOLATIONS else 0
    low, high = max(cut.start - more, 0), min(cut.stop + more, aligned.truth.sizes[aligned.time])
    coarse = aligned.coarse_values(slice(low, high))
    assert coarse is not None
    random: dict[str, Any] = {"members": members, "seed": seed, "first": low // ft, "area": aligned.grid.cell_area}
    fine = baseline(kind, coarse, aligned.factor, **random, dtype=dtype, pool=pool)[:, cut.start - low : cut.stop - low]
    if name != "noise":
        return fine
    truth = aligned.truth[cut].values
    return noise(fine[0], truth, members, rain=is_rain(aligned.truth), seed=seed, first=cut.start)
