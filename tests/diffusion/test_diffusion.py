"""Noise levels, preconditioning, position-keyed noise, tiled evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from finescale.backbones import UNet
from finescale.diffusion import (
    EDM,
    VP,
    VPSDE,
    Denoiser,
    Distillation,
    ScheduleNoise,
    TiledDenoiser,
    Tiling,
    TimeNoise,
    TotalVariation,
    TrainingNoise,
    noise_field,
)
from finescale.diffusion.noise_field import normal
from finescale.samplers import DPM2M, Euler, Heun


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


@pytest.mark.parametrize(("beta_max", "last"), [(0.01, 6e-3), (0.015, 5e-4), (0.02, 4e-5)])
def test_vp_schedule_is_ddpms(beta_max: float, last: float) -> None:
    import diffusers

    schedule = VP(beta_max)
    reference = diffusers.DDIMScheduler(1000, beta_start=1e-4, beta_end=beta_max, timestep_spacing="trailing")
    alphas = reference.alphas_cumprod.double()
    torch.testing.assert_close(schedule.alphas, alphas, rtol=1e-4, atol=0)
    assert float(f"{schedule.alphas[-1]:.0e}") == last
    assert schedule.sigma_max == pytest.approx(float((1 / alphas[-1] - 1).sqrt()), rel=1e-4)
    for steps in (1, 12, 50, 999, 1000):
        reference.set_timesteps(steps)
        picked = alphas[reference.timesteps]
        sigmas = schedule.sigmas(steps)
        assert sigmas[-1] == 0 and sigmas[0] == schedule.sigma_max
        torch.testing.assert_close(sigmas[:-1], ((1 - picked) / picked).sqrt(), rtol=1e-3, atol=0)


def test_vp_schedules_that_make_no_sense() -> None:
    for steps in (0, 1001):
        with pytest.raises(ValueError, match="steps must be 1 to 1000"):
            VP().sigmas(steps)
    for arguments in ({"beta_max": 1.0}, {"beta_max": 1e-5}, {"beta_min": 0.0}, {"T": 0}):
        with pytest.raises(ValueError, match="beta_min <= beta_max < 1"):
            VP(**arguments)


def test_schedule_noise_visits_every_level_equally_often() -> None:
    schedule = VP(0.015, T=50)
    noise = ScheduleNoise(schedule)
    batch = noise.sample(200, torch.Generator().manual_seed(0))
    assert batch.dtype == torch.float32 and not torch.equal(batch, batch.sort().values)
    values, counts = batch.unique(return_counts=True)
    assert torch.equal(values, schedule.levels.float()) and ((counts - 4).abs() <= 1).all()
    generator = torch.Generator().manual_seed(1)
    singles = torch.cat([noise.sample(1, generator) for _ in range(5000)])
    assert abs((singles <= schedule.levels[9]).float().mean() - 0.2) < 0.02


@pytest.mark.parametrize(("beta_min", "beta_max"), [(0.1, 20.0), (0.5, 8.0)])
def test_vp_sde_is_the_exponential_of_the_integral_of_beta(beta_min: float, beta_max: float) -> None:
    schedule = VPSDE(beta_min, beta_max)
    sigmas = schedule.sigmas(25)
    assert sigmas.shape == (26,) and sigmas[-1] == 0 and sigmas[0] == schedule.sigma_max
    for sigma, last in zip(sigmas[:-1], np.linspace(1, 1e-3, 25), strict=True):
        t = np.linspace(0, last, 1001)
        alpha = np.exp(-np.trapezoid(beta_min + t * (beta_max - beta_min), t))
        assert 1 / (1 + float(sigma) ** 2) == pytest.approx(alpha, rel=1e-9)
    for arguments in ({"beta_min": 0.0}, {"beta_max": 0.01}, {"t_min": 0.0}):
        with pytest.raises(ValueError, match="beta_min <= beta_max"):
            VPSDE(**arguments)


def test_time_noise_is_uniform_in_time() -> None:
    sigma = TimeNoise(VPSDE()).sample(4000, torch.Generator().manual_seed(0)).double()
    exponent = (1 + sigma**2).log()  # ∫β = .1 t + 9.95 t²
    t = ((0.01 + 4 * 9.95 * exponent).sqrt() - 0.1) / (2 * 9.95)
    torch.testing.assert_close(t.sort().values, torch.linspace(1e-3, 1, 4000, dtype=torch.float64), rtol=0, atol=1e-3)


def test_total_variation_is_what_loops_sum() -> None:
    rng = np.random.default_rng(0)
    bands, sigma = [rng.normal(size=(3, 2, 1, 5, 4)), rng.normal(size=(3, 6, 1, 3, 7))], np.array([0.1, 1.0, 9.0])
    wanted = np.zeros(3)
    for band in bands:
        items, channels, _, height, width = band.shape
        for b in range(items):
            for c in range(channels):
                for i in range(height):
                    for j in range(width):
                        if i:
                            wanted[b] += abs(band[b, c, 0, i, j] - band[b, c, 0, i - 1, j])
                        if j:
                            wanted[b] += abs(band[b, c, 0, i, j] - band[b, c, 0, i, j - 1])
    tensors, levels = [torch.from_numpy(band) for band in bands], torch.from_numpy(sigma)
    assert float(TotalVariation(1e-5)(tensors, levels)) == pytest.approx(1e-5 * wanted.mean())
    reliable = 1e-5 * (wanted / (1 + sigma**2)).mean()
    assert float(TotalVariation(1e-5, reliable=True)(tensors, levels)) == pytest.approx(reliable)
    with pytest.raises(ValueError, match="must be positive"):
        TotalVariation(0.0)


def test_the_penalty_sees_the_clean_estimate() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise, cond = (torch.randn(5, 2, 1, 4, 4, generator=generator) for _ in range(3))
    sigma, denoiser = torch.tensor([0.01, 0.3, 1.0, 5.0, 60.0]), Denoiser(Linear(), 8)
    seen: list[Tensor] = []

    def penalty(estimate: Tensor, levels: Tensor) -> Tensor:
        seen.extend((estimate, levels))
        return torch.tensor(3.0)

    loss = denoiser.loss(clean, sigma, noise, cond, penalty=penalty)
    torch.testing.assert_close(loss, denoiser.loss(clean, sigma, noise, cond) + 3)
    estimate = denoiser(clean + sigma.reshape(-1, 1, 1, 1, 1) * noise, sigma, cond)
    torch.testing.assert_close(seen[0], estimate, rtol=1e-4, atol=1e-5)
    assert torch.equal(seen[1], sigma)


class Gaussian(Denoiser):
    """Data N(cond, S) with S = 0.25 in channel 0 and 2 in channel 1: the exact denoiser, or where trajectories end.

    D = m + S/(S + sigma²) (z − m), and the consistency function is m + sqrt(S/(S + sigma²)) (z − m).
    """

    def __init__(self, power: float) -> None:
        super().__init__(nn.Identity(), 8)
        self.power = power

    def network(self, z: Tensor, sigma: Tensor, cond: Tensor, scalars: Tensor | None = None) -> Tensor:
        wide = sigma.reshape(-1, 1, 1, 1, 1)
        variance = torch.tensor([0.25, 2.0], dtype=z.dtype).reshape(1, 2, 1, 1, 1)
        value = cond + (variance / (variance + wide**2)) ** self.power * (z - cond)
        return (value - self.c_skip(wide) * z) / self.c_out(wide)


class TestDistillation:
    NOISE = torch.randn(6, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    COND = torch.randn(6, 2, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def loss(self, student: Denoiser, levels: int, **options: Tensor) -> float:
        distillation = Distillation(Gaussian(1.0), DPM2M(), EDM(20.0, 1e-3).sigmas(levels))
        levels = distillation.levels(len(self.NOISE), torch.Generator().manual_seed(2))
        return float(distillation(student, self.NOISE, self.COND, levels, **options))

    def test_no_loss_where_the_student_is_the_closed_form(self) -> None:
        """But for the solver's error, which is of second order; the teacher itself is no consistency function."""
        exact, teacher = [self.loss(Gaussian(0.5), n) for n in (50, 100, 200)], self.loss(Gaussian(1.0), 100)
        assert exact[2] < 0.004 < 0.1 < teacher
        assert exact[0] > 3 * exact[1] > 9 * exact[2]

    def test_a_student_that_starts_as_the_teacher_learns_the_closed_form(self) -> None:
        """Of maps m + (S/(S + sigma²))^p (z − m), the teacher's p = 1: the least loss is at p = ½, as found by descent.

        Steps shrink from 0.05 by 7 % each: they reach 0.7, and after 80 there is 0.05 · 0.93^80 / 0.07 = 0.002 to go.
        """
        distillation = Distillation(Gaussian(1.0), DPM2M(), EDM(20.0, 1e-3).sigmas(100))
        student = Gaussian(1.0)
        power = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        student.power = power  # type: ignore[assignment]
        levels = distillation.levels(len(self.NOISE), torch.Generator().manual_seed(2))
        for n in range(80):
            loss = distillation(student, self.NOISE, self.COND, levels)
            (slope,) = torch.autograd.grad(loss, power)
            with torch.no_grad():
                power -= 0.05 * 0.93**n * slope.sign()
        assert float(power.detach()) == pytest.approx(0.5, abs=3e-3)

    def test_every_trajectory_is_learned_at_its_start_and_elsewhere(self) -> None:
        distillation = Distillation(Gaussian(1.0), DPM2M(), EDM(20.0).sigmas(16), picks=4)
        levels = distillation.levels(50, torch.Generator().manual_seed(0))
        assert levels.shape == (4, 50) and (levels[0] == 0).all()
        assert set(levels[1:].flatten().tolist()) == set(range(1, 16))
        points, end = distillation.trajectory(self.NOISE, self.COND)
        assert points.shape == (16, *self.NOISE.shape)
        torch.testing.assert_close(points[0], 20 * self.NOISE)
        torch.testing.assert_close(
            end, DPM2M()(lambda z, s: Gaussian(1.0)(z, s.expand(6), self.COND), self.NOISE, EDM(20.0).sigmas(16))
        )
        assert torch.equal(
            Distillation(Gaussian(1.0), Euler(), EDM().sigmas(1)).levels(3, torch.Generator()), torch.zeros(4, 3).long()
        )
        with pytest.raises(ValueError, match="31 points for 16 noise levels"):
            Distillation(Gaussian(1.0), Heun(), EDM(20.0).sigmas(16)).trajectory(self.NOISE, self.COND)

    def test_unknown_cells_carry_no_weight(self) -> None:
        class Spoilt(Gaussian):
            def network(self, z: Tensor, *rest: Tensor) -> Tensor:  # type: ignore[override]
                return super().network(z, *rest) + 100 * (torch.arange(8) >= 5)

        known = (torch.arange(8) < 5).double().expand(6, 1, 1, 8, 8)
        assert self.loss(Spoilt(0.5), 100, weight=known) < 0.02 < 10 < self.loss(Spoilt(0.5), 100)


def test_preconditioning_with_unit_data_is_v_prediction() -> None:
    """x = sqrt(ᾱ) z_vp − sqrt(1 − ᾱ) v with v = −F, and the loss of F is the mean squared error of v."""

    class Random(nn.Module):
        def forward(self, z: Tensor, embedding: Tensor, cond: Tensor, *unused: Tensor) -> Tensor:
            seen.append(z)
            return (weight @ z.flatten(1).T).T.reshape(z.shape)

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(32, 32, generator=generator) / 32**0.5
    seen: list[Tensor] = []
    schedule = VP(0.015)
    clean, noise, cond = (torch.randn(5, 2, 1, 4, 4, generator=generator) for _ in range(3))
    steps = torch.tensor([0, 99, 399, 699, 999])
    alpha = schedule.alphas[steps].float().reshape(-1, 1, 1, 1, 1)
    sigma = schedule.levels[steps].float()
    z_vp = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    v = -Random()(z_vp, cond, cond)
    denoiser = Denoiser(Random(), 8)
    got = denoiser(clean + sigma.reshape(-1, 1, 1, 1, 1) * noise, sigma, cond)
    torch.testing.assert_close(seen[-1], z_vp, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got, alpha.sqrt() * z_vp - (1 - alpha).sqrt() * v, rtol=1e-4, atol=1e-4)
    target = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    torch.testing.assert_close(denoiser.loss(clean, sigma, noise, cond), (v - target).square().mean())


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

    def test_numbers_are_box_and_mullers_of_philox(self) -> None:
        """In double precision, of the same bits; and their distribution is the normal one."""
        key, counter = [7, 3], [0, 5, 1, 2]
        raw = np.random.Philox(key=key, counter=counter).random_raw(2**17)
        u, v = np.stack([raw & np.uint64(0xFFFFFFFF), raw >> np.uint64(32)], -1).reshape(2, -1).astype(np.float64)
        radius, angle = np.sqrt(-2 * np.log((u + 0.5) / 2**32)), 2 * np.pi * v / 2**32
        found = normal(np.random.Philox(key=key, counter=counter), 2**18)
        np.testing.assert_allclose(found, np.concatenate([radius * np.cos(angle), radius * np.sin(angle)]), atol=2e-3)
        assert scipy.stats.kstest(found.astype(np.float64), "norm").pvalue > 1e-3

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
                tiled = TiledDenoiser(
                    denoiser, cond, Tiling(window, denoiser.backbone.reach, 4, denoiser.backbone.stride)
                )
                assert len(tiled.tiling.cut((1, 96, 112))) > 1
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
            tiled = TiledDenoiser(denoiser, cond, Tiling(32, 4, 4, denoiser.backbone.stride))(z, torch.tensor(0.7))
        border = torch.zeros(96, dtype=torch.bool)
        border[[30, 31, 32, 33, 62, 63, 64, 65]] = True
        assert abs(tiled[..., border].var() / whole[..., border].var() - 1) < 0.02
