"""Maps of fields on one colour scale.

Colour maps are perceptually uniform and safe for colour-blind eyes: rain on a logarithmic scale from 0.1, white where
it is dry; other fields on a linear one. Missing cells are grey. Figures are made without pyplot, so nothing is kept
between calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MISSING = "#cfd3d8"
LEVELS = 160
"""Colours in a map: more than the eye tells apart, few enough for a small file."""
STYLE: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#5b6470",
    "axes.labelcolor": "#3a424d",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#5b6470",
    "ytick.color": "#5b6470",
    "xtick.labelcolor": "#3a424d",
    "ytick.labelcolor": "#3a424d",
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Frame:
    """Where maps lie: ``extent`` (left, right, bottom, top), labels, height of a unit of y over a unit of x."""

    extent: tuple[float, float, float, float]
    xlabel: str = "x (cells)"
    ylabel: str = "y (cells)"
    aspect: float = 1.0

    @property
    def shape(self) -> float:
        """Height over width as drawn."""
        left, right, bottom, top = self.extent
        return abs((top - bottom) * self.aspect / (right - left))


def scale(fields: list[ArrayLike], *, rain: bool) -> tuple[Any, Any]:
    """A colour map and a norm that suit all ``fields`` together: (Colormap, Normalize)."""
    from matplotlib import colormaps, colors

    values = np.concatenate([np.ravel(np.asarray(f, dtype=np.float64)) for f in fields])
    values = values[np.isfinite(values)]
    if rain:
        base = colormaps["magma_r"](np.linspace(0.06, 1.0, LEVELS))
        cmap = colors.ListedColormap(base, "rain").with_extremes(under="white", bad=MISSING)
        return cmap, colors.LogNorm(0.1, max(float(values.max(initial=0.0)), 1.0))
    low, high = np.quantile(values, [0.001, 0.999]) if values.size else (0.0, 1.0)
    return colormaps["viridis"].resampled(LEVELS).with_extremes(bad=MISSING), colors.Normalize(
        float(low), float(high) if high > low else float(low) + 1.0
    )


def field(ax: Axes, values: ArrayLike, frame: Frame, *, cmap: Any, norm: Any, title: str = "") -> Axes:
    """Draw one field (H, W), row 0 at ``frame.extent``'s bottom, on ``ax``."""
    shown: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    if norm.vmin > 0 and hasattr(cmap, "name") and cmap.name == "rain":
        # A logarithm has no place for 0: dry cells go just under the scale, where the map is white.
        shown = np.where(np.isnan(shown), np.nan, np.maximum(shown, norm.vmin * 0.5))
    ax.imshow(
        shown, origin="lower", extent=frame.extent, aspect=frame.aspect, cmap=cmap, norm=norm, interpolation="nearest"
    )
    ax.set_title(title)
    ax.locator_params(nbins=4)
    ax.tick_params(length=2.5)
    for side in ("top", "right"):
        ax.spines[side].set_visible(True)
    return ax


def overview(
    fields: Mapping[str, ArrayLike],
    frame: Frame,
    *,
    units: str = "",
    rain: bool = False,
    columns: int = 3,
    label: str = "",
    apart: tuple[str, ...] = (),
) -> Figure:
    """Maps side by side with one shared colour scale.

    Args:
        fields: title -> values (H, W), of any resolution, on the same area.
        frame: that area.
        units: of the values.
        rain: logarithmic colours, white below 0.1.
        columns: maps in a row.
        label: what is shown, for the colour bar.
        apart: titles of fields with a colour bar of their own, such as a spread that is much smaller than the field
            itself.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shared = [values for title, values in fields.items() if title not in apart] or list(fields.values())
    cmap, norm = scale(shared, rain=rain)
    rows = -(-len(fields) // columns)
    width = 3.1 * columns + 0.4
    with mpl.rc_context(STYLE):
        # A margin of half an inch a row holds titles and tick labels.
        figure = Figure(
            figsize=(width, min(rows * (2.7 * frame.shape + 0.55) + 0.9, 16.0)), dpi=110, layout="compressed"
        )
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        axes = list(grid.ravel())
        for ax, (title, values) in zip(axes, fields.items(), strict=False):
            own = scale([values], rain=rain) if title in apart else (cmap, norm)
            field(ax, values, frame, cmap=own[0], norm=own[1], title=title)
            if title in apart:
                bar = figure.colorbar(mpl.cm.ScalarMappable(own[1], own[0]), ax=ax, shrink=0.8, pad=0.02)
                bar.outline.set_visible(False)
        for ax in axes[len(fields) :]:
            ax.set_visible(False)
        for i, ax in enumerate(axes[: len(fields)]):
            lowest = i + columns >= len(fields)
            ax.set(xlabel=frame.xlabel if lowest else "", ylabel=frame.ylabel if i % columns == 0 else "")
            ax.tick_params(labelbottom=lowest)
        bar = figure.colorbar(
            mpl.cm.ScalarMappable(norm, cmap), ax=axes, location="bottom", aspect=45, shrink=0.75, pad=0.03,
            extend="min" if rain else "both",
        )  # fmt: skip
        bar.outline.set_visible(False)
        bar.set_label(f"{label} ({units})" if label and units else label or units)
        if rain:
            ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if t <= norm.vmax]
            bar.set_ticks(ticks, labels=[f"{t:g}" for t in ticks])
            bar.minorticks_off()
    return figure


def png(figure: Figure, limit: int = 150_000) -> bytes:
    """The figure as a PNG file; above ``limit`` bytes in 256 of its colours, at a third of the size.

    The rarest colours of a map are its extremes, so the palette first takes one colour of every occupied cell of a
    16 × 16 × 16 colour cube (the most frequent one there), and only then the most frequent of the rest.
    """
    import io

    from PIL import Image

    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png")
    if buffer.tell() <= limit:
        return buffer.getvalue()
    picture = Image.open(buffer).convert("RGB")
    colours, counts = np.unique(np.asarray(picture).reshape(-1, 3), axis=0, return_counts=True)
    colours = colours[np.argsort(-counts, kind="stable")]
    _, first = np.unique(colours // 16, axis=0, return_index=True)
    order = np.concatenate([np.sort(first), np.setdiff1d(np.arange(len(colours)), first)])
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours[order[:256]].ravel().tolist())
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return small.getvalue()
