"""Contract of every schedule: levels that fall from sigma_max to exactly 0."""

from __future__ import annotations

import inspect

import pytest
import torch

from finescale import diffusion
from finescale.diffusion import EDM, VP, VPSDE, DiscreteVP, Schedule, VPCosine

KINDS: list[type[Schedule]] = [EDM, VP, VPSDE, VPCosine]


def test_every_exported_schedule_is_in_the_contract_test() -> None:
    exported = [getattr(diffusion, name) for name in diffusion.__all__]
    found = {item for item in exported if inspect.isclass(item) and issubclass(item, Schedule)}
    assert found - {Schedule, DiscreteVP} == set(KINDS)


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@pytest.mark.parametrize("kind", KINDS)
def test_levels_fall_from_the_largest_to_zero(kind: type[Schedule], steps: int) -> None:
    schedule = kind()
    sigmas = schedule.sigmas(steps)
    assert sigmas.shape == (steps + 1,) and sigmas.dtype == torch.float64
    assert float(sigmas[0]) == pytest.approx(schedule.sigma_max, rel=1e-12) and float(sigmas[-1]) == 0
    assert (sigmas.diff() < 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_no_steps_are_refused(kind: type[Schedule]) -> None:
    with pytest.raises(ValueError, match="steps must be"):
        kind().sigmas(0)
