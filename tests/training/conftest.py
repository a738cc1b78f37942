"""What tests of training share: a file from which everything can be learned, logs, and equal models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

Log = dict[tuple[str, int], dict[str, float]]


@pytest.fixture
def waves(stored: Callable[[np.ndarray, Path], Path], tmp_path: Path) -> Path:
    """Products of sines of three coarse cells each, at other phases every hour: the coarse field tells all of the fine.

    Its best mean and its best denoiser have no error at all, and interpolation, with which both start, loses a third of
    the amplitude.
    """
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, (2, 8, 1, 1))
    y, x = 2 * np.pi * np.arange(48)[:, None] / 12, 2 * np.pi * np.arange(64) / 12
    return stored(np.sin(x + phase[0]) * np.sin(y + phase[1]), tmp_path / "waves.nc")


@pytest.fixture(scope="session")
def log() -> Callable[[Path], Log]:
    """``log(folder)``: the last row of every stage and step."""

    def read(folder: Path) -> Log:
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return {(row["stage"], row["step"]): row for row in rows}

    return read


@pytest.fixture(scope="session")
def equal() -> Callable[..., None]:
    """``equal(a, b, **tolerance)``: the networks have equal weights and statistics."""

    def compare(a: torch.nn.Module, b: torch.nn.Module, **tolerance: float) -> None:
        for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
            torch.testing.assert_close(x, y, **tolerance, msg=lambda text, name=name: f"{name}: {text}")

    return compare
