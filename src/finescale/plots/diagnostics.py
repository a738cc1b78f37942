"""Curves over wavelength, rank, window and time that compare systems; all return matplotlib axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from finescale.plots.canvas import COLOURS, DASHES, diagonal, drawing, legend, lines, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def spectra(
    wavenumber: ArrayLike,
    systems: Mapping[str, ArrayLike],
    truth: ArrayLike,
    *,
    length: str = "cells",
    units: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Radial power spectra on logarithmic axes.

    Args:
        wavenumber: (K,) in cycles per ``length``.
        systems: name -> power (K,), the ensemble first.
        truth: power (K,).
        length: unit of length, such as km.
        units: of the field; power is in units² · length².
        ax: where to draw; by default on a figure of its own.

    Example:
        >>> import numpy as np
        >>> from finescale.plots import spectra
        >>> k = np.arange(1, 9) / 16
        >>> spectra(k, {"ensemble": k**-2.0}, k**-2.5).get_xlabel()
        'wavelength (cells)'
    """
    import matplotlib as mpl

    wavelength = 1.0 / np.asarray(wavenumber, dtype=np.float64)
    reference = np.asarray(truth, dtype=np.float64)
    with drawing(ax) as ax:
        ax.loglog(wavelength, reference, color="black", lw=2.6, alpha=0.85, label="truth")
        for _, power, style in lines(systems):
            ax.loglog(wavelength, power, **style)
        positive = reference[reference > 0]
        if positive.size:
            # Interpolation loses its power by many orders of magnitude: do not let it squeeze the rest.
            ax.set_ylim(positive.min() / 100, positive.max() * 5)
        ax.invert_xaxis()
        ax.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda v, _: f"{v:g}"))
        ax.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        if wavelength.max() / wavelength.min() < 300:
            ax.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        ax.set_xlabel(f"wavelength ({length})")
        ax.set_ylabel(f"power (({units})² {length}²)" if units else "power")
        legend(ax)
    return ax


def rank_histogram(systems: Mapping[str, ArrayLike], ax: Axes | None = None) -> Axes:
    """Rank histograms as steps over the flat one.

    Args:
        systems: name -> frequencies (M + 1,) summing to 1, the ensemble first; lengths may differ.
        ax: where to draw; by default on a figure of its own.

    Example:
        >>> from finescale.plots import rank_histogram
        >>> rank_histogram({"ensemble": [0.2, 0.2, 0.2, 0.2, 0.2]}).get_xlabel()
        'rank of the truth among the members'
    """
    ax = _histogram(systems, ax)
    ax.set_xticks([0.0, 0.5, 1.0], labels=["below all", "in the middle", "above all"])
    first, _, last = ax.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    ax.set_xlabel("rank of the truth among the members")
    return ax


def pit_histogram(systems: Mapping[str, ArrayLike], ax: Axes | None = None) -> Axes:
    """Histograms of the probability integral transform, name -> frequencies (bins,), over the flat one.

    Example:
        >>> from finescale.plots import pit_histogram
        >>> pit_histogram({"ensemble": [0.25, 0.25, 0.25, 0.25]}).get_xlabel()
        'probability integral transform of the truth (1)'
    """
    ax = _histogram(systems, ax)
    ax.set_xlabel("probability integral transform of the truth (1)")
    return ax


def fss(
    widths: ArrayLike,
    systems: Mapping[str, ArrayLike],
    *,
    length: str = "cells",
    base_rate: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Fractions skill score by window.

    Args:
        widths: (S,) of windows, in ``length``.
        systems: name -> score (S,).
        length: unit of the widths.
        base_rate: share of cells with the event in the truth; ½ + half of it is the least that is useful (Roberts and
            Lean 2008).
        ax: where to draw; by default on a figure of its own.

    Example:
        >>> from finescale.plots import fss
        >>> fss([1, 5, 11], {"ensemble": [0.4, 0.7, 0.9]}, base_rate=0.1).get_ylabel()
        'fractions skill score (1)'
    """
    with drawing(ax) as ax:
        for _, values, style in lines(systems, markers=True):
            ax.plot(np.asarray(widths), values, **style)
        if base_rate is not None and np.isfinite(base_rate):
            ax.axhline(0.5 + base_rate / 2, color="black", lw=1.2, label="useful above")
        ax.set(xlabel=f"window width ({length})", ylabel="fractions skill score (1)", ylim=(0, 1.02))
        legend(ax)
    return ax


def quantiles(
    truth: ArrayLike, systems: Mapping[str, ArrayLike], *, units: str = "", rain: bool = False, ax: Axes | None = None
) -> Axes:
    """Quantiles (Q,) of each system against those of the truth; logarithmic for rain, from 0.05.

    Example:
        >>> from finescale.plots import quantiles
        >>> quantiles([1.0, 2.0, 3.0], {"ensemble": [1.1, 2.0, 2.8]}, units="K").get_xlabel()
        'quantile of the truth (K)'
    """
    reference = np.asarray(truth, dtype=np.float64)
    unit = f" ({units})" if units else ""
    with drawing(ax) as ax:
        shown = reference[reference >= 0.05] if rain else reference
        if shown.size:
            diagonal(ax, float(shown.min()), float(shown.max()), "equal")
        for _, values, style in lines(systems, markers=True):
            there = (reference >= 0.05) & (values >= 0.05) if rain else np.isfinite(values)
            ax.plot(reference[there], values[there], **(style | {"ms": 3.5}))
        if rain and shown.size:
            ax.set(xscale="log", yscale="log")
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_formatter(lambda v, _: f"{v:g}")
        ax.set(xlabel=f"quantile of the truth{unit}", ylabel=f"quantile of the system{unit}")
        legend(ax)
    return ax


def by_time(
    systems: Mapping[str, ArrayLike], times: Any = None, *, name: str = "CRPS", units: str = "", ax: Axes | None = None
) -> Axes:
    """A score over time: name -> values (T,); ``times`` numpy dates (T,), or None for numbers of frames.

    Example:
        >>> from finescale.plots import by_time
        >>> by_time({"ensemble": [0.2, 0.3, 0.1]}, units="mm/h").get_ylabel()
        'CRPS (mm/h)'
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    with drawing(ax) as ax:
        dates = times is not None and np.asarray(times).dtype.kind == "M"
        for _, values, style in lines(systems):
            ax.plot(np.asarray(times) if dates else np.arange(1, values.size + 1), values, **style)
        if dates:
            locator = AutoDateLocator(maxticks=6)
            ax.xaxis.set_major_locator(locator)
            ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        ax.set(xlabel="time" if dates else "frame", ylabel=f"{name} ({units})" if units else name)
        ax.set_ylim(bottom=0)
        legend(ax)
    return ax


def _histogram(systems: Mapping[str, ArrayLike], ax: Axes | None) -> Axes:
    """Shares of the range on x and multiples of the flat frequency on y: ensembles of any size compare."""
    with drawing(ax) as ax:
        top = 0.0
        for i, (name, frequency) in enumerate(systems.items()):
            f = np.asarray(frequency, dtype=np.float64)
            if f.size == 0:
                continue
            edges, height = np.arange(f.size + 1) / f.size, f * f.size
            top = max(top, float(np.nanmax(height, initial=0.0)))
            if i == 0:
                ax.stairs(height, edges, fill=True, color=COLOURS[0], alpha=0.3)
            style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "ls": DASHES[i % len(DASHES)]}
            ax.stairs(height, edges, lw=2.0 if i == 0 else 1.5, label=text(name), **style)
        ax.axhline(1.0, color="black", lw=1.2, label="flat (reliable)")
        ax.set(xlim=(0, 1), ylim=(0, max(1.5, 1.08 * top)), ylabel="frequency / flat frequency")
        ax.grid(False, axis="x")
        legend(ax)
    return ax
