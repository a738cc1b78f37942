"""The report's maps and its animation: one time of all fields, the conservation residual, and all of it moving."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finescale.errors import InputError
from finescale.scores.settings import Settings
from finescale.scores.sums import Sums
from finescale.verify.align import Case
from finescale.verify.evaluate import refine
from finescale.verify.figures import Picture, files
from finescale.verify.scorecard import title

Array = NDArray[Any]

MOST_FRAMES = 24
MOST_CELLS = 400
"""An animation shows at most so many frames, and about as many cells along a side: its maps have fewer dots."""
MAP_CELLS = 450
"""As `MOST_CELLS`, for the maps of one time."""
GIF_BYTES = 1_900_000


def pictures(case: Case, settings: Settings, sums: Mapping[str, Sums], used: Sequence[str]) -> Iterator[Picture]:
    """Maps, animation where there is more than one time, conservation map where there is a coarse field."""
    yield overview(case, settings, used)
    if case.truth.shape[0] > 1:
        yield from animation(case, settings)
    cells = sums["ensemble"].residuals.cells
    if cells is not None:
        yield conservation(case, cells, sums["ensemble"].residuals.value())


def overview(case: Case, settings: Settings, used: Sequence[str]) -> Picture:
    """Coarse input, ensemble mean, truth, members, spread, error and a baseline at one time."""
    from finescale.plots import maps
    from finescale.plots.frame import frame_of, tame

    fields, when = map_fields(case, settings, used)
    units, rain = str(case.truth.attrs.get("units", "")), settings.rain
    frame, _ = frame_of(case.truth)
    what = str(case.truth.attrs.get("long_name") or case.truth.name or "")
    options: dict[str, Any] = {
        "units": tame(units),
        "rain": rain,
        "label": tame(what),
        "errors": ("Error of the mean", "Error"),
    }
    options["apart"] = () if rain else ("Spread",)
    # Two columns for phones, with one member less, so that the error's colour bar stands at the right edge.
    few = {name: f for name, f in fields.items() if name != "Member 3"}
    wide, narrow = maps.overview(fields, frame, columns=3, **options), maps.overview(few, frame, columns=2, **options)
    caption = f"{when}. All maps share one colour scale" + (
        ", but for the error" if rain else ", but for spread and error"
    )
    caption += "; missing cells are grey" + (", cells below 0.1 white" if rain else "")
    caption += (
        ". Members should look like the truth; the mean is smoother, as it should be. The error is mean less truth."
    )
    alt = f"Maps at {when}: {', '.join(name.lower() for name in fields)}."
    made = {"png": maps.png(wide), "svg": maps.svg(wide)}
    return Picture("maps", "maps", made, alt, caption, maps.png(narrow))


def conservation(case: Case, cells: Array, residual: float) -> Picture:
    """Largest |block mean − coarse value| of each coarse cell."""
    from finescale.plots import maps
    from finescale.plots.frame import frame_of, tame

    frame, _ = frame_of(case.truth)
    units = tame(str(case.truth.attrs.get("units", "")))
    ax = maps.single(_upright(case, cells), frame, label="largest |block mean − coarse value|", units=units)
    caption = (
        f"Conservation: largest |block mean − coarse value| of the ensemble in each coarse cell, over members and "
        f"times; at most {residual:.1e} of the largest coarse value."
    )
    return Picture("conservation", "time", files(ax), "Map of the conservation residual by coarse cell.", caption)


def animation(case: Case, settings: Settings) -> list[Picture]:
    """Coarse input, two members and the truth over time, as a GIF; none where it cannot be made small enough."""
    from finescale.plots.animation import animate
    from finescale.plots.frame import frame_of

    step = case.factor.time if case.factor else 1
    count = case.truth.shape[0]
    length = min(count // step * step, max(MOST_FRAMES // step, 1) * step)
    start = min(max(_moment(case, settings) - length // 2, 0) // step * step, count - length)
    cut = slice(start, start + length)
    thin = tuple(slice(None, None, max(n // MOST_CELLS, 1)) for n in case.truth.shape[1:])
    members = case.systems["ensemble"]
    panels: dict[str, Array] = {}
    coarse = case.coarse_values(cut)
    if coarse is not None:
        panels["Coarse input"] = _upright(case, coarse)
    names = ["Member 1", "Member 2"] if len(members) > 1 else ["Prediction"]
    panels |= {name: _upright(case, members[m, cut, *thin].values) for m, name in enumerate(names)}
    panels["Truth"] = _upright(case, case.truth[cut, *thin].values)
    labels = [moment(case, t) for t in range(start, start + length)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = animate(
                panels, Path(folder) / "animation.gif", rain=settings.rain, frame=frame_of(case.truth)[0],
                units=str(case.truth.attrs.get("units", "")), labels=labels, fps=4, limit=GIF_BYTES,
            )  # fmt: skip
        except InputError:
            case.notes.append("There is no animation: it would be too large.")
            return []
        data = path.read_bytes()
    part = f"{length} of {count} times" if length < count else f"{count} times"
    alt = f"Animation of {', '.join(name.lower() for name in panels)} over {part}."
    caption = f"{part}, {labels[0]} to {labels[-1]}. Detail should move and change as in the truth, without jumps."
    return [Picture("animation", "animation", {"gif": data}, alt, caption)]


def map_fields(case: Case, settings: Settings, used: Sequence[str]) -> tuple[dict[str, Array], str]:
    """Title -> field (rows from south to north) at one time: the wettest, or the middle one of other fields."""
    step, at = case.factor.time if case.factor else 1, _moment(case, settings)
    truth, members = case.truth[at].values, case.systems["ensemble"][:, at].values
    fields: dict[str, Array] = {}
    start = at // step * step
    around = slice(start, start + step)
    coarse = case.coarse_values(around)
    if coarse is not None:
        fields["Coarse input"] = coarse[0]
    if len(members) > 1:
        mean = members.mean(axis=0)
        fields |= {"Ensemble mean": mean, "Truth": truth}
        fields |= {f"Member {m + 1}": members[m] for m in range(min(3, len(members)))}
        fields["Spread"] = members.std(axis=0, ddof=1)
    else:
        mean = members[0]
        fields |= {"Prediction": mean, "Truth": truth}
    # One baseline beside them: that with the most detail.
    other = next((name for name in ("rainfarm", "bicubic", "bilinear", "nearest") if name in used), None)
    if other is not None:
        shown = title(other) + (", one member" if other == "rainfarm" else "")
        fields[shown] = refine(case, other, around, settings.seed)[0, at - start]
    fields["Error of the mean" if len(members) > 1 else "Error"] = mean - truth
    # Coarse fields are small; of fine ones the map has fewer dots than they may have cells.
    thin = tuple(slice(None, None, max(n // MAP_CELLS, 1)) for n in truth.shape)
    drawn = {shown: f[thin] if f.shape == truth.shape else f for shown, f in fields.items()}
    return {shown: _upright(case, f) for shown, f in drawn.items()}, moment(case, at)


def moment(case: Case, at: int) -> str:
    """Time ``at`` in words."""
    time = case.truth.coords.get(case.time)
    if time is None:
        return f"time {at + 1} of {case.truth.shape[0]}"
    return str(time.values[at]).replace("T", " ")[:16]


def _moment(case: Case, settings: Settings) -> int:
    """The wettest time, or the middle one of fields other than rain."""
    if not settings.rain:
        return int(case.truth.shape[0] // 2)
    means = np.asarray(case.truth.mean(case.truth.dims[1:], skipna=True).values, dtype=np.float64)
    return int(np.nanargmax(means)) if np.isfinite(means).any() else 0


def _upright(case: Case, values: Array | xr.DataArray) -> Array:
    """Fields (…, y, x) with y upwards and x to the right."""
    grid = case.grid
    flip_y, flip_x = grid.y[1] < grid.y[0], grid.x[1] < grid.x[0]
    return np.asarray(values)[..., :: -1 if flip_y else 1, :: -1 if flip_x else 1]
