"""Maps of fields on one colour scale.

Colour maps are perceptually uniform and safe for colour-blind eyes: rain on a logarithmic scale from 0.1, white where
it is dry; other fields on a linear one; errors from blue over white to brown. Missing cells are grey. Figures are made
without pyplot, so nothing is kept between calls.
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
class Region:
    """Where maps lie: ``edges`` (left, right, bottom, top), labels, height of a unit of y over a unit of x.

    ``geographic`` ones are in degrees, and get coastlines where there are any (`finescale.plots.coast`).

    Example:
        >>> from finescale.plots import Region
        >>> Region((0.0, 200.0, 0.0, 100.0), "x (km)", "y (km)").shape
        0.5
    """

    edges: tuple[float, float, float, float]
    xlabel: str = "x (cells)"
    ylabel: str = "y (cells)"
    aspect: float = 1.0
    geographic: bool = False

    @property
    def shape(self) -> float:
        """Height over width as drawn."""
        left, right, bottom, top = self.edges
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


def error_scale(values: ArrayLike) -> tuple[Any, Any]:
    """A diverging colour map and a norm about 0 that reaches 99 % of the absolute values."""
    from matplotlib import colors

    from finescale.plots.colours import diverging

    size = np.abs(np.asarray(values, dtype=np.float64))
    size = size[np.isfinite(size)]
    most = float(np.quantile(size, 0.99)) if size.size else 0.0
    return diverging().with_extremes(bad=MISSING), colors.Normalize(-(most or 1.0), most or 1.0)


def field(ax: Axes, values: ArrayLike, region: Region, *, cmap: Any, norm: Any, title: str = "") -> Axes:
    """Draw one field (H, W), row 0 at ``region.edges``'s bottom, on ``ax``."""
    shown: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    if norm.vmin > 0 and hasattr(cmap, "name") and cmap.name == "rain":
        # A logarithm has no place for 0: dry cells go just under the scale, where the map is white.
        shown = np.where(np.isnan(shown), np.nan, np.maximum(shown, norm.vmin * 0.5))
    ax.imshow(
        shown, origin="lower", extent=region.edges, aspect=region.aspect, cmap=cmap, norm=norm, interpolation="nearest"
    )
    if region.geographic:
        _coast(ax, region)
    ax.set_title(title)
    ax.locator_params(nbins=4)
    ax.tick_params(length=2.5)
    for side in ("top", "right"):
        ax.spines[side].set_visible(True)
    return ax


def overview(
    fields: Mapping[str, ArrayLike],
    region: Region,
    *,
    units: str = "",
    rain: bool = False,
    columns: int = 3,
    label: str = "",
    apart: tuple[str, ...] = (),
    errors: tuple[str, ...] = (),
    difference: str | None = None,
) -> Figure:
    """Maps side by side with one shared colour scale.

    Args:
        fields: title -> values (H, W), of any resolution, on the same area.
        region: where they lie.
        units: of the values.
        rain: logarithmic colours, white below 0.1.
        columns: maps in a row.
        label: what is shown, for the colour bar.
        apart: titles of fields with a colour bar of their own, such as a spread that is much smaller than the field
            itself.
        errors: titles of differences, on a scale of their own about 0.
        difference: units of fields with a colour bar of their own, by default ``units``.

    Example:
        >>> import numpy as np
        >>> from finescale.plots import Region, overview
        >>> fields = {"coarse": np.ones((2, 2)), "member": np.random.default_rng(0).random((16, 16))}
        >>> overview(fields, Region((0.0, 16.0, 0.0, 16.0)), units="°C").savefig("maps.png")
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shared = [f for title, f in fields.items() if title not in (*apart, *errors)] or list(fields.values())
    cmap, norm = scale(shared, rain=rain)
    rows = -(-len(fields) // columns)
    width = 3.1 * columns + 0.4
    with mpl.rc_context(STYLE):
        # A margin of half an inch a row holds titles and tick labels.
        figure = Figure(
            figsize=(width, min(rows * (2.7 * region.shape + 0.55) + 0.9, 16.0)), dpi=110, layout="compressed"
        )
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        axes = list(grid.ravel())
        for ax, (title, values) in zip(axes, fields.items(), strict=False):
            own = error_scale(values) if title in errors else scale([values], rain=rain)
            lone = title in (*apart, *errors)
            field(ax, values, region, cmap=own[0] if lone else cmap, norm=own[1] if lone else norm, title=title)
            if lone:
                # Inside the map's own box, so that all maps of a row stay equally large.
                inset = ax.inset_axes((1.02, 0.0, 0.035, 1.0))
                bar = figure.colorbar(mpl.cm.ScalarMappable(own[1], own[0]), cax=inset, extend="both")
                bar.outline.set_visible(False)
                bar.ax.tick_params(labelsize=7.5, length=2)
                bar.set_label(units if difference is None else difference, fontsize=7.5, labelpad=1)
        for ax in axes[len(fields) :]:
            ax.set_visible(False)
        for i, ax in enumerate(axes[: len(fields)]):
            lowest = i + columns >= len(fields)
            ax.set(xlabel=region.xlabel if lowest else "", ylabel=region.ylabel if i % columns == 0 else "")
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


def single(
    values: ArrayLike, region: Region, *, label: str = "", units: str = "", title: str = "", ax: Axes | None = None
) -> Axes:
    """One field (H, W), such as a map of residuals, on a linear scale from its least to its largest value.

    Example:
        >>> import numpy as np
        >>> from finescale.plots import Region, single
        >>> single(np.eye(8), Region((0.0, 8.0, 0.0, 8.0)), title="a diagonal").get_xlabel()
        'x (cells)'
    """
    import matplotlib as mpl
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    shown = np.asarray(values, dtype=np.float64)
    known = shown[np.isfinite(shown)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    norm = Normalize(low, high if high > low else low + 1.0)
    with mpl.rc_context(STYLE):
        if ax is None:
            ax = Figure(figsize=(4.8, min(3.3 * region.shape + 0.7, 8.0)), dpi=110, layout="compressed").subplots()
        cmap = mpl.colormaps["viridis"].resampled(LEVELS).with_extremes(bad=MISSING)
        field(ax, shown, region, cmap=cmap, norm=norm, title=title)
        ax.set(xlabel=region.xlabel, ylabel=region.ylabel)
        ticks = mpl.ticker.ScalarFormatter()
        ticks.set_powerlimits((-3, 4))
        bar = ax.figure.colorbar(mpl.cm.ScalarMappable(norm, cmap), ax=ax, shrink=0.9, pad=0.02, format=ticks)
        bar.outline.set_visible(False)
        bar.set_label(f"{label} ({units})" if label and units else label or units)
    return ax


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file, the same bytes each time."""
    import io

    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "finescale"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


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
    # One number a colour: a tenth of the time of sorting triples.
    packed = np.asarray(picture, dtype=np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    numbers, counts = np.unique(packed, return_counts=True)
    numbers = numbers[np.argsort(-counts, kind="stable")]
    colours = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], 1).astype(np.uint8)
    _, first = np.unique(colours // 16, axis=0, return_index=True)
    order = np.concatenate([np.sort(first), np.setdiff1d(np.arange(len(colours)), first)])
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours[order[:256]].ravel().tolist())
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return small.getvalue()


def _coast(ax: Axes, region: Region) -> None:
    from finescale.plots import coast

    lines = coast.lines(region.edges)
    if lines:
        from matplotlib.collections import LineCollection

        ax.add_collection(LineCollection(lines, colors="#30363d", linewidths=0.6), autolim=False)
        ax.set(xlim=region.edges[:2], ylim=region.edges[2:])
