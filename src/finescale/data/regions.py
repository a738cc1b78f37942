"""Regions of variables written into a Zarr store that is there, by any process that knows its name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from finescale.data.packing import Packed
from finescale.data.place import Remote, place

if TYPE_CHECKING:
    import zarr

Region = tuple[slice, ...]
Part = tuple[str, Region, NDArray[np.float32]]
"""A variable's name, a region of it, and its values there."""


class ZarrRegions:
    """A Zarr store to write regions of; pickled, it is the store's name, which another process opens.

    Regions that share a chunk must not be written at once.

    Args:
        where: the store's folder, or its URL.
    """

    def __init__(self, where: str) -> None:
        self.where = where

    def __reduce__(self) -> tuple[type[ZarrRegions], tuple[str]]:
        return ZarrRegions, (self.where,)

    @cached_property
    def group(self) -> zarr.Group:
        """The store, opened once in a process."""
        import zarr

        where = place(self.where)
        return zarr.open_group(where.zarr() if isinstance(where, Remote) else str(where), mode="r+")

    @cached_property
    def _arrays(self) -> dict[str, zarr.Array[Any]]:
        return {}

    def array(self, name: str) -> zarr.Array[Any]:
        """A variable, opened once."""
        if name not in self._arrays:
            self._arrays[name] = cast("zarr.Array[Any]", self.group[name])
        return self._arrays[name]

    def write(self, parts: Sequence[Part]) -> None:
        """Write what a task made."""
        for name, region, values in parts:
            array = self.array(name)
            packed = Packed.of(array.dtype, dict(array.attrs))
            array[region] = values if packed is None else packed.stored(values, name)
