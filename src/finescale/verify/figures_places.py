"""The report's maps of where it matters: places seen closer, and how likely an event was; and the order of all maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from finescale.scores.cells import Array
from finescale.scores.settings import WET, Settings
from finescale.scores.sums import Sums
from finescale.verify.align import Aligned
from finescale.verify.evaluate import refine
from finescale.verify.figures import Picture, shown_in
from finescale.verify.figures_maps import (
    MAP_CELLS,
    MEMBERS,
    animation,
    conservation,
    look,
    moment,
    overview,
    shown_time,
    upright,
)
from finescale.verify.scorecard import title

MOST_CLOSE, CLOSE_MEAN = 96, 5
"""Most cells along a side of a close-up; it is about the place where the mean over so many cells a side is largest."""
HIGH = 0.9
"""The quantile of the truth that is an event where no thresholds are given."""


def pictures(
    aligned: Aligned, settings: Settings, sums: Mapping[str, Sums], used: Sequence[str], events: Sequence[float]
) -> Iterator[Picture]:
    """Maps, animation where there is more than one time, conservation map where there is a coarse field.

    Args:
        aligned: aligned data.
        settings: what is scored.
        sums: of all systems.
        used: baselines.
        events: thresholds to show; none for a high quantile of the truth.
    """
    yield overview(aligned, settings, used)
    yield from closeups(aligned, settings)
    yield from exceedance(aligned, settings, used, events)
    if aligned.truth.shape[0] > 1:
        yield from animation(aligned, settings)
    cells = sums["ensemble"].residuals.cells
    if cells is not None:
        yield conservation(aligned, settings, cells, sums["ensemble"].residuals.value())


def closeups(aligned: Aligned, settings: Settings) -> Iterator[Picture]:
    """Two places of the same time seen closer: the wettest, or those of the highest and the lowest value."""
    from finescale.plots import sheet
    from finescale.plots.maps import png, svg
    from finescale.plots.region import region_of

    at, step = shown_time(aligned, settings), aligned.factor.time if aligned.factor else 1
    truth, members = aligned.truth[at].values, aligned.systems["ensemble"][:2, at].values
    cells = (aligned.factor.y, aligned.factor.x) if aligned.factor else (1, 1)
    region, when = region_of(aligned.truth)[0], moment(aligned, at)
    fine = {"Truth": truth} | dict(zip(MEMBERS if len(members) > 1 else ("Prediction",), members, strict=False))
    fine = {name: upright(aligned, f) for name, f in fine.items()}
    coarse = aligned.coarse_values(slice(at // step * step, at // step * step + step))
    warmth, _ = shown_in(aligned, settings)
    shown = []
    for rows, columns in _places(fine["Truth"], cells, settings.rain):
        found = (
            {"Coarse input": upright(aligned, coarse[0])[_blocks(rows, cells[0]), _blocks(columns, cells[1])]}
            if (coarse is not None)
            else {}
        )
        found |= {name: f[rows, columns] for name, f in fine.items()}
        ends = ((cut.start / n, cut.stop / n) for cut, n in zip((rows, columns), truth.shape, strict=True))
        shown.append((region.part(*ends), {name: f + warmth for name, f in found.items()}))
    if not shown:
        return
    style = look(aligned, settings, when)
    wide = sheet.closeups(shown, **style)
    what = "where it was wettest" if settings.rain else "around the highest and the lowest value"
    caption = f"{when}: {what} in the truth. Do members have as much there, and does it look alike?"
    alt = f"Close-ups {what} at {when}: {', '.join(name.lower() for name in shown[0][1])}."
    narrow = png(sheet.closeups(shown[:1], columns=2, **style))
    yield Picture("places", "places", {"png": png(wide), "svg": svg(wide)}, alt, caption, narrow)


def exceedance(aligned: Aligned, settings: Settings, used: Sequence[str], events: Sequence[float]) -> Iterator[Picture]:
    """The share of members with an event in each cell, beside where the truth had it."""
    from finescale.plots import sheet
    from finescale.plots.maps import png, svg
    from finescale.plots.region import region_of, tame

    members = aligned.systems["ensemble"]
    if len(members) == 1:
        return
    at, step = shown_time(aligned, settings), aligned.factor.time if aligned.factor else 1
    truth, region, when = aligned.truth[at].values, region_of(aligned.truth)[0], moment(aligned, at)
    if not np.isfinite(truth).any():
        return
    ensembles = {"Truth": truth[None], "Ensemble": members[:, at].values}
    other = next((name for name in ("rainfarm", "noise") if name in used), None)
    if other is not None:
        start = at // step * step
        ensembles[title(other)] = refine(aligned, other, slice(start, start + step), settings.seed)[:, at - start]
    thin = tuple(slice(None, None, max(n // MAP_CELLS, 1)) for n in truth.shape)
    ensembles = {name: upright(aligned, f[:, *thin]) for name, f in ensembles.items()}
    warmth, units = shown_in(aligned, settings)
    chosen = list(events) or [float(np.nanquantile(truth, HIGH))]
    shares = {
        f"≥ {event + warmth:.4g} {tame(units)}".rstrip(): {
            name: np.where(np.isfinite(f).all(axis=0), (f >= event).mean(axis=0), np.nan)
            for name, f in ensembles.items()
        }
        for event in chosen
    }
    wide = sheet.exceedance(shares, region, title=tame(when))
    last = list(shares.items())[-1]
    narrow = sheet.exceedance(
        {last[0]: {name: last[1][name] for name in ("Truth", "Ensemble")}}, region, title=tame(when)
    )
    caption = f"{when}: share of members at or above a value. The orange line is around the cells where the truth was."
    caption += " Dark inside the line and white outside is best."
    if not events:
        caption += f" The value is the truth's {100 * HIGH:g} % quantile at that time."
    alt = f"Maps of the share of members {' and '.join(shares)} at {when}, beside where the truth was."
    yield Picture("exceedance", "exceedance", {"png": png(wide), "svg": svg(wide)}, alt, caption, png(narrow))


def _places(truth: Array, cells: tuple[int, int], rain: bool) -> list[tuple[slice, slice]]:
    """Rows and columns of at most two small areas of whole coarse ``cells``; none where the field is small itself."""
    from scipy.ndimage import uniform_filter

    sides = [
        max(min(min(truth.shape) // 3, MOST_CLOSE) // factor, 1 if factor >= 8 else 2) * factor for factor in cells
    ]
    if any(1.5 * side > n for side, n in zip(sides, truth.shape, strict=True)) or not np.isfinite(truth).any():
        return []
    middle = float(np.nanmean(truth))
    # Means of a few cells: a single one may be an error of measurement.
    smooth = uniform_filter(np.where(np.isfinite(truth), truth, middle).astype(np.float64) - middle, CLOSE_MEAN)
    found: list[tuple[slice, slice]] = []
    for ranked in (smooth, smooth if rain else -smooth):
        value = np.where(np.isfinite(truth), ranked, -np.inf)
        for rows, columns in found:  # no second area that overlaps the first
            value[_around(rows, sides[0]), _around(columns, sides[1])] = -np.inf
        y, x = np.unravel_index(int(value.argmax()), value.shape)
        if not np.isfinite(value[y, x]) or (rain and truth[y, x] < WET):
            break
        rows, columns = (
            _centred(int(place), side, n, factor)
            for place, side, n, factor in zip((y, x), sides, truth.shape, cells, strict=True)
        )
        found.append((rows, columns))
    return found


def _centred(place: int, side: int, count: int, factor: int) -> slice:
    """``side`` cells about ``place``, within ``count``, from the beginning of a coarse cell."""
    start = min(max(place - side // 2, 0), count - side) // factor * factor
    return slice(start, start + side)


def _around(cut: slice, side: int) -> slice:
    """Where the middle of another area of that side would overlap ``cut``."""
    return slice(max(cut.start - side // 2, 0), cut.stop + side // 2)


def _blocks(cut: slice, factor: int) -> slice:
    return slice(cut.start // factor, cut.stop // factor)
