"""Make src/finescale/plots/coast.npz, the coastlines of maps, from Natural Earth's land at 1:10 million.

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    python docs/coast.py package/land-10m.json

Natural Earth (naturalearthdata.com, version 4.1) is in the public domain; world-atlas packs it as TopoJSON. Lines are
simplified to `TOLERANCE`, stored in hundredths of a degree as steps from point to point, and cut where polygons are
closed along the date line and the South Pole, which are no coasts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.measure import approximate_polygon

OUT = Path(__file__).parent.parent / "src" / "finescale" / "plots" / "coast.npz"
TOLERANCE = 0.02
"""Degrees that a line may be off, about 2 km."""
UNIT = 0.01
"""Degrees."""


def arcs(path: Path) -> Iterator[NDArray[np.float64]]:
    """Lines (N, 2) of longitude and latitude in degrees."""
    topology = json.loads(path.read_text(encoding="utf-8"))
    scale, translate = (np.array(topology["transform"][key]) for key in ("scale", "translate"))
    for steps in topology["arcs"]:
        yield np.cumsum(np.array(steps, dtype=np.float64), axis=0) * scale + translate


def coasts(line: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The parts of a closed line that are coasts: not those along the edges of the map."""
    edge = (np.abs(line[:, 0]) > 179.99) | (line[:, 1] < -89.99)
    cut = (edge[:-1] & edge[1:]) | (np.abs(np.diff(line[:, 0])) > 180)
    return [part for part in np.split(line, np.flatnonzero(cut) + 1) if len(part) > 1]


def main(path: Path) -> None:
    kept = []
    for line in arcs(path):
        for part in coasts(line):
            points = np.round(approximate_polygon(part, TOLERANCE) / UNIT).astype(np.int16)
            points = points[np.concatenate([[True], (np.diff(points, axis=0) != 0).any(axis=1)])]
            if len(points) > 1:
                kept.append(points)
    steps = np.diff(np.concatenate(kept), axis=0, prepend=np.zeros((1, 2), np.int16))  # wraps around, and back
    np.savez_compressed(OUT, steps=np.ascontiguousarray(steps.T), lengths=np.array([len(p) for p in kept], np.uint16))
    print(f"{OUT.name}: {len(kept)} lines, {len(steps)} points, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
