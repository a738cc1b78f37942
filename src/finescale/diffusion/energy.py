"""The energy score of an ensemble of latents, a strictly proper score that can be minimised directly."""

from __future__ import annotations

from torch import Tensor

TINY = 1e-12


def energy_score(members: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean over latent cells of the fair energy score of the K coefficients that a cell holds,

        mean_m |x_m − y| − ½ mean_{m ≠ n} |x_m − x_n|,      |·| the Euclidean norm over K, divided by √K.

    Its expectation is least where members and truth have the same distribution in every cell, K coefficients jointly;
    so a sampler that is trained on it is neither too sure nor too unsure. The patches of a field are scored apart, not
    the field as a whole, whose few members would tell little of so many numbers (Pacchiardi et al. 2024, JMLR 25,
    "patched" scores; fair: Ferro 2014). For K = 1 it is the fair CRPS.

    Args:
        members: (M, B, K, T', H', W'), at least 2.
        truth: (B, K, T', H', W').
        weight: (B, 1, T', H', W'), 0 where the latent is unknown; None for equal weights.
    """
    count = len(members)
    if count < 2:
        raise ValueError("the fair energy score needs at least 2 members")
    error = _length(members - truth).mean(0)
    apart = _length(members[:, None] - members[None]).sum((0, 1)) / (count * (count - 1))
    score = error - 0.5 * apart
    return score.mean() if weight is None else (score * weight).sum() / weight.sum().clamp_min(TINY)


def _length(x: Tensor) -> Tensor:
    """Root mean square over K, (..., K, T', H', W') -> (..., 1, T', H', W'); its slope at 0 is 0."""
    return (x.square().mean(-4, keepdim=True) + TINY).sqrt()
