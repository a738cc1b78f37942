"""Variance through the decoder and the constraint in closed form: against dense matrices."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from finescale.grids.factor import Factor
from finescale.latents import LinearLatentSpace, PatchPOD, Pixel, Wavelet
from finescale.model.covariance import Decoder, Moments, diagonal, independent, low_rank
from finescale.operators.coarsen import Coarsen


def pod(**settings: Any) -> PatchPOD:
    """A truncated basis of patches of 4 × 4 cells."""
    latent = PatchPOD(patch=4, modes=5, **settings).double()
    latent.fit([torch.randn(6, 1, 1, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)])
    return latent


# (latent, factor, coarse cells): blocks that are a multiple of the patch, that are not, and overlapping supports.
CASES: list[tuple[LinearLatentSpace, Factor, tuple[int, int, int]]] = [
    (Pixel(), Factor(1, y=2, x=3), (1, 4, 4)),
    (Pixel(), Factor(2, 2), (2, 3, 4)),
    (Wavelet(1), Factor(1, 4), (1, 3, 4)),
    (Wavelet(1), Factor(1, y=3, x=5), (1, 4, 4)),
    (Wavelet(2), Factor(1, 3), (1, 5, 6)),
    (Wavelet(1, "db2"), Factor(1, y=4, x=2), (1, 4, 9)),
    (Wavelet(1, frames=2), Factor(3, 2), (2, 4, 3)),
    (pod(), Factor(1, 8), (1, 2, 3)),
    (pod(overlap=True), Factor(1, y=4, x=3), (1, 5, 6)),
]
IDS = [f"{type(latent).__name__}-{i}-{factor}" for i, (latent, factor, _) in enumerate(CASES)]


def dense(decoder: Decoder, shape: tuple[int, ...], operators: Coarsen | None) -> Tensor:
    """(cells, coefficients): the matrix N L, column by column."""
    columns = decoder(torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape))
    columns = columns if operators is None else columns - operators.replicate(operators(columns))
    return columns.flatten(1).T


def case(latent: LinearLatentSpace, factor: Factor, cells: tuple[int, int, int]) -> tuple[Decoder, Coarsen, Tensor]:
    """A decoder with uneven scales, operators of uneven areas, and a variance (2, K, T', H', W')."""
    generator = torch.Generator().manual_seed(5)
    latent = latent.double()
    latent.scale.copy_(0.5 + torch.rand(latent.scale.shape, generator=generator))
    t, height, width = (n * f for n, f in zip(cells, factor, strict=True))
    inner = [-(-n // s) for n, s in zip((t, height, width), latent.stride, strict=True)]
    variance = torch.rand(2, latent.channels, *inner, generator=generator, dtype=torch.float64)
    area = 0.5 + torch.rand(2, 1, 1, height, width, generator=generator, dtype=torch.float64)
    return Decoder(latent, (t, height, width)), Coarsen(factor, area), variance


@pytest.mark.parametrize(("latent", "factor", "cells"), CASES, ids=IDS)
def test_diagonal_through_decoder_and_constraint_is_the_dense_matrix(
    latent: LinearLatentSpace, factor: Factor, cells: tuple[int, int, int]
) -> None:
    decoder, operators, variance = case(latent, factor, cells)
    for item in range(2):
        one = Coarsen(factor, operators.area[item])  # type: ignore[index]
        for constraint in (None, one):
            expected = dense(decoder, tuple(variance.shape[1:]), constraint).square() @ variance[item].flatten()
            found = diagonal(decoder, variance[item : item + 1], constraint)
            torch.testing.assert_close(found.flatten(), expected, rtol=1e-9, atol=1e-12)
    both = diagonal(decoder, variance, operators)
    one = Coarsen(factor, operators.area[1])  # type: ignore[index]
    torch.testing.assert_close(both[1:], diagonal(decoder, variance[1:], one), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("latent", "factor", "cells"), CASES[2:6], ids=IDS[2:6])
def test_low_rank_keeps_what_cells_have_in_common(
    latent: LinearLatentSpace, factor: Factor, cells: tuple[int, int, int]
) -> None:
    decoder, operators, variance = case(latent, factor, cells)
    one = Coarsen(factor, operators.area[0])  # type: ignore[index]
    z = torch.randn(7, *variance.shape[1:], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    moments = Moments.of_members(z[None])
    fields = decoder(z)
    closed = fields - one.replicate(one(fields))
    torch.testing.assert_close(moments.field_variance(decoder, one)[0], closed.var(0), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(moments.field_variance(decoder, None)[0], fields.var(0), rtol=1e-9, atol=1e-12)
    full = (z - z.mean(0)).flatten(1)
    matrix = dense(decoder, tuple(variance.shape[1:]), one)
    expected = torch.einsum("ik,kl,il->i", matrix, full.T @ full / 6, matrix)
    assert moments.factor is not None
    torch.testing.assert_close(low_rank(decoder, moments.factor, one).flatten(), expected, rtol=1e-9, atol=1e-12)


def test_independent_cells_through_the_constraint() -> None:
    decoder, operators, variance = case(Pixel(), Factor(1, y=2, x=3), (1, 4, 4))
    decoder.latent.scale.fill_(1)
    torch.testing.assert_close(independent(variance, operators), diagonal(decoder, variance, operators))


def test_what_a_truncated_latent_leaves_out_is_added() -> None:
    """Of N V Nᵀ with V the diagonal of what the modes do not hold, which counts as independent between cells."""
    decoder, operators, variance = case(pod(), Factor(1, 8), (1, 2, 3))
    one = Coarsen(Factor(1, 8), operators.area[0])  # type: ignore[index]
    left_out = decoder.latent.truncated((1, 16, 24))
    assert float(left_out.min()) > 0.2
    n = torch.eye(16 * 24, dtype=torch.float64).reshape(-1, 1, 1, 16, 24)
    n = (n - one.replicate(one(n))).flatten(1).T
    for constraint, matrix in ((None, torch.eye(16 * 24, dtype=torch.float64)), (one, n)):
        found = Moments(variance=variance[:1]).field_variance(decoder, constraint)
        expected = diagonal(decoder, variance[:1], constraint).flatten() + matrix.square() @ left_out.flatten()
        torch.testing.assert_close(found.flatten(), expected, rtol=1e-9, atol=1e-12)


def test_the_adjoint_is_that_of_the_decoder() -> None:
    decoder, _, variance = case(Wavelet(2, "db2"), Factor(1, 3), (1, 5, 6))
    z, w = torch.randn_like(variance), torch.randn(2, 1, *decoder.size, dtype=torch.float64)
    torch.testing.assert_close((decoder(z) * w).sum(), (z * decoder.adjoint(w, z)).sum())
