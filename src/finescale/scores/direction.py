"""Does a field have directions as the truth has: streaks, bands, filaments?

With g = (g_y, g_x) the gradient of z = log10(1 + R/0.1) at the corners where four known cells meet, and

    J = Σ g gᵀ

over the corners in squares of 32 × 32, the structure tensor (Bigün & Granlund 1987), of eigenvalues λ₁ ≥ λ₂,

    directionality = Σ (λ₁ − λ₂) / Σ (λ₁ + λ₂)

over all squares. 1: within a square all gradients lie along one line, as those of streaks do; near 0: they point
everywhere alike. Spectra over rings of wavenumbers, and structure functions along y and x, are blind to it.
"""

from __future__ import annotations

import numpy as np

from finescale.scores.cells import Array, Frame, log_rain, ratio
from finescale.scores.record import Score, Statistic
from finescale.scores.settings import Settings

SIDE = 32
"""Corners of a square."""


def tensor_terms(frame: Frame, settings: Settings) -> Array:
    """Σ(λ₁ − λ₂) and Σ(λ₁ + λ₂) (2, 2) of the members (each) and the truth."""
    known = frame.w > 0
    corners = known[1:, 1:] & known[1:, :-1] & known[:-1, 1:] & known[:-1, :-1]

    def summed(field: Array) -> Array:
        z = log_rain(field)
        # Two diagonals: the gradient turned by 45 degrees, which changes no eigenvalue.
        down, up = (np.where(corners, step, 0.0) for step in (z[1:, 1:] - z[:-1, :-1], z[1:, :-1] - z[:-1, 1:]))
        dd, uu, du = _squares(down * down), _squares(up * up), _squares(down * up)
        return np.array([np.hypot(dd - uu, 2 * du).sum(), (dd + uu).sum()])

    true = frame.of_truth("direction", lambda: summed(frame.y))
    return np.stack([np.mean([summed(x) for x in frame.x], axis=0), true])


def _squares(x: Array) -> Array:
    """Sums over squares that fit in whole."""
    height, width = (n // SIDE for n in x.shape)
    sums: Array = x[: height * SIDE, : width * SIDE].reshape(height, SIDE, width, SIDE).sum((1, 3))
    return sums


def tensor_formula(terms: Array) -> dict[str, Array]:
    """directionality, and the truth's, from summed `tensor_terms`."""
    values = ratio(terms[..., 0], terms[..., 1])
    return {"directionality": values[..., 0], "directionality_truth": values[..., 1]}


DIRECTION = Statistic(
    "direction",
    tensor_terms,
    lambda terms, members, settings: tensor_formula(terms),
    (
        Score(
            "directionality",
            "Directionality",
            "truth",
            "Fields",
            "How far gradients of log-rain within 32 × 32 cells lie along one line, 0 to 1; best is that of the truth. "
            "Lower: streaks and filaments are missing.",
        ),
    ),
    over="frame",
    wanted=lambda settings: settings.rain,
)
