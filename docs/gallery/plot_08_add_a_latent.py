"""Add a latent space: one class. Here the Walsh–Hadamard transform of 4 × 4 blocks, orthonormal like wavelets.

In the package this is one file in ``finescale/latents``, one line in its ``__init__`` and one case in
``tests/latents/test_latents.py``; a configuration then names it by the file: ``latent: hadamard``.

    python examples/add_a_latent.py
"""

from __future__ import annotations

import torch
from scipy.linalg import hadamard
from torch import Tensor

from finescale.latents.base import LinearLatentSpace, depth_to_space, space_to_depth

STRIDE = (1, 4, 4)


class Hadamard(LinearLatentSpace):
    """z = H x / 4 for the 16 cells of each 4 × 4 block, H the Hadamard matrix: H Hᵀ = 16, so S⁻¹ = Sᵀ."""

    def __init__(self) -> None:
        super().__init__(channels=16, stride=STRIDE)
        self.register_buffer("matrix", torch.tensor(hadamard(16), dtype=torch.float32) / 4)

    def analysis(self, x: Tensor) -> Tensor:
        return torch.einsum("kc,bcthw->bkthw", self.matrix, space_to_depth(x, STRIDE))

    def synthesis(self, c: Tensor) -> Tensor:
        return depth_to_space(torch.einsum("kc,bkthw->bcthw", self.matrix, c), STRIDE)

    def synthesis_squared(self, variance: Tensor) -> Tensor:
        return depth_to_space(torch.einsum("kc,bkthw->bcthw", self.matrix.square(), variance), STRIDE)


if __name__ == "__main__":
    latent = Hadamard()
    fields = torch.randn(4, 1, 1, 32, 32).cumsum(-1)
    latent.fit([fields])
    z = latent.encode(fields)
    print("latent", tuple(z.shape), "std of the channels", z.std().item())
    print("round trip", (latent.decode(z) - fields).abs().max().item())
    print("variance of the decoded field", latent.decode_variance(torch.ones_like(z)).mean().item())
