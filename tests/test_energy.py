"""The energy score: what it is least for, and that it is the fair CRPS of one coefficient."""

from __future__ import annotations

import pytest
import scores.probability
import torch
import xarray as xr

from finescale.diffusion.energy import energy_score

GEN = torch.Generator().manual_seed(0)


def test_of_one_coefficient_it_is_the_fair_crps() -> None:
    members, truth = (torch.randn(n, 3, 1, 2, 4, 5, generator=GEN, dtype=torch.float64) for n in (6, 1))
    expected = scores.probability.crps_for_ensemble(
        xr.DataArray(members.flatten(1).numpy(), dims=("m", "i")),
        xr.DataArray(truth.flatten().numpy(), dims="i"),
        "m",
        method="fair",
    )
    assert float(energy_score(members, truth[0])) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("members", [2, 4])
def test_it_is_least_for_the_distribution_of_the_data(members: int) -> None:
    """Too little and too much spread, and independent coefficients where the data's are equal, cost."""
    truth = torch.randn(20000, 1, 1, 1, 1, generator=GEN).expand(-1, 4, -1, -1, -1)
    same = torch.randn(members, 20000, 1, 1, 1, 1, generator=GEN).expand(-1, -1, 4, -1, -1, -1)
    found = {scale: float(energy_score(scale * same, truth)) for scale in (0.0, 0.7, 1.0, 1.4)}
    apart = float(energy_score(torch.randn(same.shape, generator=GEN), truth))
    assert min(found, key=lambda scale: found[scale]) == 1.0 and found[0.0] > found[0.7]
    assert apart > 1.03 * found[1.0]


def test_unknown_cells_carry_no_weight_and_equal_members_a_finite_gradient() -> None:
    members, truth = torch.randn(2, 3, 2, 1, 4, 4, generator=GEN), torch.randn(3, 2, 1, 4, 4, generator=GEN)
    weight = (torch.rand(3, 1, 1, 4, 4, generator=GEN) > 0.5).float()
    kept = energy_score(members, truth, weight)
    torch.testing.assert_close(energy_score(members, torch.where(weight > 0, truth, 99.0), weight), kept)
    same = truth.repeat(2, 1, 1, 1, 1, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(energy_score(same, truth), same)
    assert gradient.isfinite().all()
    with pytest.raises(ValueError, match="at least 2"):
        energy_score(members[:1], truth)
