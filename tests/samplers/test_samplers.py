"""Samplers on Gaussian data, where denoiser, trajectory and posterior are known in closed form, and against diffusers.

For data N(m, S) the exact denoiser is D(z; sigma) = m + S (S + sigma²)⁻¹ (z − m), and the probability-flow trajectory
that starts at z(sigma_max) ends, eigendirection by eigendirection, at
m + sqrt(s / (s + sigma_max²)) (z(sigma_max) − m).
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from finescale import samplers
from finescale.diffusion import EDM, VP, VPSDE, VPCosine
from finescale.errors import InputError
from finescale.samplers import DDIM, DPM2M, Ancestral, Consistency, Denoise, Euler, EulerMaruyama, Fresh, Heun, Sampler

KINDS: list[type[Sampler]] = [Euler, Heun, DPM2M, Ancestral, EulerMaruyama, Consistency, DDIM]
MEAN = torch.linspace(-1.5, 2.0, 12, dtype=torch.float64)
VARIANCE = torch.logspace(-1.5, 0.5, 12, dtype=torch.float64)


def denoise(z: Tensor, sigma: Tensor) -> Tensor:
    return MEAN + VARIANCE / (VARIANCE + sigma**2) * (z - MEAN)


def exact(noise: Tensor, sigma: float) -> Tensor:
    return MEAN + (VARIANCE / (VARIANCE + sigma**2)).sqrt() * (noise * sigma - MEAN)


def consistency(z: Tensor, sigma: Tensor) -> Tensor:
    """Where the trajectory through z at sigma ends; what `Consistency` takes for a denoiser."""
    return MEAN + (VARIANCE / (VARIANCE + sigma**2)).sqrt() * (z - MEAN)


def white(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def stream(*shape: int) -> Fresh:
    """Fresh noise whose numbers are asked for in order."""
    generator = torch.Generator().manual_seed(8)
    return lambda i: torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_every_exported_sampler_is_in_the_contract_test() -> None:
    others = ("Denoise", "Fresh", "Sampler")
    assert {getattr(samplers, n) for n in samplers.__all__ if n not in others} == set(KINDS)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.stochastic])
def test_error_falls_at_the_solvers_order(kind: type[Sampler]) -> None:
    noise, errors = white(50, 12), []
    for steps in (64, 128, 256):
        sigmas = EDM(40.0, 1e-3).sigmas(steps)
        errors.append((kind()(denoise, noise, sigmas) - exact(noise, 40.0)).abs().mean())
    for coarse, fine in pairwise(errors):
        # Halving the step divides the error by 2^order; the last step to 0 adds a little at each.
        assert coarse / fine > 0.85 * 2 ** kind().order


@pytest.mark.parametrize("kind", KINDS)
class TestContract:
    def test_mean_and_variance_of_the_data(self, kind: type[Sampler]) -> None:
        """Starting from sigma_max·noise without the mean leaves a known bias of MEAN·sqrt(s/(s + sigma_max²))."""
        mean, covariance = moments(kind(), consistency if kind is Consistency else denoise, 12)
        kept = 1 - (VARIANCE / (VARIANCE + 5000.0**2)).sqrt()
        tolerance = 0.04 if kind().order == 1 else 1e-3
        torch.testing.assert_close(mean, MEAN * kept, rtol=0, atol=tolerance)
        torch.testing.assert_close(covariance, VARIANCE.diag(), rtol=tolerance, atol=tolerance)

    def test_nfe_is_what_it_says(self, kind: type[Sampler]) -> None:
        calls = []

        def counting(z: Tensor, sigma: Tensor) -> Tensor:
            calls.append(float(sigma))
            return denoise(z, sigma)

        kind()(counting, white(2, 12), EDM().sigmas(9), stream(2, 12))
        assert len(calls) == kind().nfe(9) and 0.0 not in calls

    def test_number_type_and_one_step(self, kind: type[Sampler]) -> None:
        noise = white(3, 12).float()
        z = kind()(lambda z, s: z * 0, noise, EDM().sigmas(1), stream(3, 12))
        assert z.dtype == torch.float32 and z.abs().max() == 0
        z = kind()(lambda z, s: z * 0.5, noise, EDM().sigmas(4), stream(3, 12))
        assert z.dtype == torch.float32 and z.shape == noise.shape


@pytest.mark.parametrize("kind", KINDS)
def test_posterior_of_a_linear_gaussian_problem(kind: type[Sampler]) -> None:
    """x ~ N(0, P), y = H x + N(0, R): members have the Kalman posterior's mean and covariance."""
    generator = torch.Generator().manual_seed(2)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64) / 2
    prior = root @ root.T + 0.2 * torch.eye(6, dtype=torch.float64)
    observe = torch.kron(torch.eye(2, dtype=torch.float64), torch.full((1, 3), 1 / 3, dtype=torch.float64))
    noise_covariance = 0.05 * torch.eye(2, dtype=torch.float64)
    seen = torch.tensor([1.0, -0.5], dtype=torch.float64)
    gain = prior @ observe.T @ torch.linalg.inv(observe @ prior @ observe.T + noise_covariance)
    mean, covariance = gain @ seen, prior - gain @ observe @ prior

    values, vectors = torch.linalg.eigh(covariance)

    def posterior_denoiser(z: Tensor, sigma: Tensor) -> Tensor:
        shrink = values / (values + sigma**2)
        shrink = shrink.sqrt() if kind is Consistency else shrink
        return mean + (z - mean) @ vectors * shrink @ vectors.T

    got_mean, got_covariance = moments(kind(), posterior_denoiser, 6)
    tolerance = 0.04 if kind().order == 1 else 2e-3
    torch.testing.assert_close(got_mean, mean, rtol=0, atol=tolerance)
    torch.testing.assert_close(got_covariance, covariance, rtol=0, atol=tolerance)


def moments(sampler: Sampler, function: Denoise, n: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the samples: with an affine denoiser z = b + Σ A_i noise_i, so they are b and Σ A_i A_iᵀ.

    Row i·n + j is the answer to component j of noise i (the first one, and the fresh ones of stochastic samplers).
    """
    # An ancestral step takes D for the clean latent and so loses its variance, of the order of the step.
    steps = 800 if sampler.stochastic else 400
    sigmas, draws = EDM(5000.0, 1e-3).sigmas(steps), steps if sampler.stochastic else 1

    def impulse(i: int) -> Tensor:
        noise = torch.zeros(draws, n, n, dtype=torch.float64)
        noise[i] = torch.eye(n, dtype=torch.float64)
        return noise.reshape(-1, n)

    none = torch.zeros(1, n, dtype=torch.float64)
    mean = sampler(function, none, sigmas, lambda i: none)[0]
    columns = sampler(function, impulse(0), sigmas, impulse) - mean
    return mean, columns.T @ columns


@pytest.mark.parametrize("steps", [5, 18])
@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_agreement_with_diffusers(name: str, steps: int) -> None:
    import diffusers

    options = {"lower_order_final": False, "euler_at_final": False} if "DPM" in name else {}
    scheduler = getattr(diffusers, name)(sigma_min=0.002, sigma_max=80.0, sigma_data=1.0, rho=7.0, **options)
    scheduler.set_timesteps(steps)
    noise = white(4, 12).float()
    z = noise * scheduler.sigmas[0]
    for sigma, time in zip(scheduler.sigmas[:-1], scheduler.timesteps, strict=True):
        c_skip, c_out = 1 / (1 + sigma**2), sigma / (1 + sigma**2).sqrt()
        clean = denoise(z.double(), sigma.double()).float()
        z = scheduler.step((clean - c_skip * z) / c_out, time, z).prev_sample
    ours = (Euler() if "Euler" in name else DPM2M())(denoise, noise.double(), EDM(80.0, 0.002).sigmas(steps))
    torch.testing.assert_close(z, ours.float(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("steps", [20, 1000])
@pytest.mark.parametrize("prediction", ["sample", "v_prediction"])
def test_ancestral_is_ddpm(prediction: str, steps: int) -> None:
    """The same trajectory, with the same noises, as DDPM's in z_vp = z / sqrt(1 + sigma²)."""
    import diffusers

    scheduler = diffusers.DDPMScheduler(
        1000,
        beta_start=1e-4,
        beta_end=0.015,
        prediction_type=prediction,
        variance_type="fixed_small",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    schedule, noise = VP(0.015), white(4, 12)
    # diffusers multiplies its ᾱ in float32, which `test_vp_schedule_is_ddpms` compares; here with ours, in float64.
    scheduler.alphas_cumprod, scheduler.one = schedule.alphas, torch.ones((), dtype=torch.float64)
    generator = torch.Generator().manual_seed(8)  # that of `stream`
    z_vp = noise * (1 - schedule.alphas[-1]).sqrt()
    for time in scheduler.timesteps:
        alpha = schedule.alphas[time]
        clean = denoise(z_vp / alpha.sqrt(), schedule.levels[time])
        v = (alpha.sqrt() * z_vp - clean) / (1 - alpha).sqrt()
        z_vp = scheduler.step(clean if prediction == "sample" else v, time, z_vp, generator=generator).prev_sample
    ours = Ancestral()(denoise, noise, schedule.sigmas(steps), stream(4, 12))
    # 1000 steps, whose products with 1/√(1 − ᾱ) < 100 are right to some 1e-14 each.
    torch.testing.assert_close(ours, z_vp, rtol=0, atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_is_diffusers(eta: float) -> None:
    """The same trajectory, with the same noises, on a cosine schedule whose last levels are left out, predicting ε."""
    import diffusers

    scheduler = diffusers.DDIMScheduler(
        1000, beta_schedule="squaredcos_cap_v2", clip_sample=False, set_alpha_to_one=True, timestep_spacing="leading"
    )
    scheduler.set_timesteps(50)
    schedule, noise = VPCosine(spacing="leading"), white(4, 12)
    # As above: its own ᾱ, a product in float32, is compared in test_cosine.py.
    scheduler.alphas_cumprod, scheduler.final_alpha_cumprod = schedule.alphas, torch.ones((), dtype=torch.float64)
    sigmas = schedule.sigmas(50)
    fresh = stream(4, 12)
    z_vp = noise * sigmas[0] / (1 + sigmas[0] ** 2).sqrt()
    for i, time in enumerate(scheduler.timesteps):
        alpha = schedule.alphas[time]
        clean = denoise(z_vp / alpha.sqrt(), schedule.levels[time])
        epsilon = (z_vp - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        added = fresh(i) if eta and i < 49 else None
        z_vp = scheduler.step(epsilon, time, z_vp, eta=eta, variance_noise=added).prev_sample if i < 49 else clean
    ours = DDIM(eta)(denoise, noise, sigmas, stream(4, 12))
    torch.testing.assert_close(ours, z_vp, rtol=0, atol=1e-9)


def test_ddim_goes_from_euler_to_ancestral() -> None:
    sigmas, noise = EDM(20.0, 0.02).sigmas(12), white(4, 12)
    euler, ancestral = Euler()(denoise, noise, sigmas), Ancestral()(denoise, noise, sigmas, stream(4, 12))
    torch.testing.assert_close(DDIM(0.0)(denoise, noise, sigmas), euler)
    torch.testing.assert_close(DDIM(1e-6)(denoise, noise, sigmas, stream(4, 12)), euler, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(DDIM(1.0)(denoise, noise, sigmas, stream(4, 12)), ancestral)
    assert not torch.allclose(euler, ancestral, atol=0.1)
    with pytest.raises(ValueError, match="eta must be from 0 to 1"):
        DDIM(1.5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.stochastic])
def test_stochastic_samplers_ask_for_their_noise_by_number(kind: type[Sampler]) -> None:
    asked: list[int] = []

    def fresh(i: int) -> Tensor:
        asked.append(i)
        return white(2, 12)

    kind()(denoise, white(2, 12), EDM().sigmas(5), fresh)
    assert asked == [1, 2, 3, 4]
    with pytest.raises(ValueError, match=f"{kind.__name__} sampler needs noise between steps: pass fresh"):
        kind()(denoise, white(2, 12), EDM().sigmas(5))


def test_euler_maruyama_is_the_reverse_vp_equation() -> None:
    """With many steps, that of Song et al. in x = z/sqrt(1 + sigma²) and t, dx = −(β/2 x + β score) dt + sqrt(β) dw."""
    schedule, steps, noise = VPSDE(), 2000, white(4, 12)
    generator = torch.Generator().manual_seed(8)  # that of `stream`
    times = torch.linspace(1, schedule.t_min, steps, dtype=torch.float64)
    alpha = (-0.1 * times - 19.9 * times**2 / 2).exp()
    x = noise * (1 - alpha[0]).sqrt()
    for i in range(steps - 1):
        beta, dt = 0.1 + 19.9 * (times[i] + times[i + 1]) / 2, times[i] - times[i + 1]
        score = -(x - alpha[i].sqrt() * MEAN) / (alpha[i] * VARIANCE + 1 - alpha[i])
        fresh = torch.randn(4, 12, generator=generator, dtype=torch.float64)
        x = x + (beta / 2 * x + beta * score) * dt + (beta * dt).sqrt() * fresh
    got = EulerMaruyama()(denoise, noise, schedule.sigmas(steps), stream(4, 12))
    clean = denoise(x / alpha[-1].sqrt(), (1 / alpha[-1] - 1).sqrt())
    torch.testing.assert_close(got, clean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 16])
def test_consistency_samples_have_the_datas_variance_at_any_number_of_steps(steps: int) -> None:
    sampler, asked = Consistency(16), []

    def function(z: Tensor, sigma: Tensor) -> Tensor:
        asked.append(float(sigma))
        return consistency(z, sigma)

    every = EDM(40.0, 0.02).sigmas(16)
    sigmas = sampler.levels_of(EDM(40.0, 0.02).sigmas, steps)
    z = sampler(function, white(40000, 12), sigmas, stream(40000, 12))
    torch.testing.assert_close(z.var(0), VARIANCE, rtol=0.03, atol=0)
    assert asked == every[[round(16 * i / steps) for i in range(steps)]].tolist() and sigmas[-1] == 0
    with pytest.raises(InputError, match="steps must be 1 to 16"):
        sampler.levels_of(EDM().sigmas, 17)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_amplitude_of_distilled_models_scales_the_spread(steps: int) -> None:
    """With one step exactly; with more, what is left of earlier noise is scaled with the rest."""
    sampler = Consistency(8, amplitude=1.2)
    sigmas = sampler.levels_of(EDM(500.0).sigmas, steps)
    noise, fresh = white(4000, 12), stream(4000, 12)
    wide = sampler(consistency, noise, sigmas, fresh)
    plain = Consistency(8)(consistency, noise, sigmas, stream(4000, 12))
    assert float(wide.std(0).div(plain.std(0)).sub(1.2).abs().max()) < (1e-6 if steps == 1 else 0.02)
    with pytest.raises(ValueError, match="amplitude"):
        Consistency(8, amplitude=0.0)
