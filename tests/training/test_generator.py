"""A generator, trained and used by the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import finescale
from finescale.cli import main


def test_fit_trains_one_and_downscale_draws_from_it(
    waves: Path, generating: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line, as every other preset."""
    settings = generating | {"data.path": waves, "data.crop": 32, "data.min_wet": 0, "train.steps": 3, "train.batch": 2}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    assert main(["fit", "one-step", "-o", str(tmp_path / "model"), *words]) == 0
    assert main(["coarsen", str(waves), "-o", str(tmp_path / "c.nc"), "--factor", "1x4"]) == 0
    assert main(["downscale", str(tmp_path / "model"), str(tmp_path / "c.nc"), "-o", str(tmp_path / "e.nc")]) == 0
    assert "one evaluation" in repr(finescale.load(tmp_path / "model"))
    distilled = ["fit", "--distill", str(tmp_path / "model"), "-o", str(tmp_path / "d")]
    assert main(distilled) == 2 and "no denoiser to distil" in capsys.readouterr().err
