"""The public face: what `import finescale` offers, and how little it loads."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import finescale
from finescale.cli import allocator
from finescale.data.synthetic import synthetic_rain


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
        assert getattr(finescale, name).__name__.removeprefix("finescale.") == name
    assert set(finescale.__all__) <= set(dir(finescale))
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        finescale.lod  # noqa: B018


def test_the_five_verbs_do_what_the_commands_do(tmp_path: Path) -> None:
    """On files, with what each returns, and `repr` of the model in ten lines."""
    fine, coarse, ensemble = (tmp_path / f"{name}.nc" for name in ("fine", "coarse", "ensemble"))
    rain = synthetic_rain((3, 32, 48), seed=1)
    rain.to_dataset().to_netcdf(fine, engine="netcdf4")
    means = finescale.coarsen(fine, "1x4", coarse)
    assert means.sizes["y"] == 8 and finescale.coarsen(rain, "1x4").sizes["x"] == 12
    changes: dict[str, Any] = {
        "preset": "wavelet",
        "factor": "1x4",
        "mean": "interpolation",
        "denoiser": {"backbone": {"kind": "unet", "width": 8, "multipliers": [1], "heads": 1}},
        "data": {"path": str(fine), "crop": 16, "min_wet": 0.0},
        "train": {"steps": 2, "minutes": None, "batch": 2},
    }
    model = finescale.fit(changes, tmp_path / "model")
    assert finescale.downscale(tmp_path / "model", coarse, ensemble, members=2, steps=2, progress=False) is None
    in_memory = finescale.downscale(model, means, members=2, steps=2)
    assert in_memory is not None
    with xr.open_dataset(ensemble, engine="netcdf4") as written:
        again = written["precipitation_rate"].load().transpose("realization", ...)
        xr.testing.assert_equal(again, in_memory["precipitation_rate"])
    assert (
        finescale.verify(ensemble, fine, tmp_path / "scores", baselines=["nearest"])["systems"]["ensemble"]["crps"] > 0
    )
    assert str(finescale.recipe("3x10")).startswith("3x10 (time x space)")
    lines = repr(finescale.load(tmp_path / "model")).splitlines()
    assert len(lines) <= 10 and lines[0] == "Downscaler of precipitation_rate in mm h-1"
    for words in ("factor     1x4", "lapped", "unet", "M parameters", "smooth", "2 steps on"):
        assert any(words in line for line in lines), (words, lines)


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
