"""The structure function's exponent, against loops and fields whose exponent is known."""

from __future__ import annotations

import math

import pytest
import torch

from finescale.grids.factor import Factor
from finescale.operators.interpolate import upsample
from finescale.operators.structure import exponent, halved


def looped(y: torch.Tensor, counted: torch.Tensor, lag: int) -> float:
    """D(lag) of one plane, pair by pair."""
    squares = [
        float(y[i, j] - y[i + di, j + dj]) ** 2
        for i in range(y.shape[0])
        for j in range(y.shape[1])
        for di, dj in ((lag, 0), (0, lag))
        if i + di < y.shape[0] and j + dj < y.shape[1] and counted[i, j] and counted[i + di, j + dj]
    ]
    return sum(squares) / len(squares)


def test_it_is_that_of_loops_over_pairs() -> None:
    y, counted = torch.randn(2, 1, 1, 24, 30).cumsum(-1), torch.rand(2, 1, 1, 24, 30) < 0.8
    found = exponent(y, counted)
    for item in range(2):
        planes = y[item, 0, 0], counted[item, 0, 0]
        wanted = math.log(looped(*planes, 4) / looped(*planes, 1)) / math.log(4)
        assert float(found[item]) == pytest.approx(wanted, rel=1e-4)


def test_of_noise_a_walk_and_a_plane() -> None:
    """White noise 0, a random walk along x 1 (constant along y), a ramp 2."""
    torch.manual_seed(0)
    noise, walk = torch.randn(1, 256, 256), torch.randn(1, 1, 4000).cumsum(-1).expand(1, 64, 4000)
    ramp = torch.arange(64.0).expand(1, 64, 64)
    found = [float(exponent(y, torch.ones_like(y, dtype=torch.bool))) for y in (noise, walk, ramp)]
    assert found == pytest.approx([0, 1, 2], abs=0.06)


@pytest.mark.parametrize("zeta", [0.5, 0.8, 1.5])
def test_of_fields_interpolated_to_half_cells(zeta: float) -> None:
    """Exact: of a field of covariance c − l^ζ, which `upsample` makes that of a fine one."""
    n = 9
    places = torch.cartesian_prod(*[torch.arange(float(n), dtype=torch.float64)] * 2)
    covariance = 1e3 - torch.cdist(places, places) ** zeta
    fine = upsample(torch.eye(n * n, dtype=torch.float64).reshape(-1, 1, 1, n, n), Factor(y=2, x=2), "linear")
    covariance = fine.flatten(1).mT @ covariance @ fine.flatten(1)

    def differences(lag: int) -> float:
        at = [(y, x) for y in (6, 7) for x in (6, 7)]
        pairs = [(y * 2 * n + x, (y + lag) * 2 * n + x) for y, x in at]
        return float(sum(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j] for i, j in pairs))

    assert halved(zeta) == pytest.approx(math.log(differences(4) / differences(1)) / math.log(4), abs=1e-9)
    assert halved(zeta) > zeta + 0.2


def test_too_few_pairs_and_no_differences_tell_nothing() -> None:
    y, counted = torch.randn(3, 32, 32), torch.ones(3, 32, 32, dtype=torch.bool)
    counted[0, 5:] = False
    y[1] = 3.0
    assert exponent(y, counted).isnan().tolist() == [True, True, False]
    assert exponent(torch.randn(1, 3, 3), torch.ones(1, 3, 3, dtype=torch.bool)).isnan().all()
