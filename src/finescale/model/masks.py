"""The fine cells that were always missing in training, such as land in a field of the sea, kept with the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from finescale.grids.grid import Grid, inside
from finescale.model.remembers import Plane


class Masks(nn.Module):
    """Masks of C variables on some planes, a bit a cell.

    Args:
        planes: where they are.
        channels: C.
    """

    def __init__(self, planes: Sequence[Plane] = (), channels: int = 1) -> None:
        super().__init__()
        self.planes, self.channels = list(planes), channels
        for number, plane in enumerate(planes):
            size = math.ceil(channels * plane.y[2] * plane.x[2] / 8)
            self.register_buffer(f"packed{number}", torch.zeros(size, dtype=torch.uint8))

    def keep(self, number: int, valid: NDArray[np.bool_]) -> None:
        """Take (C, H, W), where cells are valid, as the mask of a plane."""
        getattr(self, f"packed{number}").copy_(torch.from_numpy(np.packbits(valid)))

    def at(self, grid: Grid) -> NDArray[np.bool_] | None:
        """Where cells are valid (C, H, W), for a grid whose cells are those of a plane, or a part of them; or None."""
        for number, plane in enumerate(self.planes):
            found = inside(plane.grid, grid)
            if found is not None:
                bits = np.unpackbits(getattr(self, f"packed{number}").cpu().numpy())
                shape = (self.channels, plane.y[2], plane.x[2])
                return bits[: math.prod(shape)].reshape(shape).astype(bool)[:, *found]
        return None
