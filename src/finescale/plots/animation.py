"""Sequences side by side as an animated GIF: one colour scale, one palette, a small file.

A GIF has at most 256 colours. Maps other than those of rain, which have classes, have `LEVELS` of them, so that all
frames share one palette without dithering, and equal neighbours stay equal, which is what makes the file small. If it
is still too large, fewer dots an inch are drawn.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from finescale.data import files
from finescale.data.atomic import atomic, explained
from finescale.data.units import in_mm_per_hour, is_rain
from finescale.errors import InputError
from finescale.grids import coordinates
from finescale.plots import maps
from finescale.plots.display import celsius
from finescale.plots.region import region_of, tame
from finescale.plots.sheet import below

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = 64
"""Colours of the maps; the rest of the palette is for letters and lines."""
DPI = (110, 95, 82, 70, 60, 52, 45)
"""Dots an inch tried in turn; below the last one letters cannot be read."""

Panels = dict[str, NDArray[np.float64]]


def animate(
    panels: Mapping[str, ArrayLike],
    path: str | Path,
    *,
    rain: bool = False,
    norm: Any = None,
    region: maps.Region | None = None,
    units: str = "",
    title: str = "",
    labels: Sequence[str] = (),
    fps: float = 5.0,
    limit: int = 2_000_000,
) -> Path:
    """Write an animated GIF of maps side by side, replacing ``path``.

    Args:
        panels: title -> fields (T, H, W) of any resolution on one area, row 0 at the bottom. A panel with fewer frames
            shows each for as long as it lasts: coarse frames are held for ft fine ones.
        path: the file, ending in .gif.
        rain: classes of rain, white below 0.1.
        norm: a matplotlib norm, instead of the one that suits all panels together.
        region: the area; by default cells of the finest panel.
        units: of the values, for the colour bar.
        title: above the maps.
        labels: of the T frames, such as their times; shown after the title.
        fps: frames a second.
        limit: most bytes the file may have.

    Returns:
        ``path``.

    Raises:
        InputError: for panels that do not fit together, or a file that stays too large.

    Example:
        >>> import numpy as np
        >>> from finescale.plots import animate
        >>> fine, coarse = np.random.default_rng(0).random((4, 16, 16)), np.ones((2, 4, 4))
        >>> animate({"coarse": coarse, "fine": fine}, "fields.gif").name
        'fields.gif'
    """
    path, fields = Path(path), _checked(panels, labels)
    if path.suffix.lower() != ".gif":
        raise InputError(f"the animation {path} must end in .gif")
    if not 0 < fps <= 50:
        raise InputError(f"an animation has more than 0 and at most 50 frames a second, not {fps:g}")
    height, width = max((f.shape[1:] for f in fields.values()), key=lambda shape: shape[0] * shape[1])
    area = region or maps.Region((0.0, float(width), 0.0, float(height)))
    figure, show = _figure(fields, area, rain=rain, norm=norm, units=units)
    count, size, wanted = max(len(f) for f in fields.values()), 0, float(DPI[0])
    heads = ["  ".join(part for part in (title, label) if part) for label in (labels or [""] * count)]
    for dpi in DPI:
        if dpi > wanted and dpi != DPI[-1]:
            continue
        figure.set_dpi(dpi)
        data = _gif([show(t, heads[t]) for t in range(count)], fps)
        size = len(data)
        if size <= limit:
            _write(path, data)
            return path
        # Bytes grow about with the number of dots; a tenth more is tried, as they grow more slowly.
        wanted = 1.1 * dpi * (limit / size) ** 0.5
    raise InputError(
        f"an animation of {count} frames has {size} bytes at the least, but {limit} are allowed: take fewer frames or "
        "a smaller area"
    )


def animate_ensemble(
    ensemble: xr.Dataset | xr.DataArray,
    truth: xr.Dataset | xr.DataArray,
    coarse: xr.Dataset | xr.DataArray,
    path: str | Path,
    members: Sequence[int] = (0, 1),
    **options: Any,
) -> Path:
    """Write coarse input, some members and the truth as an animated GIF: rain in classes, kelvins in °C.

    Args:
        ensemble: (realization, time, y, x).
        truth: (time, y, x), the same times.
        coarse: (time, y, x), t of them with T = ft · t.
        path: the file, ending in .gif.
        members: which of the ensemble to show.
        options: of `animate`; ``rain``, ``region``, ``units`` and ``labels`` come from the data by default.

    Raises:
        InputError: for fields that do not fit together, a member that is not there, or a file that stays too large.

    Example:
        >>> import finescale
        >>> from finescale.data.synthetic import synthetic_rain
        >>> rain = synthetic_rain((2, 64, 64), seed=3)
        >>> from finescale.plots import animate_ensemble
        >>> coarse = finescale.coarsen(rain, "1x8")
        >>> ensemble = finescale.downscale("rain", coarse, members=2, factor="1x8")
        >>> animate_ensemble(ensemble, rain, coarse, "rain.gif").name
        'rain.gif'
    """
    fine, true, low = (
        coordinates.increasing(files.select(data, source=what) if isinstance(data, xr.Dataset) else data)
        for data, what in ((ensemble, "the ensemble"), (truth, "the truth"), (coarse, "the coarse field"))
    )
    fine = fine if "realization" in fine.dims else fine.expand_dims("realization")
    absent = [m for m in members if not 0 <= m < fine.sizes["realization"]]
    if absent:
        raise InputError(f"there is no member {absent[0]}: the ensemble has {fine.sizes['realization']}, from 0")
    if true.shape[-3:] != fine.shape[-3:]:
        raise InputError(
            f"ensemble {fine.shape[-3:]} and truth {true.shape[-3:]} differ in shape: select the same part"
        )
    units = str(fine.attrs.get("units", ""))
    rain = is_rain(fine) or is_rain(true)
    if rain:
        fine, true, low = (in_mm_per_hour(da) for da in (fine, true, low))
        units = str(fine.attrs.get("units", ""))
    warmth, units = celsius(units, float(true.min()))
    panels = {"Coarse input": low.values + warmth}
    panels |= {f"Member {m + 1}": fine[m].values + warmth for m in members}
    time = fine[fine.dims[1]] if fine.dims[1] in fine.coords else None
    labels = [] if time is None else [str(value).replace("T", " ")[:16] for value in time.values]
    given: dict[str, Any] = {
        "rain": rain,
        "region": region_of(fine)[0],
        "units": units,
        "labels": labels,
    }
    return animate(panels | {"Truth": true.values + warmth}, path, **(given | options))


def _checked(panels: Mapping[str, ArrayLike], labels: Sequence[str]) -> Panels:
    """The panels as arrays.

    Raises:
        InputError: unless all are (T, H, W), with numbers of frames that divide the largest, and a label a frame.
    """
    if not panels:
        raise InputError("an animation needs at least one panel")
    fields = {title: np.asarray(f, dtype=np.float64) for title, f in panels.items()}
    wrong = [title for title, f in fields.items() if f.ndim != 3 or f.size == 0]
    if wrong:
        raise InputError(f"panel {wrong[0]!r} has shape {fields[wrong[0]].shape}, but must be (time, y, x)")
    count = max(len(f) for f in fields.values())
    odd = [title for title, f in fields.items() if count % len(f)]
    if odd:
        raise InputError(f"panel {odd[0]!r} has {len(fields[odd[0]])} frames, which do not divide the others' {count}")
    if labels and len(labels) != count:
        raise InputError(f"{count} frames have {len(labels)} labels: give one for each")
    return fields


def _figure(fields: Panels, region: maps.Region, *, rain: bool, norm: Any, units: str) -> tuple[Figure, Any]:
    """The figure of the first frames, and show(t, head) -> picture (height, width, 3)."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cmap, suited = maps.scale(list(fields.values()), rain=rain)
    cmap, norm = cmap if rain else cmap.resampled(LEVELS), norm or suited
    count = max(len(f) for f in fields.values())
    with mpl.rc_context(maps.STYLE):
        side = 2.5
        figure = Figure(figsize=(side * len(fields) + 0.3, side * region.shape + 1.35), layout="compressed")
        canvas = FigureCanvasAgg(figure)
        row = list(figure.subplots(1, len(fields), squeeze=False)[0])
        for ax, (title, values) in zip(row, fields.items(), strict=True):
            maps.field(ax, values[0], region, cmap=cmap, norm=norm, title=tame(title))
            ax.set(xlabel=region.xlabel, ylabel=region.ylabel if ax is row[0] else "")
            ax.tick_params(labelleft=ax is row[0])
        below(figure, row, (cmap, norm), tame(units), aspect=60, shrink=0.6)
        head = figure.suptitle(" ", fontsize=10)
        figure.draw_without_rendering()
        # From here on nothing moves, whatever the letters of a frame.
        figure.set_layout_engine("none")

        head.set_animated(True)
    still: dict[float, Any] = {}

    def show(t: int, text: str) -> NDArray[np.uint8]:
        with mpl.rc_context(maps.STYLE):
            # What stays is drawn once for a number of dots an inch, then only what lies within the axes and the head.
            if figure.dpi not in still:
                canvas.draw()
                still[figure.dpi] = canvas.copy_from_bbox(figure.bbox)
            canvas.restore_region(still[figure.dpi])
            head.set_text(tame(text) or " ")
            figure.draw_artist(head)
            for ax, values in zip(row, fields.values(), strict=True):
                ax.images[0].set_data(values[t * len(values) // count])
                for artist in (ax.images[0], *ax.collections, *ax.spines.values()):
                    ax.draw_artist(artist)
            return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    return figure, show


def _gif(pictures: list[NDArray[np.uint8]], fps: float) -> bytes:
    """The pictures (height, width, 3) as one GIF that repeats, all in the same palette."""
    from PIL import Image

    packed = np.stack(pictures).astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    codes, counts, place = maps.counted(packed)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)
    chosen = palette(colours, counts)
    nearest = ((colours[:, None] - chosen) ** 2).sum(axis=-1).argmin(axis=1).astype(np.uint8)
    frames = [Image.fromarray(picture) for picture in nearest[place]]
    for one in frames:
        one.putpalette(chosen.astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0, optimize=False
    )
    return buffer.getvalue()


def palette(colours: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most 256 of the colours (K, 3), 0 to 255 each of red, green and blue, that ``counts`` (K,) dots have.

    First the most frequent one of each occupied cell of an 8 × 8 × 8 colour cube, as the rarest colours of a map are
    its extremes, which must not be lost; then the most frequent of the rest.
    """
    colours = colours[np.argsort(-counts, kind="stable")]
    _, first = np.unique(colours // 32, axis=0, return_index=True)
    order = np.concatenate([np.sort(first), np.setdiff1d(np.arange(len(colours)), first)])
    return colours[order[:256]]


def _write(path: Path, data: bytes) -> None:
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            temporary.write_bytes(data)
