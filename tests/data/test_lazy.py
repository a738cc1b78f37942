"""Fields that are not in memory: the same values whatever is read of them, whole chunks at a time, few of them kept."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import finescale
from finescale.cli import main
from finescale.data import coarsen as coarsening
from finescale.data.files import open_field
from finescale.data.lazy import Cache, blockwise, is_lazy, single, stored_chunks, tiles
from finescale.data.units import convert_units
from finescale.grids.coordinates import increasing


def stored(folder: Path, values: np.ndarray, chunks: tuple[int, ...] | None, kind: str = "nc", y: str = "lat") -> Path:
    """A store of rain, y from north to south."""
    times, height, width = values.shape
    units, dims = {"units": "degrees_north" if y == "lat" else "m"}, ("time", y, "lon" if y == "lat" else "x")
    coords = {
        "time": np.datetime64("2020-06-01", "ns") + np.arange(times) * np.timedelta64(1, "h"),
        y: (y, 60 - np.arange(height) * 0.01, units),
        dims[2]: (dims[2], np.arange(width) * 0.01),
    }
    ds = xr.Dataset({"rain": (dims, values, {"units": "mm h-1"})}, coords)
    path = folder / f"rain.{kind}"
    if kind == "nc":
        ds.to_netcdf(path, encoding={"rain": {"chunksizes": chunks, "zlib": True, "complevel": 1} if chunks else {}})
    else:
        ds.to_zarr(path, encoding={"rain": {"chunks": chunks}}, consolidated=True)
    return path


@pytest.fixture
def values(rng: np.random.Generator) -> np.ndarray:
    return rng.gamma(0.5, 2.0, (7, 23, 31)).astype(np.float32)


@pytest.mark.parametrize("chunks", [(2, 5, 7), (7, 23, 31), (1, 4, 31), None])
@pytest.mark.parametrize("kind", ["nc", "zarr"])
def test_any_box_is_the_same_in_blocks(
    tmp_path: Path, values: np.ndarray, chunks: tuple[int, ...] | None, kind: str
) -> None:
    path = stored(tmp_path, values, chunks, kind)
    field = open_field(path, chunks=None)
    assert is_lazy(field)
    if chunks is not None:
        assert stored_chunks(field) == chunks
    for size in (2**20, 4000):  # of the smaller cache some blocks are dropped, or it takes none
        kept = increasing(blockwise(single(field), Cache(size)))
        assert is_lazy(kept) and kept.dtype == np.float32 and stored_chunks(kept) == stored_chunks(field)
        whole = values[:, ::-1]
        cuts = [slice(None), slice(2, 5), slice(1, None, 3), slice(None, None, -2), 4, np.array([0, 3, 5])]
        for cut in itertools.product(cuts, cuts, cuts[:5]):
            if sum(isinstance(one, np.ndarray) for one in cut) > 1:
                continue
            np.testing.assert_array_equal(kept[cut].values, whole[cut], err_msg=str(cut))
        assert kept[3:3].values.size == 0
        part = kept[1:6, 3:20, 2:]  # as a region of it is
        np.testing.assert_array_equal(part[1:3, 4:9, 5:6].values, whole[1:6, 3:20, 2:][1:3, 4:9, 5:6])


def test_a_cache_holds_no_more_than_it_may() -> None:
    cache = Cache(1000)
    for n in range(9):
        cache.put((n,), np.full(25, n, np.float32))  # 100 bytes
    assert cache.held == 900
    assert cache.get((0,)) is not None  # used, so that others go before it
    for n in range(9, 14):
        cache.put((n,), np.full(25, n, np.float32))
        cache.put((n,), np.full(25, n, np.float32))
    assert cache.held == 1000
    there = [n for n in range(14) if cache.get((n,)) is not None]
    assert there == [0, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    assert all(float(block[0]) == n for n in there if (block := cache.get((n,))) is not None)


def test_two_fields_share_a_cache_and_nothing_else(tmp_path: Path, values: np.ndarray) -> None:
    cache = Cache()
    path = stored(tmp_path, values, (2, 5, 7))
    first = blockwise(open_field(path, chunks=None), cache)
    assert first.dtype == open_field(path, chunks=None).dtype
    np.testing.assert_array_equal(first.values, values)
    other = blockwise(convert_units(open_field(path, chunks=None), "m s-1"), cache)
    np.testing.assert_allclose(other.values, values / 3.6e6, rtol=1e-6)
    np.testing.assert_array_equal(first.values, values)


def test_units_are_converted_when_values_are_read(tmp_path: Path, values: np.ndarray) -> None:
    path = stored(tmp_path, values, (2, 5, 7))
    lazy = convert_units(open_field(path, chunks=None), "kg m-2 s-1")
    assert is_lazy(lazy) and lazy.attrs["units"] == "kg m-2 s-1"
    by_dask = convert_units(open_field(path), "kg m-2 s-1")
    assert by_dask.chunks is not None and lazy.dtype == by_dask.dtype
    np.testing.assert_array_equal(lazy.values, by_dask.values)


@pytest.mark.parametrize("chunks", [None, (4, 6), (100, 100), (1, 50)])
@pytest.mark.parametrize("cells", [1, 30, 10**6])
def test_tiles_hold_every_cell_once(chunks: tuple[int, int] | None, cells: int) -> None:
    count = np.zeros((23, 50), int)
    for y, x in tiles((23, 50), chunks, cells):
        count[y, x] += 1
        if chunks is not None:
            assert y.start % chunks[0] == 0 and x.start % chunks[1] == 0
    assert (count == 1).all()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """64 MiB in single precision."""
    rows = np.arange(1024, dtype=np.float32)[:, None] * np.ones((1, 1024), np.float32)
    return stored(tmp_path, np.stack([rows + n for n in range(16)]), (4, 128, 128), y="y")


def peak(do: Callable[[], object]) -> int:
    """Bytes that Python's and numpy's objects take at most."""
    tracemalloc.start()
    try:
        do()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_info_goes_through_a_file_in_parts(large: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(large)]) == 0  # imports are no part of it
    capsys.readouterr()
    assert peak(lambda: main(["info", str(large)])) < 40 * 2**20
    said = capsys.readouterr().out
    assert "min 0, mean 518.6, max 1038, missing 0.0%, above zero 100.0% (of 8 frames)" in said


def test_coarsen_goes_through_a_file_in_parts(
    large: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = large.with_name("coarse.nc")
    arguments = ["coarsen", str(large), "--factor", "1x8", "-o", str(out), "--overwrite"]
    monkeypatch.setattr(coarsening, "BOX", (2**16, 2**24))
    monkeypatch.setattr(coarsening, "KEPT", 2**23)
    assert main(arguments) == 0
    assert peak(lambda: main(arguments)) < 32 * 2**20
    rows = np.arange(1024).reshape(128, 8).mean(1)
    found = xr.open_dataset(out).rain.values
    np.testing.assert_allclose(found, np.arange(16)[:, None, None] + rows[:, None] * np.ones(128), rtol=1e-6)
    # Boxes of whole blocks are not those of the chunks, and the last is smaller.
    odd = ["coarsen", str(large), "--factor", "3x7", "--crop", "-o", str(out), "--overwrite"]
    assert main(odd) == 0
    rows = np.arange(1022).reshape(146, 7).mean(1)
    times = np.arange(15).reshape(5, 3).mean(1)
    wanted = times[:, None, None] + rows[:, None] * np.ones(146)
    np.testing.assert_allclose(xr.open_dataset(out).rain.values, wanted, rtol=1e-6)
    monkeypatch.setattr(coarsening, "MOST_CHUNKS", 3)
    monkeypatch.setattr(coarsening, "BOX", (2**16, 2**17))
    capsys.readouterr()
    assert main(odd) == 2
    assert "of which 3 can be handled at once: select a part of it" in capsys.readouterr().err


def test_what_is_coarsened_is_lazy_where_it_was(large: Path) -> None:
    by_path = finescale.coarsen(large, "1x8").rain
    assert by_path.chunks is not None
    opened = xr.open_dataset(large)
    held = finescale.coarsen(opened.isel(time=slice(2)).load(), "1x8").rain
    by_xarray = finescale.coarsen(opened, "1x8").rain
    assert held.chunks is None and by_xarray.chunks is None and isinstance(held.data, np.ndarray)
    np.testing.assert_array_equal(by_path.values, by_xarray.values)
    np.testing.assert_array_equal(held.values, by_xarray.values[:2])
