"""Bicubic with white noise: the right spread, nothing else, and the same whatever the parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from finescale.cli import main
from finescale.data.synthetic import synthetic_rain
from finescale.verify.baselines import noise


@pytest.mark.parametrize("rain", [True, False])
def test_members_have_the_variance_of_the_error(rain: bool) -> None:
    """A frame of its own each, whatever is unknown; means are those of the field."""
    rng = np.random.default_rng(0)
    field = rng.gamma(2.0, 1.0, (2, 60, 80))
    truth = field + np.array([0.5, 2.0])[:, None, None] * rng.standard_normal(field.shape)
    truth[:, :10] = np.nan
    members = noise(field, truth, 40, rain=rain, seed=1)
    assert members.shape == (40, 2, 60, 80)
    for t in range(2):
        error = np.nanmean((truth[t] - field[t]) ** 2)
        seen = np.isfinite(truth[t])
        assert members[:, t].var(0)[seen].mean() == pytest.approx(error, rel=0.15)
        assert members[:, t][:, seen].mean() == pytest.approx(field[t][seen].mean(), rel=0.02)
    assert not rain or members.min() >= 0
    np.testing.assert_array_equal(noise(field[1:], truth[1:], 3, rain=rain, seed=1, first=1), members[:3, 1:])


def test_a_dry_frame_stays_dry_and_a_perfect_one_has_no_spread() -> None:
    dry, wet = np.zeros((1, 4, 4)), np.ones((1, 4, 4))
    assert not noise(dry, wet, 2, rain=True).any()
    np.testing.assert_array_equal(noise(wet, wet, 2, rain=False), np.ones((2, 1, 4, 4)))


def test_its_spread_fits_its_skill_in_the_report(tmp_path: Path) -> None:
    """Through the command: no verdict flatters an ensemble for merely being one."""
    rain = synthetic_rain((6, 64, 64), seed=2).to_dataset(name="rain")
    rain.to_netcdf(tmp_path / "fine.nc")
    ensemble = rain["rain"].expand_dims(realization=3).to_dataset().assign_attrs(finescale_factor="1x4")
    ensemble.to_netcdf(tmp_path / "ensemble.nc")
    words = ["verify", tmp_path / "ensemble.nc", tmp_path / "fine.nc", "-o", tmp_path / "out", "--no-report"]
    assert main([str(word) for word in words]) == 0
    systems = json.loads((tmp_path / "out" / "scores.json").read_text())["systems"]
    assert systems["noise"]["spread_skill"] == pytest.approx(1, abs=0.15)  # of few draws with a long tail
    assert systems["noise"]["crps"] < systems["bicubic"]["crps"]
