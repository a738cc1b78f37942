"""The public face: what `import finescale` offers, and how little it loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

import finescale


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


FAULTS = """
import resource, numpy as np
from finescale.cli.allocator import keep_memory
{call}
for n in range(20):
    np.ones(4_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for n in range(20):
    np.ones(4_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone maps large blocks anew")
def test_kept_memory_is_not_touched_for_the_first_time_again() -> None:
    def faults(call: str) -> int:
        code = FAULTS.format(call=call)
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    kept = faults("assert keep_memory()")
    assert kept < 0.2 * faults("") + 100
