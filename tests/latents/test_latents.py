"""Contract of every latent space, and what is special about wavelets."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import pywt
import torch
from scipy.fft import dct

from finescale import latents
from finescale.config.schema import part
from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.latents import Lapped, LatentSpace, LinearLatentSpace, PatchPOD, Pixel, Wavelet

FAMILIES = ("haar", "db2", "db4", "sym4", "coif1")
CASES: list[LatentSpace] = [
    Pixel(),
    Pixel(interval=True, factor=Factor(3, 4)),
    *(Wavelet(j, family) for j in (1, 2, 3) for family in ("haar", "db2", "sym4")),  # type: ignore[arg-type]
    *(Wavelet(j, family, packet=True) for j in (2, 3) for family in ("haar", "db2")),  # type: ignore[arg-type]
    Wavelet(2, frames=3, packet=True),
    Lapped(2),
    Lapped(4, frames=3),
    Lapped(8),
    Wavelet(1, frames=2),
    Wavelet(2, "db2", frames=3),
    PatchPOD(patch=8, modes=10),
    PatchPOD(patch=(4, 8), frames=2, modes=64),
    PatchPOD(patch=8, modes=12, overlap=True),
    PatchPOD(patch=4, modes=16, overlap=True),
    PatchPOD(patch=4, modes=5, coarse=(8, 4)),
    PatchPOD(patch=4, modes=3, overlap=True, coarse=(8, 4)),
    PatchPOD(patch=4, modes=6, random=True),
    PatchPOD(patch=4, modes=16, energy=0.99),
]
IDS = [f"{type(c).__name__}-{getattr(c, 'levels', '')}-{i}" for i, c in enumerate(CASES)]


def field(batch: int = 2, frames: int = 6, height: int = 24, width: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(batch, 1, frames, height, width, generator=generator, dtype=torch.float64)
    return x.cumsum(-1) / 3 + 2


def test_every_exported_latent_is_in_the_contract_test() -> None:
    exported = {getattr(latents, name) for name in latents.__all__} - {LatentSpace, LinearLatentSpace}
    assert exported == {type(case) for case in CASES}


@pytest.mark.parametrize("latent", CASES, ids=IDS)
class TestContract:
    def test_round_trip_and_shapes(self, latent: LatentSpace) -> None:
        latent = latent.double()
        x = field()
        latent.fit([x])
        z = latent.encode(x)
        assert z.shape == (2, latent.channels, *(n // s for n, s in zip(x.shape[-3:], latent.stride, strict=True)))
        error = (latent.decode(z) - x).abs().max()
        assert (error < 1e-10) if latent.exact else (1e-3 < error < x.abs().max())

    def test_whitening(self, latent: LatentSpace) -> None:
        latent = latent.double()
        batches = [field(), field(3).flip(-2)]
        latent.fit(batches)
        z = torch.cat([latent.encode(x) for x in batches]).transpose(0, 1).flatten(1)
        torch.testing.assert_close(z.mean(1), torch.zeros(latent.channels, dtype=torch.float64), rtol=0, atol=1e-6)
        std = z.std(1, correction=0)
        if isinstance(latent, PatchPOD) and latent.small.energy is not None:
            assert 1 < latent.kept < latent.channels and not std[latent.kept :].any()
            std = std[: latent.kept]
        torch.testing.assert_close(std, torch.ones_like(std), rtol=1e-4, atol=0)

    def test_unknown_cells_do_not_count(self, latent: LatentSpace) -> None:
        """Fields whose right half is land have the whitening of their left half."""
        latent = latent.double()
        known = torch.zeros(2, 1, 6, 24, 64, dtype=torch.float64)
        known[..., :32] = 1
        x = field(width=64) - 2
        latent.fit([(x * known)[..., :32]])
        wanted = latent.state_dict()["scale"].clone()
        latent.fit([x * known], [known])
        wide = isinstance(latent, PatchPOD) and latent.reach != (1, 1, 1)
        if not wide and not isinstance(latent, Lapped) and not (isinstance(latent, Wavelet) and not latent.haar):
            torch.testing.assert_close(latent.scale, wanted, rtol=1e-7, atol=1e-9)
        latent.fit([x * known])
        assert latent.scale.square().sum() < 0.7 * wanted.square().sum()

    def test_variance_in_closed_form_is_the_decoder_squared(self, latent: LatentSpace) -> None:
        latent = latent.double()
        assert isinstance(latent, LinearLatentSpace)
        latent.fit([field()])
        shape = (1, latent.channels, 1, 16 // latent.stride[1], 24 // latent.stride[2])
        variance = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        unit = torch.eye(variance.numel(), dtype=torch.float64).reshape(-1, *shape[1:])
        columns = (latent.decode(unit) - latent.decode(torch.zeros_like(unit))).flatten(1)
        expected = columns.square().T @ variance.flatten()
        torch.testing.assert_close(latent.decode_variance(variance).flatten(), expected, rtol=1e-9, atol=1e-12)
        blocks = torch.diag_embed(variance.movedim(1, -1)).movedim((-2, -1), (1, 2))
        torch.testing.assert_close(latent.decode_variance(block=blocks).flatten(), expected, rtol=1e-9, atol=1e-12)
        low_rank = (unit * variance.sqrt()).unsqueeze(0)[:, :, :]
        torch.testing.assert_close(latent.decode_variance(factor=low_rank).flatten(), expected, rtol=1e-9, atol=1e-12)

    def test_covariances_within_a_latent_cell_in_closed_form(self, latent: LatentSpace) -> None:
        """Σ with a block for each latent cell against U Σ Uᵀ, U the decoder's columns."""
        latent = latent.double()
        assert isinstance(latent, LinearLatentSpace)
        latent.fit([field()])
        k, positions = latent.channels, (16 // latent.stride[1]) * (16 // latent.stride[2])
        shape = (k, 1, 16 // latent.stride[1], 16 // latent.stride[2])
        root = torch.randn(positions, k, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        sigma = root @ root.mT
        unit = torch.eye(k * positions, dtype=torch.float64).reshape(-1, *shape)
        columns = (latent.decode(unit) - latent.decode(torch.zeros_like(unit))).flatten(1).reshape(k, positions, -1)
        expected = torch.einsum("kpi,pkl,lpi->i", columns, sigma, columns)
        block = sigma.permute(1, 2, 0).reshape(1, k, *shape)
        torch.testing.assert_close(latent.decode_variance(block=block).flatten(), expected, rtol=1e-8, atol=1e-10)

    def test_the_floor_is_the_variance_that_is_left_out(self, latent: LatentSpace) -> None:
        """...of each of two crops by a latent fitted to the other one."""
        latent = latent.double()
        assert isinstance(latent, LinearLatentSpace)
        x = field()
        latent.fit([x])
        none = torch.zeros_like(latent.encode(x)[:1])
        floor = latent.decode_variance(none, floor=True)
        left_out = []
        for seen, held in ((0, 1), (1, 0)):
            other = copy.deepcopy(latent)
            if isinstance(other, PatchPOD):
                other.small.energy = None
            other.fit([x[[seen, seen]]])
            if isinstance(other, PatchPOD) and isinstance(latent, PatchPOD):
                other.small.basis[latent.kept :] = 0
            left_out.append((other.decode(other.encode(x[held : held + 1])) - x[held]).square().mean())
        torch.testing.assert_close(floor.mean(), torch.stack(left_out).mean(), rtol=1e-9, atol=1e-18)
        assert not latent.decode_variance(none).any()

    def test_fold_keeps_every_number(self, latent: LatentSpace) -> None:
        x = field()
        folded = latent.fold(x)
        assert folded.shape[-3:] == latent.encode(x).shape[-3:]
        assert folded.shape[1] == latent.condition_channels(1)
        assert latent.fold(torch.cat([x, x, x], 1)).shape[1] == latent.condition_channels(3)
        if isinstance(latent, PatchPOD):
            return
        assert torch.equal(folded.flatten().sort().values, x.flatten().sort().values)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_wavelets_agree_with_pywavelets(family: str, levels: int) -> None:
    x = field(height=64, width=128)
    ours = Wavelet(levels, family).analysis(x)[0, :, 0].numpy()  # type: ignore[arg-type]
    low, coarsest, *_ = pywt.wavedec2(x[0, 0, 0].numpy(), family, mode="periodization", level=levels)
    np.testing.assert_allclose(ours[0], low, atol=1e-10)
    np.testing.assert_allclose(ours[1:4], np.stack(coarsest), atol=1e-10)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_detail_bands_lie_on_their_own_grids(levels: int) -> None:
    x = field(height=64, width=128)
    latent = Wavelet(levels, "db2")  # type: ignore[arg-type]
    bands = latent.details(latent.analysis(x))
    _, *wanted = pywt.wavedec2(x[1, 0, 1].numpy(), "db2", mode="periodization", level=levels)
    for got, expected in zip(bands, wanted, strict=True):
        np.testing.assert_allclose(got[1, :, 1].numpy(), np.stack(expected), atol=1e-10)
    assert Pixel().details(x) == []


@pytest.mark.parametrize("family", ["haar", "db2", "sym4"])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_packet_splits_every_band(levels: int, family: str) -> None:
    """Against PyWavelets' packet tree: all 4^J bands on the grid of the last level, LL first."""
    x = field(height=64, width=128)
    latent = Wavelet(levels, family, packet=True)  # type: ignore[arg-type]
    ours = latent.analysis(x)[0, :, 0].numpy()
    tree = pywt.WaveletPacket2D(x[0, 0, 0].numpy(), family, mode="periodization", maxlevel=levels)
    bands = {node.path: node.data for node in tree.get_level(levels)}
    assert len(bands) == len(ours) == latent.channels == 4**levels
    for number, band in enumerate(ours):
        # Digits to base 4, the last level's first; PyWavelets' paths begin with the first level.
        path = "".join("ahvd"[number // 4**level % 4] for level in range(levels))
        np.testing.assert_allclose(band, bands[path], atol=1e-9)
    (details,) = latent.details(latent.analysis(x))
    assert torch.equal(details, latent.analysis(x)[:, 1:])
    if levels == 1:
        assert torch.equal(latent.analysis(x), Wavelet(1, family).analysis(x))


def test_conditions_may_go_through_the_transform() -> None:
    """As in arXiv 2507.01354: of every field its coefficients, as many as space-to-depth gives."""
    fields = torch.cat([field(), field().flip(-1), 2 * field()], 1)
    latent = Wavelet(2, condition="analysis")
    folded = latent.fold(fields)
    assert folded.shape == Wavelet(2).fold(fields).shape
    torch.testing.assert_close(folded.square().sum(), fields.square().sum())
    torch.testing.assert_close(folded[:, :3], latent.analysis(fields)[:, :3])
    torch.testing.assert_close(folded[:, 1:2], Wavelet(2).analysis(fields[:, 1:2])[:, :1])
    with pytest.raises(InputError, match=r"latent.condition is 'dwt'"):
        part(latents, {"kind": "wavelet", "condition": "dwt"}, "latent")


@pytest.mark.parametrize("family", FAMILIES)
def test_wavelets_are_orthonormal(family: str) -> None:
    """The analysis matrix times its transpose is the identity, so white noise stays white."""
    latent = Wavelet(2, family)
    unit = torch.eye(16 * 16, dtype=torch.float64).reshape(-1, 1, 1, 16, 16)
    matrix = latent.analysis(unit).flatten(1)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(256, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_haar_low_band_is_the_scaled_block_mean(levels: int) -> None:
    x, block = field(), 2**levels
    mean = torch.nn.functional.avg_pool3d(x, (1, block, block))
    torch.testing.assert_close(Wavelet(levels).analysis(x)[:, :1], block * mean)  # type: ignore[arg-type]


def test_biorthogonal_families_and_odd_windows_are_refused() -> None:
    with pytest.raises(InputError, match="not orthogonal"):
        Wavelet(1, "bior2.2")
    with pytest.raises(InputError, match="unknown wavelet"):
        Wavelet(1, "harr")
    with pytest.raises(InputError, match="stride"):
        Wavelet(2).fold(torch.zeros(1, 1, 1, 6, 8))


def test_frames_are_transformed_by_an_orthonormal_cosine_transform() -> None:
    x = field(batch=1, frames=6, height=4, width=4)
    z = Wavelet(1, frames=3).analysis(x)
    spatial = Wavelet(1).analysis(x)
    expected = dct(spatial.reshape(1, 4, 2, 3, 2, 2).numpy(), axis=3, norm="ortho")
    # Channels: spatial bands outside, bands in time inside, as the levels in space split every band in time.
    ours = torch.stack([z[:, :3], *(z[:, 3 + 3 * k : 6 + 3 * k] for k in range(3))], 1).reshape(1, 4, 3, 2, 2, 2)
    np.testing.assert_allclose(ours.permute(0, 1, 3, 2, 4, 5).numpy(), expected, atol=1e-12)
    pair = Wavelet(1, frames=2).analysis(x)[:, :1]
    torch.testing.assert_close(pair, (spatial[:, :1, ::2] + spatial[:, :1, 1::2]) * 0.5**0.5)


@pytest.mark.parametrize("latent", [Wavelet(2, "haar"), Wavelet(2, "db2"), Lapped(4)], ids=["haar", "db2", "lapped"])
def test_coefficients_are_as_exact_inside_a_bfloat16_network(latent: Wavelet | Lapped) -> None:
    x = torch.randn(2, 1, 1, 16, 24, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        c = latent.analysis(x)
        y = latent.synthesis(c)
    assert c.dtype == y.dtype == torch.float32
    torch.testing.assert_close(c, latent.analysis(x), rtol=0, atol=0)
    torch.testing.assert_close(y, x, rtol=0, atol=1e-5)
