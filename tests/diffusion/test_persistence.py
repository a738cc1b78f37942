"""Noise that persists along time."""

from __future__ import annotations

import torch

from finescale.diffusion.persistence import REACH, Persistent, White


def persistent(*rho: float) -> Persistent:
    noise = Persistent(len(rho))
    noise.rho.copy_(torch.tensor(rho)[:, None, None, None])
    return noise


def test_unit_variance_and_the_autocorrelation_of_an_autoregressive_process() -> None:
    noise = persistent(0.0, 0.6, 0.8)
    e = noise.random(torch.Size((2, 3, 40, 48, 48)), torch.Generator().manual_seed(0), torch.device("cpu"))
    assert e.shape == (2, 3, 40, 48, 48)
    for lag in range(4):
        found = (e[:, :, : 40 - lag] * e[:, :, lag:]).mean((0, 2, 3, 4))
        torch.testing.assert_close(found, torch.tensor([0.0, 0.6, 0.8]) ** lag, rtol=0, atol=0.02)


def test_fit_finds_what_made_the_sequence() -> None:
    shape, generator = torch.Size((2, 2, 60, 32, 32)), torch.Generator().manual_seed(1)
    e = persistent(0.3, 0.7).random(shape, generator, torch.device("cpu"))
    fitted = Persistent(2)
    fitted.fit([3 * e[:1], 2 * e[1:]])
    torch.testing.assert_close(fitted.rho.flatten(), torch.tensor([0.3, 0.7]), rtol=0, atol=0.02)
    fitted.fit([e[:, :, :1]])
    assert not fitted.rho.any()


def test_windows_of_a_sequence_have_the_same_noise() -> None:
    noise = persistent(0.5, 0.7)
    device = torch.device("cpu")
    whole = noise.fields((20, 40, 40), [(3, (0, 0, 0))], 5, device)(0)
    part = noise.fields((6, 16, 24), [(3, (9, 8, 16))], 5, device)(0)
    torch.testing.assert_close(part, whole[:, :, 9:15, 8:24, 16:40], rtol=0, atol=1e-6)
    assert not torch.equal(part, noise.fields((6, 16, 24), [(3, (9, 8, 16))], 5, device)(1))


def test_covariance_is_that_of_the_moving_average() -> None:
    """C = H Hᵀ, with H's columns what impulses of white noise become; over more frames than the average is long."""
    frames, noise = REACH + 5, persistent(0.0, 0.6, 0.8).double()
    impulses = torch.eye(REACH + frames, dtype=torch.float64)[:, None, :, None, None].expand(-1, 3, -1, -1, -1)
    h = noise.shaped(impulses)[..., 0, 0].permute(1, 2, 0)
    single = torch.eye(frames, dtype=torch.float64)[:, None, :, None, None].expand(-1, 3, -1, -1, -1)
    found = noise.covariance(single)[..., 0, 0].permute(1, 2, 0)
    torch.testing.assert_close(found, h @ h.mT, rtol=1e-6, atol=1e-7)
    x = torch.randn(2, 3, frames, 2, 1, dtype=torch.float64)
    expected = torch.einsum("kts,bkshw->bkthw", h @ h.mT, x)
    torch.testing.assert_close(noise.covariance(x), expected, rtol=1e-6, atol=1e-7)


def test_without_persistence_it_is_white_noise() -> None:
    white, still = White(2), persistent(0.0, 0.0)
    device = torch.device("cpu")
    whole = white.fields((REACH + 4, 32, 32), [(0, (0, 0, 0))], 1, device)(0)
    torch.testing.assert_close(still.fields((4, 32, 32), [(0, (0, 0, 0))], 1, device)(0), whole[:, :, REACH:])
