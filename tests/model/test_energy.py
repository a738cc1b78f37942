"""Proper scores as a loss, against loops and closed forms."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import scoringrules
import torch
from torch import Tensor

from finescale.model.energy import LEAST, Score, directed, energy

ROUNDING = 64 * torch.finfo(torch.float32).eps
"""Sums of up to 64 numbers near 1."""


def fields(members: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Two crops of two variables and two frames, a quarter of whose cells are unknown."""
    members_, truth = torch.randn(2, members, 2, 2, 6, 8), torch.randn(2, 2, 2, 6, 8)
    return members_, truth, (torch.rand(2, 1, 2, 6, 8) > 0.25).float()


def looped(members: Tensor, truth: Tensor, known: Tensor, side: int) -> list[float]:
    """The score in float64, patch by patch, from the formula in the module; patches start in the corner."""
    x, y, k = (field.double().numpy() for field in (members, truth, known))
    found = []
    for crop in range(len(x)):
        total = weight = 0.0
        frames = [slice(t, t + 1) for t in range(2)] if side == 1 else [slice(None)]
        for t, i, j in product(frames, range(0, 6 - side + 1, side), range(0, 8 - side + 1, side)):
            cut = (slice(None), t, slice(i, i + side), slice(j, j + side))
            share = k[crop][cut]
            count = max(share.sum(), 1e-9)

            def d(a: np.ndarray, b: np.ndarray, share: np.ndarray = share, count: float = count) -> float:
                return float(np.sqrt((share * (a - b) ** 2).mean(0).sum() / count))

            some = [member[cut] for member in x[crop]]
            n = len(some)
            near = np.mean([d(a, y[crop][cut]) for a in some])
            apart = sum(d(a, b) for m, a in enumerate(some) for o, b in enumerate(some) if m != o)
            total += share.sum() * (near - apart / (2 * n * (n - 1)))
            weight += share.sum()
        found.append(total / weight)
    return found


@pytest.mark.parametrize("side", [1, 2, 3])
@pytest.mark.parametrize("count", [2, 4])
def test_the_energy_score_is_its_formula(side: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    members, truth, known = fields(count)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor(0))
    found = energy(members, truth, known, side, torch.Generator())
    wanted = torch.tensor(looped(members, truth, known, side), dtype=torch.float32)
    torch.testing.assert_close(found, wanted, rtol=ROUNDING, atol=3 * math.sqrt(LEAST))


def test_single_cells_of_one_variable_are_the_crps() -> None:
    members, truth = torch.randn(1, 5, 1, 1, 4, 4), torch.randn(1, 1, 1, 4, 4)
    wanted = scoringrules.crps_ensemble(truth[0, 0, 0].numpy(), members[0, :, 0, 0].numpy(), m_axis=0, estimator="fair")
    found = energy(members, truth, torch.ones(1, 1, 1, 4, 4), 1, torch.Generator())
    assert float(found) == pytest.approx(wanted.mean(), abs=ROUNDING + 3 * math.sqrt(LEAST))


def test_patches_start_anywhere_and_a_small_crop_is_one() -> None:
    members, truth, known = fields()
    corners = {round(float(energy(members, truth, known, 4, torch.Generator().manual_seed(n))[0]), 6) for n in range(9)}
    assert len(corners) > 1
    whole = energy(members, truth, known, 100, torch.Generator())
    assert whole.shape == (2,) and whole.isfinite().all()


@pytest.mark.parametrize(
    ("scale", "shift", "rough"), [(0.5, 0.0, 1.0), (2.0, 0.0, 1.0), (1.0, 0.5, 1.0), (1.0, 0.0, 0.0)]
)
def test_the_truth_scores_best(scale: float, shift: float, rough: float) -> None:
    """Members of the truth's own distribution have the least expected score: not those of another spread, mean or
    texture (``rough`` 0: every cell of a patch alike)."""

    def drawn(count: int) -> Tensor:
        return torch.randn(4000, count, 1, 1, 4, 4)

    known, truth = torch.ones(4000, 1, 1, 4, 4), drawn(1)[:, 0]
    other = drawn(2)
    other = scale * (rough * other + (1 - rough) * other[..., :1, :1]) + shift
    score, generator = Score(patches=(1, 4), differences=(1,)), torch.Generator().manual_seed(0)
    gain = score.of(other, truth, known, generator) - score.of(drawn(2), truth, known, generator)
    assert gain.mean() > 4 * gain.std() / math.sqrt(len(gain))


@pytest.mark.parametrize("side", [1, 2, 3])
def test_directions_are_scored_by_their_formula(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    members, truth, known = fields()
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor(0))
    found = directed(members, truth, known, side, torch.Generator())
    k = known.double().numpy()
    k = k[..., 1:, 1:] * k[..., :-1, 1:] * k[..., 1:, :-1] * k[..., :-1, :-1]
    frames = [slice(t, t + 1) for t in range(2)] if side == 1 else [slice(None)]
    for crop in range(2):
        total = weight = 0.0
        for t, i, j in product(frames, range(0, 6 - side, side), range(0, 8 - side, side)):
            cut = (slice(None), t, slice(i, i + side), slice(j, j + side))
            share = k[crop][cut]

            def along(x: Tensor, cut: tuple[slice, ...] = cut, share: np.ndarray = share) -> np.ndarray:
                z = x.double().numpy()
                steps = z[:, :, 1:, 1:] - z[:, :, :-1, :-1], z[:, :, 1:, :-1] - z[:, :, :-1, 1:]
                u, w = (share * step[cut] for step in steps)
                uu, ww, uw = (product.sum((1, 2, 3)) / max(share.sum(), 1e-9) for product in (u * u, w * w, u * w))
                return np.asarray(np.stack([uu - ww, 2 * uw]) / np.sqrt(uu + ww + LEAST))

            def d(a: np.ndarray, b: np.ndarray) -> float:
                return float(np.sqrt(((a - b) ** 2).mean()))

            x, y = [along(member) for member in members[crop]], along(truth[crop])
            near, n = np.mean([d(a, y) for a in x]), len(x)
            apart = sum(d(a, b) for m, a in enumerate(x) for o, b in enumerate(x) if m != o)
            total += share.mean() * (near - apart / (2 * n * (n - 1)))
            weight += share.mean()
        # Roots of sums of squares amplify rounding where these are small.
        assert float(found[crop]) == pytest.approx(total / weight, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("length", [0, 16])
def test_lines_that_are_too_long_or_none_score_worse(length: int) -> None:
    """The truth's gradients lie nearly along one line within a patch, here any; those of members along the same, or
    in all directions alike."""
    known = torch.ones(20_000, 1, 1, 9, 9)

    def drawn(count: int, length: float) -> Tensor:
        """Plane waves of any direction, and noise of any wavelength: variance 1."""
        turn = 2 * math.pi * torch.rand(20_000, count, 1, 1, 1, 1)
        y, x = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
        wave = math.sqrt(2) * (turn.cos() * x + turn.sin() * y + 2 * math.pi * torch.rand_like(turn)).sin()
        share = length / 16
        return math.sqrt(share) * wave + math.sqrt(1 - share) * torch.randn(wave.shape)

    truth, score = drawn(1, 8)[:, 0], Score(patches=(), differences=(), directions=(8,))
    generator = torch.Generator().manual_seed(0)
    gain = score.of(drawn(2, length), truth, known, generator) - score.of(drawn(2, 8), truth, known, generator)
    assert gain.mean() > 4 * gain.std() / math.sqrt(len(gain))


def test_what_is_unknown_does_not_count() -> None:
    members, truth, known = fields()
    score = Score()
    found = score.of(members, truth, known, torch.Generator().manual_seed(0))
    there = known[:, None].bool()
    changed = torch.where(there, members, 100 * torch.rand_like(members))
    other = torch.where(known.bool(), truth, -50.0)
    again = score.of(changed, other, known, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, again)


def test_slopes_are_finite_where_members_are_equal() -> None:
    members = torch.zeros(1, 2, 1, 1, 8, 8, requires_grad=True)
    Score().of(members, torch.zeros(1, 1, 1, 8, 8), torch.ones(1, 1, 1, 8, 8), torch.Generator()).sum().backward()
    assert members.grad is not None and members.grad.isfinite().all()


def test_frames_that_are_judged_apart_are_crops_of_one_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    members, truth, known = fields()
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor(0))
    score = Score(patches=(1, 3), differences=(1,), together=False)
    found = score.of(members, truth, known, torch.Generator())
    each = [
        Score(patches=(1, 3), differences=(1,)).of(*(x[..., t : t + 1, :, :] for x in (members, truth, known)), None)  # type: ignore[arg-type]
        for t in range(2)
    ]
    torch.testing.assert_close(found, sum(each) / 2, rtol=1e-4, atol=1e-5)
    together = Score(patches=(1, 3), differences=(1,)).of(members, truth, known, torch.Generator())
    assert float((found - together).abs().max()) > 1e-3
