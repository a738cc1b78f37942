"""Colours of rain: classes, so that 10, 50 and 100 mm/h are told apart at a glance and mean the same in every picture.

Blues, darker with the rate, up to 10 mm/h; from there on, where it is heavy, yellow, orange, reds and near black.
Within each half lightness falls. Any two classes differ by 9 or more in CIELAB (ΔE*), and 10, 50 and 100 mm/h by 30,
also in the eyes of people who are blind to red, green or blue (simulated as Machado et al. 2009 do).
"""

from __future__ import annotations

from typing import Any

BOUNDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
"""Lower ends of the classes; below the first it is dry, and white."""
COLOURS = (
    *("#d9ebf5", "#b3d7ea", "#83bcdd", "#4f9bcb", "#2474ae", "#0d4a80"),
    *("#ffe14f", "#f79a1e", "#d63a2f", "#8a0f2e", "#2a0612"),
)
"""One for each lower end."""


def rain_scale(missing: str) -> tuple[Any, Any]:
    """The matplotlib colour map and norm; cells without a value get the colour ``missing``."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    cmap = ListedColormap(list(COLOURS[:-1]), "rain").with_extremes(under="white", over=COLOURS[-1], bad=missing)
    return cmap, BoundaryNorm(BOUNDS, len(BOUNDS) - 1)
