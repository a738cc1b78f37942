"""Evaluation of a network window by window on one canvas, in time and space.

Each window of the canvas, with its halo, goes through the network, and the results are added with weights that sum to
one everywhere. A denoiser is tiled so at every step: with a halo of the network's reach the result is that of the whole
canvas; with a smaller one neighbouring windows are blended at every step, on the same noise, so nothing is averaged
that differs by chance (blending finished samples instead would halve the variance in the overlaps).

Along time a network sees as many frames as in training; windows overlap and fade into each other over their margins,
so that a sequence of any length comes out without jumps.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from finescale.diffusion.denoiser import Denoiser
from finescale.grids.windows import Cut, cut


@dataclass(frozen=True)
class Tiling:
    """How a canvas (T', H', W') is cut.

    Attributes:
        window: cells a side of a window's core; None for the whole plane at once.
        halo: cells around each window that are computed but not used.
        blend: cells over which neighbouring windows fade into each other, outside the core and inside the halo.
        multiple: cells at whose multiples windows start in y and x.
        frames: frames a network sees at once; None for all.
        interval: frames of one coarse frame, at whose borders windows start.
    """

    window: int | None = None
    halo: int = 16
    blend: int = 8
    multiple: int = 1
    frames: int | None = None
    interval: int = 1

    @property
    def margin(self) -> int:
        """Frames at either end of a window over which it fades into its neighbours: a quarter, in whole intervals."""
        coarse = (self.frames or 1) // self.interval
        return 0 if coarse < 2 else max(1, coarse // 4) * self.interval

    def cut(self, shape: tuple[int, int, int]) -> Cut:
        """The windows of a canvas."""
        frames = self.frames if self.frames is not None and self.frames < shape[0] else None
        core = shape[0] if frames is None else max(self.interval, frames - 2 * self.margin)
        size = self.window or max(shape[-2:])
        return cut(
            shape,
            (core, size, size),
            (0, self.halo, self.halo),
            (0 if frames is None else self.margin, self.blend, self.blend),
            (self.interval, self.multiple, self.multiple),
        )

    def evaluate(self, function: Callable[..., Tensor], *fields: Tensor) -> Tensor:
        """``function(*fields)`` for fields (B, ., T', H', W'), window by window."""
        first = fields[0]
        windows = self.cut((int(first.shape[-3]), int(first.shape[-2]), int(first.shape[-1])))
        if len(windows) == 1:
            return function(*fields)
        out: Tensor | None = None
        for window in windows:
            t, y, x = window.read
            part = function(*(field[..., t, y, x] for field in fields))
            if out is None:
                out = torch.zeros((*part.shape[:-3], *first.shape[-3:]), dtype=part.dtype, device=part.device)
            a, b, c = (torch.as_tensor(w, dtype=part.dtype, device=part.device) for w in window.weights)
            out[..., t, y, x] += part * (a[:, None, None] * b[:, None] * c)
        assert out is not None
        return out


class TiledDenoiser:
    """denoise(z, sigma) for a sampler: the denoiser with its conditions, evaluated in windows.

    Args:
        denoiser: the network.
        cond: (B, Kc, T', H', W') conditioning fields of the whole canvas.
        tiling: how the canvas is cut.
        context: context manager the network runs in (autocast).
        scalars: (S,) features of the factor, where the model serves several.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        cond: Tensor,
        tiling: Tiling | None = None,
        context: AbstractContextManager[Any] | None = None,
        scalars: Tensor | None = None,
    ) -> None:
        self.denoiser, self.cond, self.context = denoiser, cond, context or nullcontext()
        self.tiling, self.scalars = tiling or Tiling(), scalars

    def __call__(self, z: Tensor, sigma: Tensor) -> Tensor:
        """Clean estimate of the canvas z (B, K, T', H', W') at the scalar sigma."""
        levels = sigma.expand(len(z))
        scalars = None if self.scalars is None else self.scalars.expand(len(z), -1)
        with self.context:
            return self.tiling.evaluate(lambda z, cond: self.denoiser(z, levels, cond, scalars), z, self.cond)
