"""Curves and histograms that compare systems: power spectra, rank histograms.

Colours are those of Okabe and Ito, told apart by colour-blind eyes; the truth is black, the ensemble blue and thicker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from finescale.plots.maps import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7f7f7f")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)), "--")
"""Line styles beside the colours, so that nothing hangs on colour alone."""


def spectra(
    wavenumber: ArrayLike, systems: Mapping[str, ArrayLike], truth: ArrayLike, *, length: str = "cells", units: str = ""
) -> Figure:
    """Radial power spectra on logarithmic axes.

    Args:
        wavenumber: (K,) in cycles per ``length``.
        systems: name -> power (K,), the ensemble first.
        truth: power (K,).
        length: unit of length, such as km.
        units: of the field; power is in units² · length².
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    wavelength = 1.0 / np.asarray(wavenumber, dtype=np.float64)
    reference = np.asarray(truth, dtype=np.float64)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.0), dpi=110, layout="constrained")
        ax = figure.subplots()
        ax.loglog(wavelength, reference, color="black", lw=2.6, alpha=0.85, label="truth")
        for i, (name, power) in enumerate(systems.items()):
            style = {"color": COLOURS[i % len(COLOURS)], "ls": DASHES[i % len(DASHES)]}
            ax.loglog(wavelength, np.asarray(power), lw=2.2 if i == 0 else 1.5, zorder=3 - 0.1 * i, label=name, **style)
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
        ax.grid(True, which="major", color="#e3e6ea", lw=0.7)
        ax.set_axisbelow(True)
        ax.legend(loc="lower left")
    return figure


def rank_histogram(systems: Mapping[str, ArrayLike]) -> Figure:
    """Rank histograms as steps over the flat one.

    Args:
        systems: name -> frequencies (M + 1,) summing to 1, the ensemble first; lengths may differ.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.0), dpi=110, layout="constrained")
        ax = figure.subplots()
        top = 0.0
        for i, (name, frequency) in enumerate(systems.items()):
            f = np.asarray(frequency, dtype=np.float64)
            # Ranks as shares of M + 1, frequencies as multiples of the flat one: ensembles of any size compare.
            edges, height = np.arange(f.size + 1) / f.size, f * f.size
            top = max(top, float(height.max()))
            if i == 0:
                ax.stairs(height, edges, fill=True, color=COLOURS[0], alpha=0.3)
            ax.stairs(
                height,
                edges,
                color=COLOURS[i % len(COLOURS)],
                lw=2.0 if i == 0 else 1.5,
                ls=DASHES[i % len(DASHES)],
                label=name,
            )
        ax.axhline(1.0, color="black", lw=1.2, label="flat (reliable)")
        ax.set(xlim=(0, 1), ylim=(0, max(1.5, 1.3 * top)))
        ax.set_xticks([0.0, 0.5, 1.0], labels=["below all\nmembers", "in the middle", "above all\nmembers"])
        ax.set_xlabel("rank of the truth among the members")
        ax.set_ylabel("frequency / flat frequency")
        ax.grid(True, axis="y", color="#e3e6ea", lw=0.7)
        ax.set_axisbelow(True)
        ax.legend(loc="upper center", ncols=2)
    return figure
