"""Sheets of maps side by side: an overview of one time, places seen closer, how likely an event was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from finescale.plots.maps import MISSING, STYLE, Region, error_scale, field, scale
from finescale.plots.rain_classes import BOUNDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Scale = tuple[Any, Any]
"""A colour map and a norm."""


@dataclass(frozen=True)
class Panel:
    """One map.

    Attributes:
        title: above it.
        values: (H, W), row 0 at the bottom.
        region: where they lie.
        scale: its colours.
        bar: the label of a colour bar of its own, to its right; None where it has none.
        outline: a field (H', W') of 0 and 1 on the same area; a line is drawn around its ones.
    """

    title: str
    values: ArrayLike
    region: Region
    scale: Scale
    bar: str | None = None
    outline: ArrayLike | None = None


def sheet(
    panels: Sequence[Panel], columns: int, *, bar: Scale | None = None, label: str = "", title: str = ""
) -> Figure:
    """Maps in rows of ``columns``.

    Args:
        panels: the maps.
        columns: maps in a row.
        bar: the colours of the bar below all maps; None for none.
        label: of that bar.
        title: above all maps, such as the time.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    width = 3.1 * columns + 0.4
    # A margin of half an inch a row holds titles and tick labels.
    heights = [2.7 * max(p.region.shape for p in row) + 0.55 for row in rows]
    alike = all(p.region == panels[0].region for p in panels)
    with mpl.rc_context(STYLE):
        height = min(sum(heights) + (0.9 if bar else 0.3) + (0.4 if title else 0.0), 16.0)
        figure = Figure(figsize=(width, height), dpi=110, layout="compressed")
        axes = list(figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights).ravel())
        for k, (ax, panel) in enumerate(zip(axes, panels, strict=False)):
            field(ax, panel.values, panel.region, cmap=panel.scale[0], norm=panel.scale[1], title=panel.title)
            lowest, first = not alike or k + columns >= len(panels), k % columns == 0
            ax.set(xlabel=panel.region.xlabel if lowest else "", ylabel=panel.region.ylabel if first else "")
            ax.tick_params(labelbottom=lowest, labelleft=first)
            if panel.bar is not None:
                _own_bar(ax, panel.scale, panel.bar)
            if panel.outline is not None:
                _outline(ax, panel.outline, panel.region)
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        if title:
            figure.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=9.5)  # an empty line keeps the maps below it
        if bar is not None:
            below(figure, axes, bar, label)
    return figure


def below(figure: Figure, axes: Sequence[Axes], colours: Scale, label: str, **options: Any) -> None:
    """A colour bar below ``axes``; that of rain names the classes' ends."""
    import matplotlib as mpl

    cmap, norm = colours
    rain = cmap.name == "rain"
    place: dict[str, Any] = {"location": "bottom", "aspect": 45, "shrink": 0.75, "pad": 0.03}
    ends = "both" if rain or (norm.vmin, norm.vmax) != (0, 1) else "neither"
    bar = figure.colorbar(mpl.cm.ScalarMappable(norm, cmap), ax=axes, extend=ends, **(place | options))
    bar.outline.set_visible(False)
    bar.set_label(label)
    if rain:
        bar.set_ticks(list(BOUNDS), labels=[f"{bound:g}" for bound in BOUNDS])
        bar.minorticks_off()


def overview(
    fields: Mapping[str, ArrayLike],
    region: Region,
    *,
    units: str = "",
    rain: bool = False,
    columns: int = 3,
    label: str = "",
    title: str = "",
    apart: tuple[str, ...] = (),
    errors: tuple[str, ...] = (),
    difference: str | None = None,
) -> Figure:
    """Maps side by side with one shared colour scale.

    Args:
        fields: title -> values (H, W), of any resolution, on the same area.
        region: where they lie.
        units: of the values.
        rain: classes of rain, white below 0.1.
        columns: maps in a row.
        label: what is shown, for the colour bar.
        title: above the maps, such as the time.
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
    lone = units if difference is None else difference
    shared = scale(
        [f for name, f in fields.items() if name not in (*apart, *errors)] or list(fields.values()), rain=rain
    )
    panels = []
    for name, values in fields.items():
        if name in errors:
            panels.append(Panel(name, values, region, error_scale(values), lone))
        elif name in apart:
            panels.append(Panel(name, values, region, scale([values], rain=rain), lone))
        else:
            panels.append(Panel(name, values, region, shared))
    return sheet(panels, columns, bar=shared, label=labelled(label, units), title=title)


def closeups(
    places: Sequence[tuple[Region, Mapping[str, ArrayLike]]],
    *,
    units: str = "",
    rain: bool = False,
    columns: int | None = None,
    label: str = "",
    title: str = "",
) -> Figure:
    """Small areas, each in a row of maps (or two) on one scale.

    Args:
        places: of each area where it lies and title -> values (H, W), of any resolution.
        units: of the values.
        rain: classes of rain, the same for all areas; other fields have a scale for each area.
        columns: maps in a row; by default all of an area.
        label: what is shown, for the colour bar.
        title: above the maps, such as the time.

    Example:
        >>> import numpy as np
        >>> from finescale.plots import Region, closeups
        >>> fields = {"truth": np.random.default_rng(0).random((8, 8)), "member": np.ones((8, 8))}
        >>> closeups([(Region((0.0, 8.0, 0.0, 8.0)), fields)], units="°C").savefig("close.png")
    """
    panels = []
    for region, fields in places:
        own = scale(list(fields.values()), rain=rain)
        last = len(fields) - 1
        panels += [
            Panel(name, values, region, own, None if rain or k != last else units)
            for k, (name, values) in enumerate(fields.items())
        ]
    bar = panels[0].scale if rain else None
    return sheet(panels, columns or len(places[0][1]), bar=bar, label=labelled(label, units), title=title)


def exceedance(
    shares: Mapping[str, Mapping[str, ArrayLike]], region: Region, *, columns: int | None = None, title: str = ""
) -> Figure:
    """How many members have an event in each cell, beside where it was.

    Args:
        shares: event -> title -> share of members (H, W); the first title is the truth's, with values 0 and 1, whose
            outline is drawn on the other maps.
        region: where they lie.
        columns: maps in a row; by default all of an event.
        title: above the maps, such as the time.

    Example:
        >>> import numpy as np
        >>> from finescale.plots import Region, exceedance
        >>> truth = np.eye(8)
        >>> shares = {"over 10 mm/h": {"truth": truth, "ensemble": truth / 2}}
        >>> exceedance(shares, Region((0.0, 8.0, 0.0, 8.0))).savefig("event.png")
    """
    import matplotlib as mpl

    cmap = mpl.colormaps["Purples"].resampled(10).with_extremes(bad=MISSING)
    colours = cmap, mpl.colors.BoundaryNorm(np.linspace(0, 1, 11), 10)
    panels = []
    for event, found in shares.items():
        true = next(iter(found.values()))
        panels += [
            Panel(f"{name}, {event}", values, region, colours, outline=true if k else None)
            for k, (name, values) in enumerate(found.items())
        ]
    each = len(next(iter(shares.values())))
    label = "share of members (1); the truth is 0 or 1, outlined in orange"
    return sheet(panels, columns or each, bar=colours, label=label, title=title)


def labelled(label: str, units: str) -> str:
    """``label (units)``, or what there is of both."""
    return f"{label} ({units})" if label and units else label or units


def _own_bar(ax: Axes, colours: Scale, label: str) -> None:
    """Inside the map's own box, so that all maps of a row stay equally large."""
    import matplotlib as mpl

    bar = ax.figure.colorbar(
        mpl.cm.ScalarMappable(colours[1], colours[0]), cax=ax.inset_axes((1.02, 0.0, 0.035, 1.0)), extend="both"
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5, length=2)
    bar.set_label(label, fontsize=7.5, labelpad=1)


def _outline(ax: Axes, mask: ArrayLike, region: Region) -> None:
    """A line around the ones of ``mask``."""
    ones = np.nan_to_num(np.asarray(mask, dtype=np.float64))
    if ones.min() == ones.max() or min(ones.shape) < 2:
        return
    left, right, bottom, top = region.edges
    y, x = ((np.arange(n) + 0.5) / n for n in ones.shape)
    ax.contour(
        left + (right - left) * x, bottom + (top - bottom) * y, ones, levels=[0.5], colors="#d55e00", linewidths=0.7
    )
    ax.set(xlim=(left, right), ylim=(bottom, top))
