"""What a latent of modes has learned: the modes, the variance they capture, where their coefficients vary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from finescale.plots.canvas import COLOURS, drawing, legend
from finescale.plots.maps import STYLE, Region, error_scale, field, scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def modes(
    basis: ArrayLike, energies: ArrayLike | None = None, *, first: int = 16, columns: int = 4, frame: int = 0
) -> Figure:
    """The first modes as small maps, each on a scale of its own about 0, as only their shape has a meaning.

    Args:
        basis: (K, C, pt, py, px), as ``latent.basis`` has it; the first channel is drawn.
        energies: (K,) the share of the variance that each captures, for the titles.
        first: how many.
        columns: maps in a row.
        frame: which of the pt frames.

    Example:
        >>> import numpy as np
        >>> from finescale.plots import modes
        >>> modes(np.random.default_rng(0).random((4, 1, 1, 8, 8)), [0.4, 0.2, 0.1, 0.1]).savefig("modes.png")
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shown = np.asarray(basis, dtype=np.float64)[:first, 0, frame]
    rows, (height, width) = -(-len(shown) // columns), shown.shape[1:]
    place = Region((0.0, float(width), 0.0, float(height)))
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(1.5 * columns, rows * (1.35 * min(place.shape, 3) + 0.3)), dpi=110, layout="compressed"
        )
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for k, (ax, mode) in enumerate(zip(axes, shown, strict=False)):
            cmap, norm = error_scale(mode)
            share = "" if energies is None else f" · {100 * np.asarray(energies)[k]:.3g} %"
            field(ax, mode, place, cmap=cmap, norm=norm, title=f"{k + 1}{share}")
            ax.set_xticks([])
            ax.set_yticks([])
        for ax in axes[len(shown) :]:
            ax.remove()
    return figure


def energy(energies: ArrayLike, kept: int | None = None, ax: Axes | None = None) -> Axes:
    """Share of the variance that the first modes capture together.

    Args:
        energies: (K,) the share of each, as ``latent.energies`` has it.
        kept: how many modes are in use; marked.
        ax: where to draw; by default on a figure of its own.

    Example:
        >>> from finescale.plots import energy
        >>> energy([0.5, 0.3, 0.1], kept=2).get_xlabel()
        'number of modes'
    """
    total = np.cumsum(np.asarray(energies, dtype=np.float64))
    number = np.arange(1, total.size + 1)
    with drawing(ax) as ax:
        ax.plot(number, total, color=COLOURS[0], lw=2.2, marker="o" if total.size <= 64 else "", ms=3.5, label="modes")
        if kept:
            share = total[kept - 1]
            ax.plot(
                [kept, kept, 0], [0, share, share], color="black", lw=1.2, ls="--", label=f"{kept} kept: {share:.1%}"
            )
        ax.set(xlim=(0, total.size + 0.5), ylim=(0, 1.02), xlabel="number of modes", ylabel="share of the variance (1)")
        legend(ax)
    return ax


def coefficient_std(
    coefficients: ArrayLike,
    mode: int | None = None,
    region: Region | None = None,
    *,
    units: str = "standard deviations",
    ax: Axes | None = None,
) -> Axes:
    """Where coefficients vary: their standard deviation (n − 1) over members or fields, a map with a colour bar.

    Args:
        coefficients: (M, K, H', W') of M ≥ 2 latents; NaN where unknown.
        mode: number of one mode, from 0; None for all, √ Σ_k variance_k, which is √ Σ of the variance over a patch's
            cells where the coefficients are not whitened.
        region: where the map lies; None for numbers of patches.
        units: of the coefficients; those of a whitened latent are in standard deviations.
        ax: where to draw; by default on a figure of its own.

    Example:
        >>> import numpy as np
        >>> from finescale.plots import coefficient_std
        >>> coefficient_std(np.random.default_rng(0).random((8, 4, 6, 6)), mode=0).get_xlabel()
        'x (patches)'
    """
    values = np.asarray(coefficients, dtype=np.float64)
    if values.ndim != 4 or len(values) < 2:
        raise ValueError(f"coefficients are {values.shape}, but must be (members, modes, y, x) of two members or more")
    variance = values.var(axis=0, ddof=1)
    std = np.sqrt(variance.sum(0) if mode is None else variance[mode])
    height, width = std.shape
    region = region or Region((0.0, float(width), 0.0, float(height)), "x (patches)", "y (patches)")
    with drawing(ax) as ax:
        cmap, norm = scale([std], rain=False)
        field(ax, std, region, cmap=cmap, norm=norm, title="all modes" if mode is None else f"mode {mode + 1}")
        ax.grid(False)
        ax.set(xlabel=region.xlabel, ylabel=region.ylabel)
        ax.figure.colorbar(ax.images[0], ax=ax, label=f"std of coefficients ({units})", shrink=0.85)
    return ax
