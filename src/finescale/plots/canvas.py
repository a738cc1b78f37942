"""What all curves have in common: axes of one size and style, and how systems are told apart.

Colours are those of Okabe and Ito, told apart by colour-blind eyes, with a line style each, so that nothing hangs on
colour alone. The truth is black, the first system (the ensemble) blue and thicker. A system without values is not
drawn but keeps its place, so that each has one colour in all figures of a report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finescale.plots.maps import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7f7f7f")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)), "--")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SIZE = (4.8, 3.8)
BOX = (0.145, 0.145, 0.83, 0.715)
"""Left, bottom, width, height of the axes: fixed, as a layout engine would draw every figure three times."""


@contextmanager
def drawing(ax: Axes | None = None) -> Iterator[Axes]:
    """``ax``, or new axes on a figure of their own (``ax.figure``), in the style of the report."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        if ax is None:
            ax = Figure(figsize=SIZE, dpi=110).add_axes(BOX)
        ax.grid(True, which="major", color="#e3e6ea", lw=0.7)
        ax.set_axisbelow(True)
        yield ax


def lines(
    systems: Mapping[str, ArrayLike], *, markers: bool = False
) -> Iterator[tuple[str, NDArray[np.float64], dict[str, Any]]]:
    """(name, values, line style with label) of each system that has values."""
    for i, (name, values) in enumerate(systems.items()):
        array = np.asarray(values, dtype=np.float64)
        if array.size == 0 or not np.isfinite(array).any():
            continue
        style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "ls": DASHES[i % len(DASHES)]}
        style |= {"lw": 2.2 if i == 0 else 1.5, "zorder": 3 - 0.1 * i, "label": text(name)}
        yield name, array, style | ({"marker": MARKERS[i % len(MARKERS)], "ms": 4.5} if markers else {})


def legend(ax: Axes) -> None:
    """Names above the axes, where they hide no line; on a figure of its own the axes leave room for them."""
    names = [str(label) for label in ax.get_legend_handles_labels()[1]]
    if not names:
        return
    columns = 3 if max(map(len, names)) <= 14 else 2
    rows = -(-len(names) // columns)
    if rows > 2 and ax.figure.axes == [ax]:
        left, bottom, width, height = BOX
        ax.set_position((left, bottom, width, max(height - 0.055 * (rows - 2), 0.3)))
    place: Any = {"loc": "lower left", "bbox_to_anchor": (-0.03, 0.99), "borderaxespad": 0.3}
    ax.legend(**place, ncols=columns, fontsize=8.5, columnspacing=1.4, handlelength=2.2)


def diagonal(ax: Axes, low: float, high: float, label: str) -> None:
    """The line on which a right forecast lies."""
    ax.plot([low, high], [low, high], color="black", lw=1.2, zorder=1, label=label)


def text(name: str) -> str:
    """A name as matplotlib shows it as it is: no formula after $, no hidden label after _."""
    return name[:40].replace("$", r"\$").lstrip("_") or "unnamed"
