"""The report's maps and its animation: one time of all fields, the conservation residual, and all of it moving."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from finescale.errors import InputError
from finescale.scores.cells import Array
from finescale.scores.settings import Settings
from finescale.verify.align import Aligned
from finescale.verify.evaluate import refine
from finescale.verify.figures import Picture, files, shown_in
from finescale.verify.scorecard import title

MOST_FRAMES = 24
MOST_CELLS = 400
"""An animation shows at most so many frames, and about as many cells along a side: its maps have fewer dots."""
MAP_CELLS = 450
"""As `MOST_CELLS`, for the maps of one time."""
GIF_BYTES = 1_900_000
MEMBERS = ("Member 1", "Member 2", "Member 3")
ERRORS = ("Error of the mean", "Error")


def overview(aligned: Aligned, settings: Settings, used: Sequence[str]) -> Picture:
    """Coarse input, truth, ensemble mean, members, spread, a baseline and error at one time."""
    from finescale.plots import sheet
    from finescale.plots.maps import png, svg
    from finescale.plots.region import region_of, tame

    fields, when = map_fields(aligned, settings, used)
    warmth, units = shown_in(aligned, settings)
    fields = {name: f if name in ("Spread", *ERRORS) else f + warmth for name, f in fields.items()}
    region, _ = region_of(aligned.truth)
    options: dict[str, Any] = look(aligned, settings, when) | {"difference": tame(units), "errors": ERRORS}
    options["apart"] = () if settings.rain else ("Spread",)
    wide = sheet.overview(fields, region, columns=3, **options)
    # Two columns for phones, and what matters most.
    few = {name: f for name, f in fields.items() if name in ("Coarse input", "Truth", "Prediction", *MEMBERS[:2])}
    narrow = sheet.overview(few, region, columns=2, **options)
    caption = f"{when}. One colour scale for truth and members. Missing cells are grey"
    caption += ", dry ones (below 0.1) white." if settings.rain else "."
    caption += " Members should look like the truth. The mean is smoother, as it should be."
    alt = f"Maps at {when}: {', '.join(name.lower() for name in fields)}."
    return Picture("maps", "maps", {"png": png(wide), "svg": svg(wide)}, alt, caption, png(narrow))


def look(aligned: Aligned, settings: Settings, when: str) -> dict[str, Any]:
    """What all maps of the field have in common."""
    from finescale.plots.region import tame

    what = str(aligned.truth.attrs.get("long_name") or aligned.truth.name or "")
    units = tame(shown_in(aligned, settings)[1])
    return {"units": units, "rain": settings.rain, "label": tame(what), "title": tame(when)}


def conservation(aligned: Aligned, settings: Settings, cells: Array, residual: float) -> Picture:
    """Largest |block mean − coarse value| of each coarse cell."""
    from finescale.plots import maps
    from finescale.plots.region import region_of, tame

    region, _ = region_of(aligned.truth)
    units = tame(shown_in(aligned, settings)[1])
    ax = maps.single(upright(aligned, cells), region, label="largest |block mean − coarse value|", units=units)
    caption = (
        f"Conservation: largest |block mean − coarse value| of the ensemble in each coarse cell, over members and "
        f"times; at most {residual:.1e} of the largest coarse value."
    )
    return Picture("conservation", "time", files(ax), "Map of the conservation residual by coarse cell.", caption)


def animation(aligned: Aligned, settings: Settings) -> list[Picture]:
    """Coarse input, two members and the truth over time, as a GIF; none where it cannot be made small enough."""
    from finescale.plots.animation import animate
    from finescale.plots.region import region_of

    step = aligned.factor.time if aligned.factor else 1
    count = aligned.truth.shape[0]
    length = min(count // step * step, max(MOST_FRAMES // step, 1) * step)
    start = min(max(shown_time(aligned, settings) - length // 2, 0) // step * step, count - length)
    cut = slice(start, start + length)
    thin = tuple(slice(None, None, max(n // MOST_CELLS, 1)) for n in aligned.truth.shape[1:])
    members = aligned.systems["ensemble"]
    panels: dict[str, Array] = {}
    coarse = aligned.coarse_values(cut)
    if coarse is not None:
        panels["Coarse input"] = upright(aligned, coarse)
    names = MEMBERS[:2] if len(members) > 1 else ("Prediction",)
    panels |= {name: upright(aligned, members[m, cut, *thin].values) for m, name in enumerate(names)}
    panels["Truth"] = upright(aligned, aligned.truth[cut, *thin].values)
    warmth, units = shown_in(aligned, settings)
    panels = {name: f + warmth for name, f in panels.items()}
    labels = [moment(aligned, t) for t in range(start, start + length)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = animate(
                panels, Path(folder) / "animation.gif", rain=settings.rain, region=region_of(aligned.truth)[0],
                units=units, labels=labels, fps=4, limit=GIF_BYTES,
            )  # fmt: skip
        except InputError:
            aligned.notes.append("There is no animation: it would be too large.")
            return []
        data = path.read_bytes()
    part = f"{length} of {count} times" if length < count else f"{count} times"
    alt = f"Animation of {', '.join(name.lower() for name in panels)} over {part}."
    caption = f"{part}, {labels[0]} to {labels[-1]}. Detail should move and change as in the truth, without jumps."
    return [Picture("animation", "animation", {"gif": data}, alt, caption)]


def map_fields(aligned: Aligned, settings: Settings, used: Sequence[str]) -> tuple[dict[str, Array], str]:
    """Title -> field (rows from south to north) at one time: the wettest, or the middle one of other fields."""
    step, at = aligned.factor.time if aligned.factor else 1, shown_time(aligned, settings)
    truth, members = aligned.truth[at].values, aligned.systems["ensemble"][:, at].values
    fields: dict[str, Array] = {}
    start = at // step * step
    around = slice(start, start + step)
    coarse = aligned.coarse_values(around)
    if coarse is not None:
        fields["Coarse input"] = coarse[0]
    if len(members) > 1:
        mean = members.mean(axis=0)
        fields |= {"Truth": truth, "Ensemble mean": mean}
        fields |= dict(zip(MEMBERS, members, strict=False))
    else:
        mean = members[0]
        fields |= {"Truth": truth, "Prediction": mean}
    # One baseline beside them: that with the most detail.
    other = next((name for name in ("rainfarm", "bicubic", "bilinear", "nearest") if name in used), None)
    if other is not None:
        shown = title(other) + (", one member" if other == "rainfarm" else "")
        fields[shown] = refine(aligned, other, around, settings.seed)[0, at - start]
    if len(members) > 1:
        fields["Spread"] = members.std(axis=0, ddof=1)
    fields[ERRORS[len(members) == 1]] = mean - truth
    # Coarse fields are small; of fine ones the map has fewer dots than they may have cells.
    thin = tuple(slice(None, None, max(n // MAP_CELLS, 1)) for n in truth.shape)
    drawn = {shown: f[thin] if f.shape == truth.shape else f for shown, f in fields.items()}
    return {shown: upright(aligned, f) for shown, f in drawn.items()}, moment(aligned, at)


def moment(aligned: Aligned, at: int) -> str:
    """Time ``at`` in words."""
    time = aligned.truth.coords.get(aligned.time)
    if time is None:
        return f"time {at + 1} of {aligned.truth.shape[0]}"
    return str(time.values[at]).replace("T", " ")[:16]


def shown_time(aligned: Aligned, settings: Settings) -> int:
    """The wettest time, or the middle one of fields other than rain."""
    if not settings.rain:
        return int(aligned.truth.shape[0] // 2)
    means = np.asarray(aligned.truth.mean(aligned.truth.dims[1:], skipna=True).values, dtype=np.float64)
    return int(np.nanargmax(means)) if np.isfinite(means).any() else 0


def upright(aligned: Aligned, values: Array | xr.DataArray) -> Array:
    """Fields (…, y, x) with y upwards and x to the right."""
    grid = aligned.grid
    flip_y, flip_x = grid.y[1] < grid.y[0], grid.x[1] < grid.x[0]
    return np.asarray(values)[..., :: -1 if flip_y else 1, :: -1 if flip_x else 1]
