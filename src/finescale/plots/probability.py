"""Are probabilities and spreads right? Reliability, ROC, coverage, spread against error; all return matplotlib axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from finescale.plots.canvas import diagonal, drawing, legend, lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_SHARE = 1e-4
"""Points that stand for fewer of the cells are left out: they are noise."""
NEAR = 0.06
"""Coverages less apart than this have one name."""


def reliability(observed: Mapping[str, ArrayLike], weight: Mapping[str, ArrayLike], *, ax: Axes | None = None) -> Axes:
    """How often an event was seen when k of M members had it.

    Args:
        observed: name -> frequency (M + 1,) for k = 0 … M.
        weight: name -> share (M + 1,) of all cells.
        ax: where to draw; by default on a figure of its own.

    Example:
        >>> from finescale.plots import reliability
        >>> reliability({"ensemble": [0.0, 0.5, 1.0]}, {"ensemble": [0.8, 0.1, 0.1]}).get_xlabel()
        'forecast probability (1)'
    """
    with drawing(ax) as ax:
        diagonal(ax, 0, 1, "reliable")
        rate = float("nan")
        for name, seen, style in lines(observed, markers=True):
            share = np.asarray(weight[name], dtype=np.float64)
            kept = share >= LEAST_SHARE
            ax.plot((np.arange(seen.size) / (seen.size - 1))[kept], seen[kept], **style)
            if np.isnan(rate):
                rate = float(np.nansum(np.where(share > 0, share * seen, 0.0)))
        if np.isfinite(rate):
            ax.axhline(rate, color="#7f7f7f", lw=1.0, ls=(0, (2, 3)), label="base rate")
        ax.set(
            xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="forecast probability (1)", ylabel="observed frequency (1)"
        )
        legend(ax)
    return ax


def roc(
    hit_rate: Mapping[str, ArrayLike], false_alarm_rate: Mapping[str, ArrayLike], *, ax: Axes | None = None
) -> Axes:
    """Hit rate against false alarm rate, name -> (points,) from (0, 0) to (1, 1).

    Example:
        >>> from finescale.plots import roc
        >>> roc({"ensemble": [0.0, 0.8, 1.0]}, {"ensemble": [0.0, 0.2, 1.0]}).get_ylabel()
        'hit rate (1)'
    """
    with drawing(ax) as ax:
        diagonal(ax, 0, 1, "chance")
        for name, hits, style in lines(hit_rate, markers=True):
            ax.plot(np.asarray(false_alarm_rate[name], dtype=np.float64), hits, **(style | {"ms": 3.5}))
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="false alarm rate (1)", ylabel="hit rate (1)")
        legend(ax)
    return ax


def coverage(
    levels: Sequence[float],
    observed: Mapping[str, ArrayLike],
    expected: Mapping[str, ArrayLike],
    *,
    ax: Axes | None = None,
) -> Axes:
    """Share of the truth inside central intervals against the share that a reliable ensemble of that size has.

    Args:
        levels: (L,) of the intervals, named beside the first system's points.
        observed: name -> share (L,).
        expected: name -> share (L,).
        ax: where to draw; by default on a figure of its own.

    Example:
        >>> from finescale.plots import coverage
        >>> coverage([0.5, 0.9], {"ensemble": [0.4, 0.8]}, {"ensemble": [0.5, 0.9]}).get_ylabel()
        'observed coverage (1)'
    """
    with drawing(ax) as ax:
        diagonal(ax, 0, 1, "reliable")
        for k, (name, inside, style) in enumerate(lines(observed, markers=True)):
            due = np.asarray(expected[name], dtype=np.float64)
            ax.plot(due, inside, **style)
            if k == 0:
                # Levels that so few members cannot tell apart share a name.
                groups: list[list[int]] = []
                for place in np.argsort(due, kind="stable").tolist():
                    if groups and due[place] - due[groups[-1][0]] < NEAR:
                        groups[-1].append(place)
                    else:
                        groups.append([place])
                for group in groups:
                    at = (float(due[group].mean()), float(inside[group].max()))
                    name = ", ".join(f"{levels[place]:.0%}" for place in group)
                    ax.annotate(name, at, (0, 7), textcoords="offset points", fontsize=8, ha="center")
        ax.set(xlim=(0.3, 1), ylim=(0, 1.06), xlabel="expected coverage (1)", ylabel="observed coverage (1)")
        legend(ax)
    return ax


def spread_error(
    spread: Mapping[str, ArrayLike],
    error: Mapping[str, ArrayLike],
    weight: Mapping[str, ArrayLike],
    *,
    units: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Root mean square error of the ensemble mean where the ensemble has a given spread, on logarithmic axes.

    Args:
        spread: name -> spread (bins,) with the factor √((M+1)/M).
        error: name -> error (bins,).
        weight: name -> share (bins,) of all cells.
        units: of the field.
        ax: where to draw; by default on a figure of its own.

    Example:
        >>> from finescale.plots import spread_error
        >>> spread_error({"e": [0.5, 1.0]}, {"e": [0.6, 1.1]}, {"e": [0.5, 0.5]}, units="K").get_xlabel()
        'spread (K)'
    """
    unit = f" ({units})" if units else ""
    with drawing(ax) as ax:
        ends: list[float] = []
        for name, wrong, style in lines(error, markers=True):
            wide, share = (np.asarray(m[name], dtype=np.float64) for m in (spread, weight))
            with np.errstate(invalid="ignore"):
                kept = (share >= 10 * LEAST_SHARE) & (wide > 0) & (wrong > 0)
            # The narrow bins of rain hold drizzle: no eye needs ten decades of it.
            kept &= wide >= np.nanmax(np.where(kept, wide, np.nan), initial=0.0) * 1e-4
            if kept.any():
                ends += [float(wide[kept].min()), float(wide[kept].max())]
                ax.loglog(wide[kept], wrong[kept], **style)
        if ends:
            diagonal(ax, min(ends), max(ends), "equal")
        ax.set(xlabel=f"spread{unit}", ylabel=f"RMSE of the ensemble mean{unit}")
        legend(ax)
    return ax
