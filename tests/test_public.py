"""The public face: what `import finescale` offers, and how little it loads."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

import finescale
from finescale.cli import allocator


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after ``code``."""
    code += "; import sys; print(*{name.split('.')[0] for name in sys.modules})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_loads_neither_torch_nor_xarray() -> None:
    heavy = {"torch", "xarray", "pandas", "dask", "matplotlib", "scipy", "lightning_fabric", "pydantic"}
    assert not heavy & loaded_by("import finescale")
    assert not heavy & loaded_by("from finescale import Factor, Grid, InputError; Grid.regular((1, 2, 3))")


def test_files_open_without_torch() -> None:
    loaded = loaded_by("import finescale.data.files, finescale.data.synthetic, finescale.grids.coordinates")
    assert "xarray" in loaded and "torch" not in loaded


def test_every_public_name_is_there() -> None:
    for name in finescale.__all__:
        assert getattr(finescale, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        finescale.lod  # noqa: B018


# malloc.h of glibc.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


@pytest.mark.parametrize("answers", [(1, 1), (1, 0), (0, 1)])
def test_kept_memory_raises_both_thresholds_of_the_allocator(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[int, int]
) -> None:
    """What that spares: benchmarks/startup.py counts the pages that are touched for the first time."""
    asked: dict[int, int] = {}
    replies = iter(answers)

    def mallopt(what: int, size: int) -> int:
        asked[what] = size
        return next(replies)

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: types.SimpleNamespace(mallopt=mallopt))
    assert allocator.keep_memory() == all(answers)
    if all(answers):
        assert set(asked) == {M_TRIM_THRESHOLD, M_MMAP_THRESHOLD}
        # Below 2 GiB, for mallopt takes an int; freed blocks stay as long as a mapped one would be large.
        assert 2**25 < asked[M_MMAP_THRESHOLD] < asked[M_TRIM_THRESHOLD] < 2**31


def test_memory_is_kept_by_glibc_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: types.SimpleNamespace())
    monkeypatch.setattr(sys, "platform", "linux")
    assert not allocator.keep_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocator.keep_memory()
