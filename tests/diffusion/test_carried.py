"""Noise that is carried along a motion and renewed: white at every time, correlated along the motion as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from finescale.diffusion import Carried, carried, carried_noise

CELLS = (4, 4)


def uniform(speed: tuple[float, float], times: np.ndarray, lifetime: float, side: int = 24) -> Carried:
    """Of one window with a motion that is the same everywhere, in coarse cells a frame."""
    number = np.floor(times / lifetime)
    angle = np.pi / 2 * (times / lifetime - number)
    epochs = np.stack([number, number + 1], -1)
    apart = (times[:, None] - epochs * lifetime)[..., None] * np.array(speed)
    shift = np.broadcast_to(apart[..., None, None], (len(times), 2, 2, side + 2, side + 2))
    return Carried(
        torch.tensor(shift.copy(), dtype=torch.float32)[None],
        torch.tensor(np.stack([np.cos(angle), np.sin(angle)], -1), dtype=torch.float32)[None],
        torch.tensor(epochs, dtype=torch.int64)[None],
        torch.tensor([0]),
    )


def noise(carried: Carried, corner: tuple[int, int] = (0, 0), size: int = 96, seed: int = 3, draw: int = 0, n: int = 1):
    frames = carried.shift.shape[1]
    return carried_noise(n, (frames, size, size), carried, [(2, (0, *corner))], CELLS, seed, draw)[0]


def test_it_is_white_at_every_time() -> None:
    times = np.arange(6) + 0.5
    found = noise(uniform((0.6, -0.3), times, 4.0), n=3)
    assert found.shape == (3, 6, 96, 96)
    cells = 96**2 * 3
    assert found.mean((0, 2, 3)).abs().max() < 4 / cells**0.5
    assert (found.var((0, 2, 3)) - 1).abs().max() < 4 * (2 / cells) ** 0.5
    for other in (found.roll(1, -1), found.roll(1, -2), found.roll(1, 0)):
        assert (found * other).mean((0, 2, 3)).abs().max() < 4 / cells**0.5


@pytest.mark.parametrize("lag", [1, 2, 4, 6])
def test_its_autocorrelation_along_the_motion_is_the_closed_form(lag: int) -> None:
    """ρ(l) = (1 − l/2P) cos(πl/2P) + sin(πl/2P)/π, averaged over the times of a lifetime."""
    lifetime, speed = 4.0, (0.5, -0.5)  # 2 and -2 fine cells a frame
    times = np.arange(12) + 0.5
    found = noise(uniform(speed, times, lifetime), n=8).numpy()
    # Each time of a lifetime once.
    products = [
        np.mean(found[:, t + lag, 16:80, 16:80] * found[:, t, 16 - 2 * lag : 80 - 2 * lag, 16 + 2 * lag : 80 + 2 * lag])
        for t in range(4)
    ]
    angle = math.pi * lag / (2 * lifetime)
    wanted = (1 - lag / (2 * lifetime)) * math.cos(angle) + math.sin(angle) / math.pi
    assert np.mean(products) == pytest.approx(wanted, abs=0.035)
    still = np.mean([np.mean(found[:, t + lag] * found[:, t]) for t in range(4)])
    assert abs(still) < 0.04


def test_frames_one_by_one_are_frames_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields are drawn once for many frames and members: those of each alone, by the formula of the module."""
    torch.manual_seed(0)
    frames = 5
    shift = torch.randn(2, frames, 2, 2, 5, 6) * 0.7
    share = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [1.0, 0.0], [0.8, 0.6]]).expand(2, -1, -1)
    epoch = torch.tensor([[0, 1], [0, 1], [0, 1], [1, 2], [1, 2]]).expand(2, -1, -1)
    both = Carried(shift, share, epoch, torch.tensor([0, 3]))
    items, places = torch.tensor([0, 0, 1, 0]), [(0, (0, 8, 16)), (1, (0, 8, 16)), (0, (0, 0, 0)), (2, (0, 8, 16))]
    cells = (CELLS[0], CELLS[1])
    shape = (frames, 3 * cells[0], 4 * cells[1])
    together = carried_noise(2, shape, both[items], places, cells, 3)
    for n, item in enumerate(items):
        for t in range(frames):
            one = torch.tensor([int(item)])
            at = Carried(shift[one, t : t + 1], share[one, t : t + 1], epoch[one, t : t + 1], both.start[one])
            alone = carried_noise(2, (1, *shape[1:]), at, [places[n]], cells, 3)
            torch.testing.assert_close(together[n : n + 1, :, t : t + 1], alone, rtol=0, atol=0)
    monkeypatch.setattr(carried, "AT_ONCE", 1)
    torch.testing.assert_close(carried_noise(2, shape, both[items], places, cells, 3), together, rtol=0, atol=0)


def test_windows_draws_members_and_sequences() -> None:
    """A window has what the whole has there; other draws, members, seeds and sequences have other noise."""
    y, x = np.mgrid[:26, :26] - 12.0
    shift = torch.tensor(np.stack([0.1 * x, -0.1 * y]), dtype=torch.float32).expand(1, 2, 2, 2, 26, 26).clone()
    shift[:, 1, 1] *= -2
    whole = Carried(
        shift, torch.tensor([[[0.8, 0.6], [0.0, 1.0]]]), torch.tensor([[[0, 1], [0, 1]]]), torch.tensor([7])
    )
    part = Carried(shift[..., 6:20, 8:22].contiguous(), whole.share, whole.epoch, whole.start)
    found = noise(whole)
    inner = noise(part, (24, 32), 48)
    torch.testing.assert_close(inner, found[..., 24:72, 32:80], rtol=0, atol=0)
    for other in (
        noise(whole, draw=1),
        noise(whole, seed=4),
        noise(Carried(shift, whole.share, whole.epoch, torch.tensor([8]))),
        noise(Carried(shift, whole.share, whole.epoch + 2, whole.start)),
        carried_noise(1, (2, 96, 96), whole, [(3, (0, 0, 0))], CELLS, 3)[0],
    ):
        assert abs(float((found * other).mean())) < 0.05
    # A padded canvas goes on beyond the window.
    assert noise(whole, size=100).isfinite().all()
    torch.testing.assert_close(noise(whole, size=100)[..., :96, :96], found, rtol=0, atol=0)
