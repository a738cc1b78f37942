"""What sampling costs is said before it begins, where it costs much."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from finescale.cli import main
from finescale.data.writing import write
from finescale.downscaler import Downscaler

COST = "1000 network evaluations for each of 3 members in each of 2 windows, 6,000 in all"


@pytest.fixture
def downscale(
    tiny: dict[str, Any], built: Callable[..., Downscaler], rain: Callable[..., xr.Dataset], tmp_path: Path
) -> list[str]:
    process = {"schedule": {"kind": "vp"}, "sampler": "ancestral", "steps": 1000}
    built(process=process).save(tmp_path / "model")
    write(rain(2, 8, 8), tmp_path / "coarse.nc")
    return ["downscale", str(tmp_path / "model"), str(tmp_path / "coarse.nc"), "-o", str(tmp_path / "out.nc")]


def test_a_thousand_steps_are_told_before_they_begin(
    downscale: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Downscaler, "sample", stop)
    assert main([*downscale, "--members", "3"]) == 130
    lines = [line for line in capsys.readouterr().err.splitlines() if "finescale:" in line]
    assert len(lines) == 2 and COST in lines[0] and lines[0].startswith("finescale: warning: ")


def test_few_steps_are_not(downscale: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*downscale, "--members", "3", "--steps", "2"]) == 0
    assert "evaluations" not in capsys.readouterr().err


def test_more_steps_than_the_schedule_has_are_told_first(
    downscale: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Downscaler, "sample", lambda *_: pytest.fail("sampled"))
    assert main([*downscale, "--steps", "1001"]) == 2
    assert "steps must be 1 to 1000" in capsys.readouterr().err
