"""Evaluation of a denoiser window by window on one canvas.

At every step each window of the noisy canvas, with its halo, goes through the network, and the predictions are added
with weights that sum to one everywhere. With a halo of the network's reach the result is that of the whole canvas; with
a smaller one neighbouring windows are blended at every step, on the same noise, so nothing is averaged that differs
by chance (blending finished samples instead would halve the variance in the overlaps).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from finescale.diffusion.denoiser import Denoiser
from finescale.windows import cut


class TiledDenoiser:
    """denoise(z, sigma) for a sampler: the denoiser with its conditions, evaluated in windows.

    Args:
        denoiser: the network.
        cond: (B, Kc, T', H', W') conditioning fields of the whole canvas.
        window: latent cells a side of a window's core; None for the whole canvas at once.
        context: context manager the network runs in (autocast).
        halo: latent cells around each window that are computed but not used.
        blend: latent cells over which neighbouring windows fade into each other, outside the core and inside the halo.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        cond: Tensor,
        window: int | None = None,
        context: AbstractContextManager[Any] | None = None,
        halo: int = 16,
        blend: int = 8,
    ) -> None:
        self.denoiser, self.cond, self.context = denoiser, cond, context or nullcontext()
        shape: tuple[int, int, int] = tuple(cond.shape[-3:])  # type: ignore[assignment]
        stride = int(getattr(denoiser.backbone, "stride", 1))
        size = window or max(shape[-2:])
        self.windows = cut(shape, (shape[0], size, size), (0, halo, halo), (0, blend, blend), (1, stride, stride))

    def __call__(self, z: Tensor, sigma: Tensor) -> Tensor:
        """Clean estimate of the canvas z (B, K, T', H', W') at the scalar sigma."""
        levels = sigma.expand(len(z))
        with self.context:
            if len(self.windows) == 1:
                return self.denoiser(z, levels, self.cond)
            out = torch.zeros_like(z)
            for window in self.windows:
                t, y, x = window.read
                part = self.denoiser(z[..., t, y, x], levels, self.cond[..., t, y, x])
                a, b, c = (torch.as_tensor(w, dtype=z.dtype, device=z.device) for w in window.weights)
                out[..., t, y, x] += part * (a[:, None, None] * b[:, None] * c)
            return out
