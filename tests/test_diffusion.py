"""Noise levels, preconditioning, position-keyed noise, tiled evaluation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from finescale.backbones import UNet
from finescale.diffusion import EDM, Denoiser, TiledDenoiser, TrainingNoise, noise_field


class Linear(nn.Module):
    """F = weight · z + embedding mean, a backbone whose algebra can be done by hand."""

    def forward(self, z: Tensor, embedding: Tensor, cond: Tensor) -> Tensor:
        return 0.5 * z + cond


def test_edm_schedule_is_the_papers() -> None:
    sigmas = EDM(80.0, 0.002, 7.0).sigmas(18)
    assert sigmas.shape == (19,) and sigmas[-1] == 0
    ramp = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    torch.testing.assert_close(sigmas[:-1], torch.tensor(ramp, dtype=torch.float64))
    with pytest.raises(ValueError, match="sigma_min"):
        EDM(1.0, 2.0)


def test_training_noise_is_log_normal() -> None:
    log_sigma = TrainingNoise(-0.4, 1.1).sample(20000, torch.Generator().manual_seed(0)).log()
    assert abs(log_sigma.mean() + 0.4) < 0.01 and abs(log_sigma.std() - 1.1) < 0.01


def test_loss_is_the_weighted_error_of_the_clean_estimate() -> None:
    """λ(sigma) (D − clean)² with λ = (1 + sigma²)/sigma², the form of Karras et al., equals what is computed."""
    generator = torch.Generator().manual_seed(0)
    clean, noise, cond = (torch.randn(5, 2, 1, 4, 4, generator=generator) for _ in range(3))
    sigma = torch.tensor([0.01, 0.3, 1.0, 5.0, 60.0])
    denoiser = Denoiser(Linear(), 8)
    wide = sigma.reshape(-1, 1, 1, 1, 1)
    error = denoiser(clean + wide * noise, sigma, cond) - clean
    expected = ((1 + wide**2) / wide**2 * error.square()).mean()
    torch.testing.assert_close(denoiser.loss(clean, sigma, noise, cond), expected, rtol=1e-3, atol=0)


def test_network_input_and_target_have_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = (
        torch.randn(4, 1, 1, 128, 128, generator=generator),
        torch.randn(4, 1, 1, 128, 128, generator=generator),
    )
    sigma = torch.tensor([0.02, 0.5, 2.0, 40.0])
    wide = sigma.reshape(-1, 1, 1, 1, 1)
    denoiser = Denoiser(Linear(), 8)
    z = clean + wide * noise
    target = (clean - denoiser.c_skip(wide) * z) / denoiser.c_out(wide)
    for field in (denoiser.c_in(wide) * z, target):
        torch.testing.assert_close(field.flatten(1).std(1), torch.ones(4), rtol=0.03, atol=0)


class TestNoiseField:
    def test_windows_of_one_plane_agree(self) -> None:
        whole = noise_field(3, (2, 70, 90), seed=4, member=1)
        for origin, shape in (((0, 0, 0), (1, 10, 10)), ((1, 31, 33), (1, 37, 50)), ((0, 64, 64), (2, 6, 26))):
            t, y, x = (slice(o, o + n) for o, n in zip(origin, shape, strict=True))
            assert torch.equal(noise_field(3, shape, seed=4, member=1, origin=origin), whole[:, t, y, x])

    def test_white_with_unit_variance(self) -> None:
        z = noise_field(4, (3, 128, 160), seed=0, member=0)
        assert abs(z.mean()) < 0.01 and abs(z.var() - 1) < 0.01
        for axis in range(4):
            shifted = z.roll(1, axis)
            assert abs((z * shifted).mean()) < 0.01

    def test_seed_member_and_draw_give_other_noise(self) -> None:
        fields = [
            noise_field(1, (1, 64, 64), seed=seed, member=member, draw=draw)
            for seed, member, draw in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
        ]
        correlation = torch.stack([f.flatten() for f in fields]).corrcoef()
        assert (correlation - torch.eye(4)).abs().max() < 0.06


def network(width: int = 8) -> Denoiser:
    torch.manual_seed(0)
    net = UNet(3, 2, embedding=16, width=width, multipliers=(1, 2), blocks=1)
    for parameter in net.parameters():  # zero layers would hide everything behind them
        if parameter.ndim > 1 and parameter.abs().max() == 0:
            nn.init.normal_(parameter, std=0.1)
    return Denoiser(net, 16)


class TestTiledDenoiser:
    def test_halo_of_the_reach_gives_the_whole_canvas(self) -> None:
        denoiser = network()
        z, cond, sigma = torch.randn(1, 2, 1, 96, 112), torch.randn(1, 1, 1, 96, 112), torch.tensor(0.7)
        with torch.no_grad():
            whole = TiledDenoiser(denoiser, cond)(z, sigma)
            for window in (16, 34, 48):
                tiled = TiledDenoiser(denoiser, cond, window, halo=denoiser.backbone.reach, blend=4)
                assert len(tiled.windows) > 1
                torch.testing.assert_close(tiled(z, sigma), whole, rtol=1e-4, atol=1e-5)

    def test_reach_bounds_the_receptive_field(self) -> None:
        denoiser = network()
        z = torch.randn(1, 2, 1, 128, 128, requires_grad=True)
        out = denoiser(z, torch.tensor([0.7]), torch.zeros(1, 1, 1, 128, 128))
        (gradient,) = torch.autograd.grad(out[0, 0, 0, 64, 64], z)
        touched = gradient.abs().sum((0, 1, 2)).nonzero()
        assert 0 < (touched - 64).abs().max() <= denoiser.backbone.reach

    def test_a_smaller_halo_blends_without_changing_the_variance(self) -> None:
        """Every window sees the same noise: predictions that are averaged nearly agree, so no variance is lost."""
        denoiser = network()
        z, cond = torch.randn(4, 2, 1, 96, 96), torch.randn(4, 1, 1, 96, 96)
        with torch.no_grad():
            whole = TiledDenoiser(denoiser, cond)(z, torch.tensor(0.7))
            tiled = TiledDenoiser(denoiser, cond, 32, halo=4, blend=4)(z, torch.tensor(0.7))
        border = torch.zeros(96, dtype=torch.bool)
        border[[30, 31, 32, 33, 62, 63, 64, 65]] = True
        assert abs(tiled[..., border].var() / whole[..., border].var() - 1) < 0.02
