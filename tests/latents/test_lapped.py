"""The lapped transform against its definition, and what it is for: no steps at the borders of blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dct, dctn

from finescale.errors import InputError
from finescale.latents import Lapped, Wavelet
from finescale.latents.lapped import turn, whole


def analysis_of_an_axis(side: int, blocks: int) -> torch.Tensor:
    unit = torch.eye(side * blocks, dtype=torch.float64).reshape(-1, 1, 1, 1, side * blocks)
    rows = unit.expand(-1, -1, -1, side, -1)  # constant along y: only the lowest band there
    return Lapped(side).analysis(rows).reshape(len(unit), side, side, blocks)[:, 0].mT.flatten(1).T / side**0.5


@pytest.mark.parametrize("side", [2, 4, 8, 16])
def test_white_noise_stays_white(side: int) -> None:
    matrix = whole(4, side)
    one = torch.eye(4 * side, dtype=torch.float64)
    torch.testing.assert_close(matrix.T @ matrix, one, rtol=0, atol=1e-12)
    torch.testing.assert_close(turn(side) @ turn(side).T, one[:side, :side], rtol=0, atol=1e-12)
    torch.testing.assert_close(analysis_of_an_axis(side, 4), matrix.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("side", "cosine", "lapped"), [(4, 7.57, 7.93), (8, 8.83, 9.22), (16, 9.46, 9.76)])
def test_coding_gain_is_that_of_the_literature(side: int, cosine: float, lapped: float) -> None:
    """Of the block in the middle of a first-order process of correlation .95 (Malvar 1992: 9.2 dB for blocks of 8)."""
    n = 4 * side
    covariance = 0.95 ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))

    def gain(synthesis: np.ndarray) -> float:
        variance = np.diag(synthesis.T @ covariance @ synthesis)[side : 2 * side]
        return float(-10 * np.log10(np.exp(np.log(variance).mean())))

    blocks = np.kron(np.eye(4), dct(np.eye(side), axis=0, norm="ortho").T)
    assert gain(blocks) == pytest.approx(cosine, abs=0.01)
    assert gain(whole(4, side).numpy()) == pytest.approx(lapped, abs=0.01)


def test_a_window_of_one_block_is_the_cosine_transform() -> None:
    x = torch.randn(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = dctn(x.numpy(), axes=(-2, -1), norm="ortho").transpose(0, 1, 3, 4, 2).reshape(2, 64, 3, 1, 1)
    np.testing.assert_allclose(Lapped(8).analysis(x).numpy(), wanted, atol=1e-12)


def test_constants_are_in_the_lowest_band() -> None:
    bands = Lapped(4).analysis(torch.full((1, 1, 1, 16, 24), 3.0, dtype=torch.float64))
    torch.testing.assert_close(bands[:, 0], torch.full((1, 1, 4, 6), 12.0, dtype=torch.float64))
    assert bands[:, 1:].abs().max() < 1e-12


def steps(latent: Lapped | Wavelet) -> list[float]:
    """Root mean square steps of fields of independent bands, at the border and further into blocks.

    The bands have the variances that a field of correlation .97 from cell to cell has in blocks inside a window.
    """
    side, blocks = latent.stride[-1], 6
    rows = torch.arange(side * blocks)
    along = 0.97 ** (rows[:, None] - rows).abs().double()
    unit = torch.eye(len(rows) ** 2, dtype=torch.float64).reshape(-1, 1, 1, len(rows), len(rows))
    columns = latent.analysis(unit).flatten(1).T
    variance = ((columns @ torch.kron(along, along)) * columns).sum(1).reshape(1, -1, 1, blocks, blocks)
    inside = variance[..., 2:4, 2:4].mean((-2, -1), keepdim=True).expand_as(variance)
    noise = torch.randn(100, *variance.shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = latent.synthesis(noise * inside.sqrt()).diff(dim=-1).square().mean((0, 1, 2, 3))
    return step[side - 1 : -side].reshape(-1, side)[1:-1].mean(0).sqrt().tolist()


def test_bands_that_know_nothing_of_each_other_leave_small_steps_at_borders() -> None:
    """Over the mean of the other steps: 4.9 and 1.9 at Haar's border and middle, 1.3 and 1.1 here."""
    for latent, borders, middles in ((Wavelet(3), (4, 6), (1.6, 2.2)), (Lapped(8), (1, 1.4), (0.9, 1.2))):
        found = steps(latent)
        others = sum(found[n] for n in (1, 2, 3, 5, 6, 7)) / 6
        assert borders[0] < found[0] / others < borders[1]
        assert middles[0] < found[4] / others < middles[1]


def test_odd_sides_are_refused() -> None:
    with pytest.raises(InputError, match=r"latent.side is 5: .* must be even"):
        Lapped(5)
