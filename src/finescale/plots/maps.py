"""Maps of fields on one colour scale.

Colours are safe for colour-blind eyes: rain in classes (`finescale.plots.rain_classes`), white where it is dry; other
fields on a perceptually uniform linear scale; errors from blue over white to brown. Missing cells are grey. Figures are
made without pyplot, so nothing is kept between calls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from dataclasses import field as attribute
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finescale.plots.rain_classes import rain_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MISSING = "#c9c9c9"
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


_BOXES: WeakKeyDictionary[Figure, Any] = WeakKeyDictionary()
"""What is drawn of each figure that is laid out, in inches."""


@dataclass(frozen=True)
class Region:
    """Where maps lie.

    Attributes:
        edges: left, right, bottom, top.
        xlabel: of the axis.
        ylabel: likewise.
        aspect: height of a unit of y over a unit of x.
        coasts: coastlines (N, 2) to draw, in the units of ``edges``.

    Example:
        >>> from finescale.plots import Region
        >>> Region((0.0, 200.0, 0.0, 100.0), "x (km)", "y (km)").shape
        0.5
    """

    edges: tuple[float, float, float, float]
    xlabel: str = "x (cells)"
    ylabel: str = "y (cells)"
    aspect: float = 1.0
    coasts: tuple[NDArray[np.float64], ...] = attribute(default=(), compare=False, repr=False)

    @property
    def shape(self) -> float:
        """Height over width as drawn."""
        left, right, bottom, top = self.edges
        return abs((top - bottom) * self.aspect / (right - left))

    def part(self, y: tuple[float, float], x: tuple[float, float]) -> Region:
        """The part between two shares each of its height and width, from 0 at the bottom and the left to 1."""
        left, right, bottom, top = self.edges
        west, east = (left + (right - left) * end for end in x)
        south, north = (bottom + (top - bottom) * end for end in y)
        return replace(self, edges=(west, east, south, north))


def scale(fields: list[ArrayLike], *, rain: bool) -> tuple[Any, Any]:
    """A colour map and a norm that suit all ``fields`` together: (Colormap, Normalize)."""
    from matplotlib import colormaps, colors

    if rain:
        return rain_scale(MISSING)
    values = np.concatenate([np.ravel(np.asarray(f, dtype=np.float64)) for f in fields])
    values = values[np.isfinite(values)]
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
    ax.imshow(
        shown, origin="lower", extent=region.edges, aspect=region.aspect, cmap=cmap, norm=norm, interpolation="nearest"
    )
    _coast(ax, region)
    ax.set_title(title)
    ax.locator_params(nbins=4)
    ax.tick_params(length=2.5)
    for side in ("top", "right"):
        ax.spines[side].set_visible(True)
    return ax


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
        figure.savefig(buffer, format="svg", bbox_inches=_box(figure), metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def png(figure: Figure, limit: int = 150_000) -> bytes:
    """The figure as a PNG file; above ``limit`` bytes in 256 of its colours, at a third of the size.

    The rarest colours of a map are its extremes, so the palette first takes one colour of every occupied cell of a
    16 × 16 × 16 colour cube (the most frequent one there), and only then the most frequent of the rest.
    """
    import io

    from PIL import Image

    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches=_box(figure))
    if buffer.tell() <= limit:
        return buffer.getvalue()
    picture = Image.open(buffer).convert("RGB")
    # One number a colour: a tenth of the time of sorting triples.
    packed = np.asarray(picture, dtype=np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    numbers, counts, _ = counted(packed)
    numbers = numbers[np.argsort(-counts, kind="stable")]
    colours = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], 1).astype(np.uint8)
    _, first = np.unique(colours // 16, axis=0, return_index=True)
    order = np.concatenate([np.sort(first), np.setdiff1d(np.arange(len(colours)), first)])
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours[order[:256]].ravel().tolist())
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return small.getvalue()


def counted(packed: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """The different numbers of 24 bits, rising, how often each is there, and the place of each dot's among them.

    By a table of all numbers, 64 MiB, instead of sorting as `numpy.unique` does.
    """
    seen = np.zeros(1 << 24, dtype=bool)
    seen[packed] = True
    numbers = np.flatnonzero(seen)
    table = np.empty(1 << 24, dtype=np.int32)
    table[numbers] = np.arange(len(numbers), dtype=np.int32)
    place = table[packed]
    return numbers, np.bincount(place.ravel(), minlength=len(numbers)), place


def _box(figure: Figure) -> Any:
    """What is drawn of a figure: without the margins that a layout leaves, as maps keep their own shape.

    A layout takes longer than drawing, so that each figure gets it once, and then stays as it is.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if figure.get_layout_engine() is None:
        return None
    if figure not in _BOXES:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        box = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())
        _BOXES[figure] = box.padded(mpl.rcParams["savefig.pad_inches"])
    return _BOXES[figure]


def _coast(ax: Axes, region: Region) -> None:
    left, right, bottom, top = region.edges

    def near(line: NDArray[np.float64]) -> bool:
        (west, south), (east, north) = line.min(axis=0), line.max(axis=0)
        return bool(east >= left and west <= right and north >= bottom and south <= top)

    shown = [line for line in region.coasts if near(line)]
    if shown:
        from matplotlib.collections import LineCollection

        ax.add_collection(LineCollection(shown, colors="#30363d", linewidths=0.6), autolim=False)
        ax.set(xlim=(left, right), ylim=(bottom, top))
