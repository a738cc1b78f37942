"""
Adding a part
=============

A model of finescale has six parts: transform, mean, latent, denoiser, sampler and
constraint. Each kind of part is a class in a file of its own. Here a *latent* is added,
the numbers in which the sampler works instead of cells: the Walsh–Hadamard transform of
blocks of 4 × 4 cells. Like wavelets it is orthonormal, and has only 1 and −1 in it.
"""

# %%
# One class is all. ``analysis`` makes 16 channels of each block, ``synthesis`` goes
# back, and ``synthesis_squared`` sends variances back, with the squares of the weights.
# Fields are (B, C, T, H, W): batch, channels, times, rows and columns. Fitting,
# whitening (each channel gets a standard deviation of 1) and conditions come with the
# base class.

import torch
from scipy.linalg import hadamard
from torch import Tensor

from finescale.latents.base import LinearLatentSpace, depth_to_space, space_to_depth

STRIDE = (1, 4, 4)


class Hadamard(LinearLatentSpace):
    """z = H x / 4 for the 16 cells of each 4 × 4 block, H the Hadamard matrix.

    As H Hᵀ = 16, the synthesis is the transpose of the analysis.
    """

    def __init__(self) -> None:
        super().__init__(channels=16, stride=STRIDE)
        matrix = torch.tensor(hadamard(16), dtype=torch.float32) / 4
        self.register_buffer("matrix", matrix)

    def analysis(self, x: Tensor) -> Tensor:
        return torch.einsum("kc,bcthw->bkthw", self.matrix, space_to_depth(x, STRIDE))

    def synthesis(self, c: Tensor) -> Tensor:
        return depth_to_space(torch.einsum("kc,bkthw->bcthw", self.matrix, c), STRIDE)

    def synthesis_squared(self, variance: Tensor) -> Tensor:
        squares = torch.einsum("kc,bkthw->bcthw", self.matrix.square(), variance)
        return depth_to_space(squares, STRIDE)


# %%
# The 16 patterns. A block is a sum of them.

from finescale.plots import modes

latent = Hadamard()
patterns = latent.synthesis(torch.eye(16).reshape(16, 16, 1, 1, 1))
figure = modes(patterns, first=16, columns=8)
figure.suptitle("Patterns of 4 × 4 cells", fontweight="bold")
figure

# %%
# It is fitted to fields, here smooth random ones, encodes them and brings them back.

from finescale.data.synthetic import gaussian_field

smooth = gaussian_field((16, 64, 64), seed=0, outer_km=20)
fields = torch.from_numpy(smooth)[:, None, None]
latent.fit([fields])
z = latent.encode(fields)
print("latent", tuple(z.shape), f"standard deviation of the channels {z.std():.2f}")
print(f"round trip: largest error {(latent.decode(z) - fields).abs().max():.1e}")

# %%
# Variances go through the linear decoder exactly: if each coefficient has a variance of
# 1, so much has each cell. Many draws of coefficients say the same.

exact = latent.decode_variance(torch.ones_like(z[:1]))
torch.manual_seed(0)
drawn = latent.decode(torch.randn(2000, *z.shape[1:])).var(0)
print(f"variance of a cell: exact {exact.mean():.3f}, of 2000 draws {drawn.mean():.3f}")

# %%
# What a channel looks like: a coefficient for each block. The first is the mean of the
# block, the others differences in it.

from finescale.plots import Region, overview

place = Region((0, 64, 0, 64), "x (km)", "y (km)")
shown = {"A field": fields[0, 0, 0]}
shown |= {f"Channel {k + 1}": z[0, k, 0] for k in (0, 2, 8)}
figure = overview(shown, place, units="standard deviations", columns=4)
figure.suptitle("A field and three of its sixteen channels", fontweight="bold")
figure

# %%
# In the package this is the file ``finescale/latents/hadamard.py``, one line in
# ``finescale/latents/__init__.py``, and one case in ``tests/latents/test_latents.py``,
# which checks all of the above and more. A configuration names it by its file,
# ``latent: hadamard``; the arguments of the class are its keys. The same holds for the
# other parts: :doc:`Architecture </architecture>` has a table of them.
