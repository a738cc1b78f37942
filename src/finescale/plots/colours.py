"""A diverging colour map for errors: blue, white, brown, safe for colour-blind eyes.

Each half is a straight line in CIELAB (D65) between two colours, so equal steps of the value are equal steps of colour
difference ΔE*: perceptually uniform by construction. Both ends are equally dark.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOW, _MIDDLE, _HIGH = (35.0, -4.0, -42.0), (97.0, 0.0, 0.0), (35.0, 34.0, 44.0)
"""L*, a*, b*."""
_XYZ = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
"""CIE XYZ to linear sRGB (IEC 61966-2-1)."""
_WHITE = np.array([0.95047, 1.0, 1.08883])


def diverging(levels: int = 161) -> Any:
    """The matplotlib colour map, white in the middle."""
    from matplotlib.colors import ListedColormap

    place = np.linspace(-1.0, 1.0, levels)[:, None]
    low, middle, high = (np.array(c) for c in (_LOW, _MIDDLE, _HIGH))
    lab = middle + np.where(place < 0, -place * (low - middle), place * (high - middle))
    return ListedColormap(srgb(lab), "error")


def srgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB (N, 3) to sRGB (N, 3) within 0 … 1."""
    fy = (lab[:, 0] + 16) / 116
    f = np.stack([fy + lab[:, 1] / 500, fy, fy - lab[:, 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _WHITE
    linear = np.clip(xyz @ _XYZ.T, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
