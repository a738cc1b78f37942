"""The arrays that every peer gets: training crops as finescale draws them, and the coarse fields of the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from harness import FACTOR, PLACES, Array
from numpy.lib.format import open_memmap
from one_step_systems import Test
from protocol import VARIED, WET

from finescale.data.files import open_field
from finescale.data.region import region
from finescale.data.units import convert_units
from finescale.grids.blocks import replicate
from finescale.grids.coordinates import increasing
from finescale.grids.factor import Factor
from finescale.training.crops import Crops

WEST = {"lon": [None, -94]}
BATCH = 64


def export(path: Path, tests: dict[str, Test], crops: int, side: int, folder: Path) -> None:
    """Write fine.npy and coarse.npy, crops of the training region, and PLACE.npy, the coarse fields of each test.

    Crops are drawn, turned and multiplied as finescale's own training does. Peers know nothing of missing cells: a
    missing fine cell gets its block's mean, a missing coarse cell 0.

    Args:
        path: of the fine field.
        tests: of each place.
        crops: how many are drawn.
        side: their cells a side.
        folder: where to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for place in PLACES:
        np.save(folder / f"{place}.npy", tests[place][1][:, 0, 0].nan_to_num().numpy().astype(np.float32))
    field = region(convert_units(increasing(open_field(path)), "mm h-1"), WEST).load()
    source = Crops([[field]], Factor.parse(f"1x{FACTOR}"), (1, side, side), WET, augmentation=VARIED)
    shapes = {"fine": side, "coarse": side // FACTOR}
    out = {
        name: open_memmap(folder / f"{name}.partial.npy", "w+", np.float32, (crops, n, n)) for name, n in shapes.items()
    }
    for start in range(0, crops, BATCH):
        batch = source.draw(min(BATCH, crops - start), 0, start)
        out["fine"][start : start + BATCH], out["coarse"][start : start + BATCH] = filled(
            batch.fine[:, 0, 0].numpy(), torch.as_tensor(batch.coarse)[:, 0, 0].numpy()
        )
    for name, array in out.items():
        array.flush()
        (folder / f"{name}.partial.npy").rename(folder / f"{name}.npy")


def filled(fine: Array, coarse: Array) -> tuple[Array, Array]:
    """Fields (n, H, W) and (n, h, w) without missing cells."""
    coarse = np.nan_to_num(coarse)
    return np.where(np.isnan(fine), replicate(coarse, Factor.parse(f"1x{FACTOR}")), fine), coarse
