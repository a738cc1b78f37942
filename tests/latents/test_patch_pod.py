"""What is special about patch-POD latents: the basis, its fit, masks, borders and variance."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from finescale import latents
from finescale.config.build import build_model
from finescale.config.load import load
from finescale.config.read import read_config
from finescale.config.schema import part
from finescale.errors import InputError
from finescale.latents import PatchPOD, Pixel
from finescale.latents.pod import captured, pod
from finescale.model import losses
from finescale.model.batch import Batch, Inputs, Members
from finescale.training.statistics import whiten

FITTED = {
    "plain": PatchPOD(patch=(4, 8), modes=9),
    "frames": PatchPOD(patch=4, frames=2, modes=12),
    "overlap": PatchPOD(patch=(4, 8), modes=9, overlap=True),
    "coarse": PatchPOD(patch=4, modes=5, coarse=(8, 6)),
    "overlap, coarse": PatchPOD(patch=4, modes=5, coarse=(8, 6), overlap=True),
}


@cache
def field(items: int = 6, frames: int = 2, height: int = 32, width: int = 48, seed: int = 0) -> torch.Tensor:
    """Smooth noise with structure of several scales and unequal variance within a patch of 4 × 8 cells."""
    x = torch.randn(items, 1, frames, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    smooth = torch.nn.functional.avg_pool3d(x, (1, 7, 5), 1, (0, 3, 2), count_include_pad=False)
    ramp = 1 + 0.3 * (torch.arange(width) % 8) + 0.1 * (torch.arange(height) % 4)[:, None]
    return (3 * smooth + 0.2 * x) * ramp + 0.5


def patches(x: torch.Tensor, py: int, px: int) -> np.ndarray:
    """(N, py·px), cut by numpy."""
    a = x.numpy()
    n, height, width = a.shape[0] * a.shape[2], a.shape[3], a.shape[4]
    a = a.reshape(n, height // py, py, width // px, px).transpose(0, 1, 3, 2, 4)
    return a.reshape(-1, py * px)


def rows(latent: PatchPOD) -> np.ndarray:
    return latent.basis.flatten(1).double().numpy()


def subspace_gap(a: np.ndarray, b: np.ndarray) -> float:
    """The sine of the largest angle between the spans of orthonormal rows."""
    return float(np.linalg.norm(a - a @ b.T @ b, 2))


@pytest.mark.parametrize("latent", FITTED.values(), ids=FITTED.keys())
def test_bases_are_orthonormal_and_ordered_by_variance(latent: PatchPOD) -> None:
    latent.float().fit([field().float()])
    for basis in (latent.small, latent.large):
        if basis is not None:
            matrix = basis.basis.flatten(1)
            assert matrix.dtype == torch.float32
            # Orthonormal in float64 and then rounded to float32, by half an eps of each entry.
            gram = (matrix.double() @ matrix.double().T).numpy()
            np.testing.assert_allclose(gram, np.eye(basis.modes), rtol=0, atol=2 * torch.finfo(torch.float32).eps)
            assert (basis.energies.diff() <= 0).all() and 0.3 < basis.energies.sum() < 1
            extreme = matrix.gather(1, matrix.abs().argmax(1, keepdim=True))
            assert (extreme > 0).all()


def test_the_round_trip_is_the_projection_of_a_singular_value_decomposition() -> None:
    x = field()
    latent = PatchPOD(patch=(4, 8), modes=9).double()
    latent.fit([x])
    samples = patches(x, 4, 8)
    mean = samples.mean(0)
    _, values, modes = np.linalg.svd(samples - mean, full_matrices=False)
    expected = mean + (samples - mean) @ modes[:9].T @ modes[:9]
    once = latent.decode(latent.encode(x))
    np.testing.assert_allclose(patches(once, 4, 8), expected, atol=1e-6)
    torch.testing.assert_close(latent.decode(latent.encode(once)), once, rtol=0, atol=1e-6)
    np.testing.assert_allclose(latent.energies.numpy(), (values**2 / (values**2).sum())[:9], rtol=1e-6)
    # Whitened coefficients are the left singular vectors, up to sign.
    torch.testing.assert_close(
        latent.scale.flatten(), torch.tensor(values[:9] / len(samples) ** 0.5), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize(
    "latent",
    [
        PatchPOD(patch=4, frames=2, modes=32),
        PatchPOD(patch=4, modes=16, overlap=True),
        PatchPOD(patch=(1, 8), modes=8, overlap=True),
        PatchPOD(patch=4, modes=16, coarse=(8, 3)),
        PatchPOD(channels=2, patch=4, modes=32),
    ],
    ids=["frames", "overlap", "overlap in x", "coarse", "two channels"],
)
def test_all_modes_are_exact(latent: PatchPOD) -> None:
    x = field(3) if latent.field_channels == 1 else torch.cat([field(3), field(3, seed=1)], 1)
    latent.double().fit([x])
    assert latent.exact and not latent.floor.any()
    torch.testing.assert_close(latent.decode(latent.encode(x)), x, rtol=0, atol=1e-9)
    assert not PatchPOD(patch=4, modes=15).exact and not PatchPOD(patch=4, modes=16, energy=0.9).exact


@pytest.mark.parametrize("latent", FITTED.values(), ids=FITTED.keys())
def test_chunks_make_no_difference(latent: PatchPOD) -> None:
    x = field(40, 2, 16, 24)
    latent = latent.double()
    latent.fit([x])
    whole = {name: value.clone() for name, value in latent.state_dict().items()}
    latent.fit(part for part in (x[:7], x[7:8], x[8:]))
    for name, value in latent.state_dict().items():
        torch.testing.assert_close(value, whole[name], rtol=1e-7, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


def test_a_shift_by_a_patch_shifts_the_latent() -> None:
    for name in ("plain", "overlap"):
        latent = FITTED[name].double()
        latent.fit([field()])
        _, hy, hx = latent.stride
        x = field(seed=3)
        shifted = latent.encode(x.roll((hy, 2 * hx), (-2, -1)))
        torch.testing.assert_close(
            shifted[..., 2:-1, 3:-1], latent.encode(x).roll((1, 2), (-2, -1))[..., 2:-1, 3:-1], rtol=0, atol=1e-10
        )


def test_unknown_patches_do_not_change_the_basis() -> None:
    x, known = field(), torch.ones(6, 1, 2, 32, 48, dtype=torch.float64)
    known[..., 24:] = 0
    latent = PatchPOD(patch=(4, 8), modes=9).double()
    latent.fit([x[..., :24]])
    wanted = {name: value.clone() for name, value in latent.state_dict().items()}
    # What stands in unknown cells is not looked at.
    latent.fit([x * known + 1e3 * (1 - known)], [known])
    for name, value in latent.state_dict().items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-9, atol=1e-11, msg=lambda text, n=name: f"{n}: {text}")


def test_cells_are_weighted_by_how_often_they_are_known() -> None:
    """The modes of Σ_n x_ni x_nj / N_ij, N_ij how often i and j are known, worked out with numpy."""
    x = field(40, 1, 16, 16)
    often = torch.tensor([0.2, 0.9, 0.9, 0.5], dtype=torch.float64).repeat(4)
    known = (torch.rand(x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64) < often).double()
    latent = PatchPOD(patch=4, modes=1).double()
    latent.fit([x * known], [known])
    samples, seen = patches(x * known, 4, 4), patches(known, 4, 4)
    anomaly = (samples - samples.sum(0) / seen.sum(0)) * seen
    _, vectors = np.linalg.eigh(anomaly.T @ anomaly / (seen.T @ seen))
    assert subspace_gap(rows(latent), vectors[:, -1:].T) < 1e-6
    # Closer to what complete data give than sums in which the seldom known cells have little variance.
    complete = PatchPOD(patch=4, modes=1).double()
    complete.fit([x])
    _, unweighted = np.linalg.eigh(anomaly.T @ anomaly)
    gaps = [subspace_gap(found, rows(complete)) for found in (rows(latent), unweighted[:, -1:].T)]
    assert gaps[0] < 0.15 and gaps[1] > 3 * gaps[0]


@pytest.mark.parametrize("size", [16, 64])
def test_a_patch_as_large_as_the_domain_is_the_global_pod(size: int) -> None:
    """64 × 64 cells go through the random range finder."""
    x = field(120, 1, size, size) @ torch.diag(torch.linspace(1, 3, size, dtype=torch.float64))
    modes = 12
    # Few patterns of clearly different size, and noise: modes that numpy can tell apart.
    left, values, right = np.linalg.svd(x.flatten(1).numpy(), full_matrices=False)
    values = 0.7 ** np.arange(len(values)) + 1e-4
    x = torch.tensor((left * values) @ right).reshape(x.shape)
    latent = PatchPOD(patch=size, modes=modes).double()
    latent.fit([x[:50], x[50:]])
    samples = x.flatten(1).numpy()
    _, _, expected = np.linalg.svd(samples - samples.mean(0), full_matrices=False)
    assert subspace_gap(rows(latent), expected[:modes]) < 1e-5
    assert latent.encode(x).shape == (120, modes, 1, 1, 1)
    np.testing.assert_allclose(latent.mean.flatten().numpy(), samples.mean(0), atol=1e-12)


def test_a_global_basis_leaves_land_alone() -> None:
    """Land that is always unknown: the basis of the ocean cells, and zero on land, in both ways of fitting."""
    x, ocean = field(80, 1, 16, 16), (field(1, 1, 16, 16, seed=9) > 0)[0].double()
    latent = PatchPOD(patch=16, modes=5).double()
    latent.fit([x * ocean], [ocean.expand_as(x)])
    cells = ocean.flatten().numpy() > 0
    samples = x.flatten(1).numpy()[:, cells]
    _, _, expected = np.linalg.svd(samples - samples.mean(0), full_matrices=False)
    assert subspace_gap(rows(latent)[:, cells], expected[:5]) < 1e-6
    assert np.abs(rows(latent)[:, ~cells]).max() < 1e-9 and not latent.floor.flatten()[~cells].any()


def test_the_random_range_finder_agrees_with_the_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = torch.tensor(patches(field(), 8, 8)) * torch.linspace(3, 0.1, 64)
    basis, shares = pod(lambda: iter([(samples[:50], None), (samples[50:], None)]), 64, 3)
    monkeypatch.setattr("finescale.latents.pod.DENSE", 32)
    found, captures = pod(lambda: iter([(samples, None)]), 64, 3)
    # After the sixth pass what is left of the start's angle, 1 to 30, is (λ_20 / λ_3)^6; in the variance its square.
    variances = torch.linalg.eigvalsh(samples.T @ samples).flip(0)
    left = 100 * float(variances[19] / variances[2]) ** 6
    assert subspace_gap(found.numpy(), basis.numpy()) < left < 1e-4
    torch.testing.assert_close(captures, shares, rtol=left, atol=0)
    torch.testing.assert_close(captured(lambda: iter([(samples, None)]), basis), shares, rtol=1e-9, atol=0)


def test_energy_keeps_the_fewest_modes_that_reach_it() -> None:
    x = field()
    every = PatchPOD(patch=4, modes=16).double()
    every.fit([x])
    total = every.energies.cumsum(0)
    for energy in (0.5, 0.9, 0.99):
        latent = PatchPOD(patch=4, modes=16, energy=energy).double()
        latent.fit([x])
        assert total[latent.kept - 1] >= energy and (latent.kept == 1 or total[latent.kept - 2] < energy)
        z = latent.encode(x)
        assert z.shape[1] == 16 and not z[:, latent.kept :].any()
        loud = z.clone()
        loud[:, latent.kept :] = 7
        assert torch.equal(latent.decode(loud), latent.decode(z))
        assert not latent.fold(x)[:, latent.kept : 16].any()
        torch.testing.assert_close(latent.energies, every.energies)


def test_a_random_basis_captures_less() -> None:
    x = field()
    fitted, drawn = PatchPOD(patch=8, modes=6).double(), PatchPOD(patch=8, modes=6, random=True).double()
    for latent in (fitted, drawn):
        latent.fit([x])
    np.testing.assert_allclose(rows(drawn) @ rows(drawn).T, np.eye(6), atol=1e-6)
    assert fitted.energies.sum() > 0.75
    # 6 of 64 directions at random capture about 6/64.
    assert drawn.energies.sum() < 0.12
    assert drawn.floor.mean() > 3 * fitted.floor.mean()


def test_overlapping_patches_have_no_steps_at_their_borders() -> None:
    """Of white latents: the mean square step across a patch's border over that within patches."""
    ratios = {}
    for overlap in (False, True):
        latent = PatchPOD(patch=8, modes=6, overlap=overlap).double()
        latent.fit([field(frames=1, width=64)])
        z = torch.randn(
            200, 6, 1, 64 // latent.stride[1], 64 // latent.stride[2], generator=torch.Generator().manual_seed(1)
        )
        step = latent.decode(z.double()).diff(dim=-1).square().mean((0, 1, 2, 3))
        at = torch.zeros(63, dtype=torch.bool)
        at[7::8] = True
        ratios[overlap] = float(step[at].mean() / step[~at].mean())
    assert ratios[False] > 5
    assert ratios[True] < 2


@pytest.mark.parametrize("latent", FITTED.values(), ids=FITTED.keys())
@pytest.mark.parametrize("kind", ["variance", "factor", "block"])
def test_variance_agrees_with_monte_carlo(latent: PatchPOD, kind: str) -> None:
    latent = latent.double()
    latent.fit([field()])
    generator = torch.Generator().manual_seed(2)
    shape = (latent.channels, 2 // latent.stride[0], 16 // latent.stride[1], 16 // latent.stride[2])
    cells, members = shape[1] * shape[2] * shape[3], 4000

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    if kind == "variance":
        sigma = normal(1, *shape).square()
        z = normal(members, *shape) * sigma.sqrt()
    elif kind == "factor":
        sigma = normal(1, 5, *shape)
        z = torch.einsum("nr,rkthw->nkthw", normal(members, 5), sigma[0])
    else:
        root = normal(cells, latent.channels, 3)
        sigma = (root @ root.mT).permute(1, 2, 0).reshape(1, latent.channels, *shape)
        z = torch.einsum("pkr,npr->nkp", root, normal(members, cells, 3)).reshape(members, *shape)
    expected = latent.decode_variance(**{kind: sigma})[0]
    decoded = latent.decode(z)
    # The standard error of a variance of n normal samples is √(2/n): 2.2 %; 6 of them for the worst cell.
    torch.testing.assert_close(decoded.var(0), expected, rtol=6 * (2 / members) ** 0.5, atol=1e-12)
    floor = latent.truncated((2, 16, 16))
    noisy = decoded + normal(*decoded.shape) * floor.sqrt()
    with_floor = latent.decode_variance(**{kind: sigma}, floor=True)[0]
    torch.testing.assert_close(noisy.var(0), with_floor, rtol=6 * (2 / members) ** 0.5, atol=1e-12)


def test_modes_and_what_they_leave_are_the_variance_of_the_data() -> None:
    """Whitened coefficients of the training data have Σ = I; the floor is that of data that are not fitted."""
    x = field()
    latent = PatchPOD(patch=(4, 8), modes=9).double()
    latent.fit([x])
    decoded = latent.decode_variance(torch.ones_like(latent.encode(x)[:1]))[0, 0, 0, :4, :8].flatten()
    left = patches(x - latent.decode(latent.encode(x)), 4, 8).var(0)
    np.testing.assert_allclose(decoded.numpy() + left, patches(x, 4, 8).var(0), rtol=1e-6)
    assert 1 < float(latent.floor.mean()) / left.mean() < 1.1


@pytest.mark.parametrize(("crops", "modes"), [(60, 8), (300, 8), (300, 40), (1000, 40)])
def test_the_floor_is_that_of_other_data(crops: int, modes: int) -> None:
    """Gaussian fields of 16² cells with a known covariance C, of which modes Φ leave tr((I − ΦΦᵀ) C)."""
    generator, size = torch.Generator().manual_seed(1), 256
    directions = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    variances = 0.9 ** torch.arange(size, dtype=torch.float64) + 0.02
    draws = torch.randn(crops, size, generator=generator, dtype=torch.float64)
    x = (draws * variances.sqrt()) @ directions.T
    latent = PatchPOD(patch=16, modes=modes).double()
    latent.fit([x.reshape(-1, 1, 1, 16, 16)])
    projection = torch.eye(size, dtype=torch.float64) - latent.basis.flatten(1).T @ latent.basis.flatten(1)
    left = (projection @ directions * variances) @ (projection @ directions).T
    seen = ((x - x.mean(0)) @ projection).square().sum() / crops
    # The trace of a sample covariance has a standard error of √(2 Σ λ² / N) / Σ λ, 4 % for 60 crops.
    spread = float((2 * left.square().sum() / crops).sqrt() / left.trace())
    claimed = float(latent.floor.sum() / left.trace())
    assert abs(claimed - 1) < 0.03 + 2 * spread
    # What would be claimed of the crops that were fitted.
    assert float(seen / left.trace()) < 1 - 0.5 * modes / crops
    assert abs(claimed - 1) < abs(float(seen / left.trace()) - 1)


def test_what_is_fitted_does_not_depend_on_how_crops_come() -> None:
    """One by one, in uneven parts, or at once; from a generator, which is gone through once, too."""
    x, known = field(20, 1, 16, 16), (field(20, 1, 16, 16, seed=8) > -1).double()
    whole = PatchPOD(patch=8, modes=6, overlap=True).double()
    whole.fit([x * known], [known])
    for size in (1, 7):
        for once in (False, True):
            latent = PatchPOD(patch=8, modes=6, overlap=True).double()
            parts = [(x * known).split(size), known.split(size)]
            latent.fit(*((iter(part) if once else part) for part in parts))
            for name, value in whole.state_dict().items():
                torch.testing.assert_close(latent.state_dict()[name], value, rtol=1e-6, atol=1e-6)


def test_too_few_crops_to_measure_a_floor_are_refused_beforehand() -> None:
    latent = PatchPOD(patch=8, modes=30)
    with pytest.raises(InputError, match="single crop"):
        latent.check(1, (1, 32, 32))
    with pytest.raises(InputError, match=r"latent\.modes is 30, but the training crops hold only 16 patches"):
        latent.check(2, (1, 32, 32))
    latent.check(3, (1, 32, 32))
    PatchPOD(patch=4, modes=16).check(1, (1, 32, 32))  # leaves nothing
    PatchPOD(patch=4, modes=16).fit([field(1, 1, 32, 32)])
    Pixel().check(1, (1, 32, 32))


def test_conditions_as_published_are_the_coefficients_of_the_anomaly() -> None:
    """Φᵀ (c − ū) in standard deviations of the latent, field by field (arXiv 2605.03399)."""
    x = field(60, 1, 16, 16)
    latent = PatchPOD(patch=16, modes=9, condition="anomaly").double()
    latent.fit([x])
    fields = torch.cat([x, 2 * x], 1)
    told = latent.fold(fields)
    assert told.shape == (60, latent.condition_channels(2), 1, 1, 1) == (60, 18, 1, 1, 1)
    anomaly = x - x.mean(0)
    scale = latent.scale.flatten().numpy()
    wanted = anomaly.flatten(1).numpy() @ rows(latent).T / np.maximum(scale, 0.1 * scale.max())
    np.testing.assert_allclose(told[:, :9].flatten(1).numpy(), wanted, atol=1e-6)
    twice = wanted + x.flatten(1).numpy() @ rows(latent).T / np.maximum(scale, 0.1 * scale.max())
    np.testing.assert_allclose(told[:, 9:].flatten(1).numpy(), twice, atol=1e-6)


@pytest.mark.parametrize("latent", FITTED.values(), ids=FITTED.keys())
def test_the_remainder_is_what_the_modes_leave_out(latent: PatchPOD) -> None:
    """Noise of the floor's variance in every cell, that the modes do not see."""
    latent = latent.double()
    latent.fit([field()])
    members = 4000
    white = torch.randn(
        members, 1, 2, 48, 48, generator=torch.Generator().manual_seed(5), dtype=torch.float64
    )  # two tiles of the largest patches on each side of the middle
    left_out = latent.left_out(white)[..., 16:32, 16:32]
    floor = latent.truncated((2, 16, 16))
    assert float(floor.min()) > 0
    torch.testing.assert_close(left_out.var(0), floor, rtol=6 * (2 / members) ** 0.5, atol=1e-12)
    if max(latent.reach) == 1 and latent.large is None:
        latent.floor.copy_(1 - latent.basis.square().sum(0))  # g = 1: the projection itself
        assert float(latent.analysis(latent.left_out(white[:9])).abs().max()) < 1e-6  # the basis is in float32


def test_conditions_are_the_coefficients_of_their_fields() -> None:
    """Φᵀ (c − its patch mean) in standard deviations of the latent, then that mean, field by field."""
    x, latent = field(), PatchPOD(patch=(4, 8), modes=9).double()
    latent.fit([x])
    conditions = torch.cat([field(seed=4), 3 * field(seed=5)], 1)
    folded = latent.fold(conditions)
    assert folded.shape[1] == latent.condition_channels(2) == 20
    for n in range(2):
        cut = patches(conditions[:, n : n + 1], 4, 8)
        mean = cut.mean(1, keepdims=True)
        scale = latent.scale.flatten().numpy()
        wanted = np.hstack([(cut - mean) @ rows(latent).T / np.maximum(scale, 0.1 * scale.max()), mean])
        np.testing.assert_allclose(folded[:, 10 * n : 10 * n + 10].movedim(1, -1).reshape(-1, 10), wanted, atol=1e-10)


def test_what_cannot_be_is_refused() -> None:
    latent = PatchPOD(patch=8, modes=4)
    for use in (latent.encode, latent.fold, lambda x: latent.fit([x])):
        with pytest.raises(InputError, match=r"\(1, 12, 16\) cells does not divide by the latent stride \(1, 8, 8\)"):
            use(torch.zeros(1, 1, 1, 12, 16))
    with pytest.raises(InputError, match="17 modes, but a patch of"):
        PatchPOD(patch=4, modes=17)
    with pytest.raises(InputError, match="hold only 2 patches"):
        latent.fit([torch.randn(2, 1, 1, 8, 8)])
    with pytest.raises(InputError, match="hold only 0 patches"):
        latent.fit([torch.zeros(2, 1, 1, 16, 16)], [torch.zeros(2, 1, 1, 16, 16)])
    with pytest.raises(InputError, match="even number"):
        PatchPOD(patch=5, overlap=True)
    with pytest.raises(InputError, match="multiple of"):
        PatchPOD(patch=8, coarse=(12, 4))
    with pytest.raises(InputError, match=r"latent.energy is 99"):
        PatchPOD(energy=99)
    with pytest.raises(ValueError, match="one of variance, factor"):
        latent.decode_variance()


def test_a_configuration_names_it() -> None:
    latent = part(latents, {"kind": "patch_pod", "patch": [4, 8], "modes": 9, "coarse": [8, 2]}, "latent", channels=1)
    assert latent.stride == (1, 8, 8) and latent.channels == 2 * 9 + 2
    with pytest.raises(InputError, match=r"latent\.modes is 0"):
        part(latents, {"kind": "patch_pod", "modes": 0}, "latent")


def test_members_with_the_remainder_have_the_variance_in_closed_form() -> None:
    """…and those of a window are a part of those of the domain."""
    model = build_model(
        read_config("patch-pod", {"denoiser.backbone.width": 8, "process.steps": 1, "constraint": "none"})
    ).eval()
    assert model.latent.remainder
    model.latent.floor.copy_(torch.rand(1, 1, 8, 8) + 0.5)
    given = torch.rand(1, 1, 1, 16, 16)
    found = model.marginals(Inputs(given), Members(range(400)), "members", fields=True)
    np.testing.assert_allclose(found.members.fields.var(1) / found.std.square(), 1, atol=6 * (2 / 400) ** 0.5)
    members = model.sample(Inputs(given), Members(range(2), seed=7)).fields
    plain = model.latent
    plain.remainder = False
    rest = members - model.sample(Inputs(given), Members(range(2), seed=7)).fields
    assert 0.7 < float(rest.std()) < 1.3 and not torch.equal(rest[:, 0], rest[:, 1])
    plain.remainder = True
    part = model.sample(Inputs(given[..., 8:, 8:], origin=(0, 8, 8)), Members(range(1, 2), seed=7)).fields
    plain.remainder = False
    part = part - model.sample(Inputs(given[..., 8:, 8:], origin=(0, 8, 8)), Members(range(1, 2), seed=7)).fields
    torch.testing.assert_close(part, rest[:, 1:, ..., 32:, 32:], rtol=0, atol=1e-5)


def test_a_basis_of_the_whole_domain_serves_no_larger_one() -> None:
    """Neither in training, nor a tensor, nor a file cut into windows that each are as large as the basis."""
    model = build_model(read_config("podiff", {"denoiser.backbone.width": 8, "process.steps": 2}))
    assert model.sample(Inputs(torch.rand(1, 1, 1, 8, 8), origin=(0, 16, 0)), Members()).fields.isfinite().all()
    assert model.sample(Inputs(torch.rand(1, 1, 1, 5, 8)), Members()).fields.shape[-2:] == (20, 32)
    said = (
        "whole domain of 32 x 32 fine cells .*, but here are 36 x 32: take the preset patch-pod, or train with latent"
    )
    with pytest.raises(InputError, match=said):
        model.sample(Inputs(torch.rand(1, 1, 1, 9, 8)), Members())
    with pytest.raises(InputError, match="here are 32 x 64"):
        losses.residual(model, Batch(torch.rand(1, 1, 1, 8, 16), fine=torch.rand(1, 1, 1, 32, 64)))
    da = xr.DataArray(np.ones((1, 16, 8), np.float32), dims=("time", "y", "x"), name="sst")
    da = da.assign_coords(y=np.arange(16.0), x=np.arange(8.0))
    with pytest.raises(InputError, match="here are 64 x 32"):
        model.downscale(da, members=1, window=(1, 8, 8), halo=(0, 0, 0))


@pytest.mark.parametrize("overlap", [False, True])
def test_a_model_with_land_is_fitted_sampled_and_saved(overlap: bool, tmp_path: Path) -> None:
    """Crops of 24 × 24 cells with NaN in the upper half: the latent is that of the lower half's residuals."""
    torch.manual_seed(0)
    model = build_model(
        {
            "factor": "1x4",
            "latent": {"kind": "patch_pod", "patch": 8, "modes": 6, "overlap": overlap},
            "denoiser": {"backbone": {"kind": "unet", "width": 8, "multipliers": [1]}},
            "process": {"steps": 2},
        }
    ).eval()
    fine = field(8, 1, 24, 24).float().clone()
    coarse = torch.nn.functional.avg_pool3d(fine, (1, 4, 4))
    fine[:, :, :, :12] = torch.nan
    batch = Batch(coarse, torch.ones(8, 24, 24), fine=fine)
    model.transform.fit([fine])
    whiten(model, [batch], None, torch.device("cpu"))
    residual = losses.residual(model, batch)
    known = torch.zeros_like(residual)
    known[:, :, :, 12:24, :24] = 1
    alone = PatchPOD(patch=8, modes=6, overlap=overlap)
    alone.fit([residual], [known])
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(model.latent.state_dict()[name], value)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.save(tmp_path)
    given = torch.rand(1, 1, 1, 7, 6)
    drawn = model.sample(Inputs(given), Members(range(2), seed=3)).fields
    assert drawn.shape == (1, 2, 1, 1, 28, 24) and drawn.isfinite().all() and not torch.equal(drawn[:, 0], drawn[:, 1])
    assert torch.equal(load(tmp_path, "cpu").sample(Inputs(given), Members(range(2), seed=3)).fields, drawn)
