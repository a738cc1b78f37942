"""Fields that are not in memory: mapped value by value, and read in the blocks in which they are stored.

A store decodes whole chunks. Random small boxes of it would decode the same chunks again and again, so `blockwise`
keeps the ones used last. Everything here is xarray's lazy indexing, without dask: a graph of a store of millions of
chunks would take longer to cut than a box to read.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray
from xarray.core import indexing

Array = NDArray[Any]
BLOCKS = 2**28
"""Bytes of decoded blocks that are kept."""
LARGEST = 16
"""A block beyond this part of them is not kept: the store is then read as it comes."""
_NUMBERS = itertools.count()
"""Of arrays whose blocks lie in a cache; an object's id may be another's later."""


class Cache:
    """The decoded blocks used last, of any number of arrays; threads may share it.

    Args:
        size: bytes that it holds at most.
    """

    def __init__(self, size: int = BLOCKS) -> None:
        self.size, self.held = size, 0
        self._blocks: OrderedDict[tuple[Any, ...], Array] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[Any, ...]) -> Array | None:
        """The block of a key, if it is still there."""
        with self._lock:
            found = self._blocks.get(key)
            if found is not None:
                self._blocks.move_to_end(key)
            return found

    def put(self, key: tuple[Any, ...], block: Array) -> None:
        """Keep a block; those not used for longest go."""
        with self._lock:
            self.held += block.nbytes - self._drop(key)
            self._blocks[key] = block
            while self.held > self.size:
                self.held -= self._drop(next(iter(self._blocks)))

    def _drop(self, key: tuple[Any, ...]) -> int:
        before = self._blocks.pop(key, None)
        return 0 if before is None else before.nbytes


class Mapped(xr.backends.BackendArray):
    """A lazy variable to whose values a function is applied when they are read.

    Args:
        variable: the variable.
        function: of each value on its own.
        dtype: of what it gives.
    """

    def __init__(self, variable: xr.Variable, function: Callable[[Array], Array], dtype: DTypeLike) -> None:
        self.variable, self.function = variable, function
        self.shape, self.dtype = variable.shape, np.dtype(dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> Array:
        return self.function(np.asarray(self.variable[key].values))


class Blockwise(xr.backends.BackendArray):
    """A lazy variable that is read in whole blocks.

    Args:
        variable: the variable.
        block: cells of a block along each dimension.
        cache: where blocks are kept.
    """

    def __init__(self, variable: xr.Variable, block: tuple[int, ...], cache: Cache) -> None:
        self.variable, self.block, self.cache = variable, block, cache
        self.number = next(_NUMBERS)
        self.shape, self.dtype = variable.shape, variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> Array:
        ranges = [
            range(n)[k] if isinstance(k, slice) else range(k, k + 1) for k, n in zip(key, self.shape, strict=True)
        ]
        if not all(ranges):
            return np.empty([len(r) for r in ranges], self.dtype)
        box = self._box(tuple(slice(r[0], r[-1] + 1) for r in ranges))
        return box[tuple(0 if not isinstance(k, slice) else slice(None, None, k.step) for k in key)]

    def _box(self, box: tuple[slice, ...]) -> Array:
        """A box, from the blocks that it touches."""
        numbers = [range(s.start // b, (s.stop - 1) // b + 1) for s, b in zip(box, self.block, strict=True)]
        places = list(itertools.product(*numbers))
        found = {place: self.cache.get((self.number, *place)) for place in places}
        if all(block is None for block in found.values()):
            # One request for all of them: the store may decode its chunks in parallel.
            whole = tuple(
                slice(r[0] * b, min((r[-1] + 1) * b, n))
                for r, b, n in zip(numbers, self.block, self.shape, strict=True)
            )
            values = self._stored(whole)
            for place in places:
                inside = tuple(
                    slice(at.start - by.start, at.stop - by.start)
                    for at, by in zip(self._cells(place), whole, strict=True)
                )
                # A copy: a view would keep all of them in memory.
                self.cache.put((self.number, *place), values[inside].copy())
            return values[tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(box, whole, strict=True))]
        out = np.empty([s.stop - s.start for s in box], self.dtype)
        for place, block in found.items():
            cells = self._cells(place)
            if block is None:
                block = self._stored(cells)
                self.cache.put((self.number, *place), block)
            both = [(max(s.start, c.start), min(s.stop, c.stop)) for s, c in zip(box, cells, strict=True)]
            into = tuple(slice(a - s.start, b - s.start) for (a, b), s in zip(both, box, strict=True))
            out[into] = block[tuple(slice(a - c.start, b - c.start) for (a, b), c in zip(both, cells, strict=True))]
        return out

    def _cells(self, place: tuple[int, ...]) -> tuple[slice, ...]:
        return tuple(slice(i * b, min((i + 1) * b, n)) for i, b, n in zip(place, self.block, self.shape, strict=True))

    def _stored(self, cells: tuple[slice, ...]) -> Array:
        return np.asarray(self.variable[cells].values)


def is_lazy(da: xr.DataArray) -> bool:
    """Whether values are read when they are asked for, by xarray and not by dask."""
    return isinstance(da.variable._data, indexing.ExplicitlyIndexed)


def mapped(da: xr.DataArray, function: Callable[[Array], Array], dtype: DTypeLike) -> xr.DataArray:
    """A lazy field (`is_lazy`) whose values go through a function, each on its own, when they are read."""
    return _with(da, Mapped(da.variable, function, dtype))


def single(da: xr.DataArray) -> xr.DataArray:
    """``da`` in single precision, lazily where it is lazy."""
    return mapped(da, lambda values: values.astype(np.float32), np.float32) if is_lazy(da) else da.astype(np.float32)


def blockwise(da: xr.DataArray, cache: Cache) -> xr.DataArray:
    """``da`` read in its stored chunks, of which ``cache`` keeps the ones used last.

    A field that dask reads, that is in memory, or that is stored in one piece or in huge ones stays as it is.
    """
    chunks = stored_chunks(da) if is_lazy(da) else None
    if chunks is None or math.prod(chunks) * da.dtype.itemsize * LARGEST > cache.size:
        return da
    return _with(da, Blockwise(da.variable, chunks, cache))


def stored_chunks(da: xr.DataArray) -> tuple[int, ...] | None:
    """Cells of a chunk on disk (or of dask) along each dimension; None where there are none."""
    if da.chunks is not None:
        return tuple(max(sizes) for sizes in da.chunks)
    preferred = da.encoding.get("preferred_chunks") or {}
    if not any(dim in preferred for dim in da.dims):
        return None
    return tuple(min(int(np.max(preferred.get(dim, 1))), n) for dim, n in da.sizes.items())


def tiles(shape: tuple[int, int], chunks: tuple[int, int] | None, cells: int) -> Iterator[tuple[slice, slice]]:
    """Parts of a plane (H, W), row by row: whole chunks, as many as have about ``cells`` cells together."""
    height, width = chunks or (1, shape[1])
    across = min(shape[1], max(1, cells // (height * width)) * width)
    down = min(shape[0], max(1, cells // (height * across)) * height)
    for y in range(0, shape[0], down):
        for x in range(0, shape[1], across):
            yield slice(y, min(y + down, shape[0])), slice(x, min(x + across, shape[1]))


def _with(da: xr.DataArray, array: xr.backends.BackendArray) -> xr.DataArray:
    variable = xr.Variable(da.dims, indexing.LazilyIndexedArray(array), da.attrs)
    out = xr.DataArray(variable, da.coords, name=da.name)
    out.encoding = dict(da.encoding)  # the constructor leaves it behind
    return out
