"""Proper orthogonal decomposition: the orthonormal modes that capture most variance.

Of samples x (N, D) with zero mean, known or not cell by cell, the covariance is

    C_ij = Σ_n x_ni x_nj / N_ij,      N_ij = how often both cells i and j are known      (unknown x_ni are 0)

and the modes are its leading eigenvectors φ_k, Cφ_k = λ_k φ_k, in the order of λ. Samples come in chunks, which are
gone through as often as needed, so they never lie in memory together; sums are taken in float64, so that chunks make
no difference.

C is D × D. Above `DENSE` it is never formed: its range is found by subspace iteration from a random start (Halko,
Martinsson and Tropp 2011), one pass over the samples each. N_ij is then taken as √(N_ii N_jj), which is the same where
the same cells are missing in all samples, such as land.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from finescale.errors import InputError

DENSE = 3072
"""Patches of more cells have their modes found at random."""
OVERSAMPLING = 16
PASSES = 6
"""Of the subspace iteration; the error of mode k falls as (λ_{K+17} / λ_k)^PASSES."""

Chunks = Callable[[], Iterator[tuple[Tensor, Tensor | None]]]
"""Goes through the samples (n, D) in float64, with 1 where they are known, or None where they are in all cells."""


def pod(chunks: Chunks, dimension: int, modes: int) -> tuple[Tensor, Tensor]:
    """Leading modes.

    Args:
        chunks: the samples.
        dimension: D.
        modes: K.

    Returns:
        The modes (K, D), their largest entry positive, and the share (K,) of the variance that each captures.

    Raises:
        InputError: if there are fewer samples than modes.
    """
    found = _dense(chunks, dimension, modes) if dimension <= DENSE else _random_range(chunks, dimension, modes)
    values, vectors, total = found
    basis = vectors.T.contiguous()
    largest = basis.gather(1, basis.abs().argmax(1, keepdim=True))
    return basis * largest.sign(), values.clamp_min(0) / total.clamp_min(torch.finfo(total.dtype).tiny)


def captured(chunks: Chunks, basis: Tensor) -> Tensor:
    """The share (K,) of the variance that each of any modes (K, D) captures."""
    weight, _ = _weight(chunks, basis.shape[1])
    basis, found, total = basis.double(), torch.zeros(len(basis), dtype=torch.float64), torch.zeros(()).double()
    for x, _ in chunks():
        scaled = x * weight
        found += (scaled @ basis.T).square().sum(0)
        total += scaled.square().sum()
    return found / total.clamp_min(torch.finfo(total.dtype).tiny)


def random_basis(modes: int, dimension: int, seed: int = 0) -> Tensor:
    """K orthonormal rows (K, D) in random directions, the same in every run."""
    normal = torch.randn(dimension, modes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(normal).Q.T.contiguous()


def _dense(chunks: Chunks, dimension: int, modes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues (K,), eigenvectors (D, K) and the trace of the covariance."""
    square, pairs = torch.zeros(2, dimension, dimension, dtype=torch.float64)
    count = 0
    for x, known in _gathered(chunks, dimension):
        count += len(x)
        square.addmm_(x.T, x)
        # Exact in float64 up to 2^53 samples.
        pairs += len(x) if known is None else known.T @ known
    check_count(count, modes)
    covariance = square / pairs.clamp_min(1)
    values, vectors = torch.linalg.eigh(covariance)
    return values.flip(0)[:modes], vectors.flip(1)[:, :modes], covariance.trace()


def _random_range(chunks: Chunks, dimension: int, modes: int) -> tuple[Tensor, Tensor, Tensor]:
    """As `_dense`, without the covariance."""
    weight, count = _weight(chunks, dimension)
    check_count(count, modes)
    start = random_basis(min(modes + OVERSAMPLING, dimension), dimension).T
    total = sum(((x * weight).square().sum() for x, _ in chunks()), torch.zeros((), dtype=torch.float64))
    for _ in range(PASSES):
        image = torch.zeros_like(start)
        for x, _ in chunks():
            scaled = x * weight
            image.addmm_(scaled.T, scaled @ start)
        start = torch.linalg.qr(image).Q
    inner = torch.zeros(start.shape[1], start.shape[1], dtype=torch.float64)
    for x, _ in chunks():
        projected = (x * weight) @ start
        inner += projected.T @ projected
    values, vectors = torch.linalg.eigh(inner)
    return values.flip(0)[:modes], start @ vectors.flip(1)[:, :modes], total


def _gathered(chunks: Chunks, rows: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The same samples, at least so many at a time: adding to a D × D matrix costs what a product of D samples does."""
    waiting: list[tuple[Tensor, Tensor | None]] = []

    def together() -> tuple[Tensor, Tensor | None]:
        everywhere = all(known is None for _, known in waiting)
        masks = [torch.ones_like(x) if known is None else known for x, known in waiting]
        return torch.cat([x for x, _ in waiting]), None if everywhere else torch.cat(masks)

    for chunk in chunks():
        waiting.append(chunk)
        if sum(len(x) for x, _ in waiting) >= rows:
            yield together()
            waiting = []
    if waiting:
        yield together()


def _weight(chunks: Chunks, dimension: int) -> tuple[Tensor, int]:
    """1/√N_ii (D,), and how many samples there are."""
    seen, count = torch.zeros(dimension, dtype=torch.float64), 0
    for x, known in chunks():
        count += len(x)
        seen += len(x) if known is None else known.sum(0)
    return seen.clamp_min(1).rsqrt(), count


def check_count(count: int, modes: int) -> None:
    """Refuse to find more modes than there are samples."""
    if count < modes:
        raise InputError(
            f"latent.modes is {modes}, but the training crops hold only {count} patches to learn them from: take fewer "
            "modes, smaller patches or more data"
        )
