"""How large things are: windows, halos and what they must be multiples of, so that networks see one alignment."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from finescale.diffusion import Tiling
from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.grids.windows import Triple


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model at one factor.

    Attributes:
        factor: the factor in use.
        latent: fine cells (t, y, x) a latent cell.
        network: latent cells that the denoiser's windows must be multiples of.
        mean: fine cells that the mean network's must be multiples of.
        context: L, coarse frames that the networks see at once.
        alone: whether the networks see each latent cell by itself, as those of a basis of the whole domain do.
        once: whether a network is evaluated once. What it makes of a window's border then stays, where the later steps
            of a sampler mend it: windows and halos are wider.
    """

    factor: Factor
    latent: Triple
    network: int
    mean: int
    context: int
    alone: bool = False
    once: bool = False

    @property
    def stride(self) -> Triple:
        """Fine cells (t, y, x) that what the networks see must be multiples of."""
        t, *space = self.latent
        y, x = (math.lcm(s * self.network, self.mean) for s in space)
        return t, y, x

    @property
    def multiple(self) -> Triple:
        """Coarse cells (t, y, x) at whose multiples windows must start, so that networks see the same alignment."""
        t, y, x = (math.lcm(s, f) // f for s, f in zip(self.stride, self.factor, strict=True))
        return t, y, x

    @property
    def window(self) -> Triple:
        """Default window of a prediction in coarse cells: about 256 × 256 fine cells, and of a sequence 48 frames.

        Of a network that is evaluated once 16 of its strides, where these are more.
        """
        t, y, x = self.multiple
        side = max(256, 16 * max(self.stride[1:])) if self.once else 256
        frames = self.context if self.context == 1 else max(2 * self.context, 48 // self.factor.time)
        sides = zip((y, x), (self.factor.y, self.factor.x), strict=True)
        height, width = (n * max(1, round(side / (n * f))) for n, f in sides)
        return t * -(-frames // t), height, width

    @property
    def halo(self) -> Triple:
        """Default halo of a window in coarse cells: at least 32 fine cells and 2 coarse ones; in time the context.

        Of a network that is evaluated once at least 3 of its strides.
        """
        t, y, x = self.multiple
        wide = max(32, 3 * max(self.stride[1:])) if self.once else 32
        frames = t * -(-self.context // t) if self.context > 1 else 0
        sides = zip((y, x), (self.factor.y, self.factor.x), strict=True)
        height, width = (n * -(-max(2, -(-wide // f)) // n) for n, f in sides)
        return frames, height, width

    def tiling(self, stride: Triple, window: int | None, halo: int) -> Tiling:
        """How a canvas whose cells are ``stride`` fine cells is cut; ``window`` and ``halo`` of its cells in space."""
        interval = math.lcm(self.factor.time, self.latent[0])
        frames = -(-self.context * self.factor.time // interval) * interval
        return Tiling(window, halo, multiple=self.network, frames=frames // stride[0], interval=interval // stride[0])

    def check_plane(self, height: int, width: int) -> None:
        """Refuse a plane of several latent cells to networks that see each by itself: it would have seams.

        Args:
            height: H, fine cells.
            width: W, fine cells.

        Raises:
            InputError: if the model's basis is that of a whole domain, and the plane is larger.
        """
        _, y, x = self.latent
        if self.alone and (height > y or width > x):
            raise InputError(
                f"this model's basis is of a whole domain of {y} x {x} fine cells (latent.patch), but here are "
                f"{height} x {width}: take the preset patch-pod, or train with latent.patch and data.crop of that size"
            )

    def latent_index(self, origin: Triple) -> Triple:
        """Absolute latent index of the first cell of a window that starts at coarse cell ``origin``.

        Raises:
            InputError: unless it starts at multiples of `multiple`.
        """
        if any(o % m for o, m in zip(origin, self.multiple, strict=True)):
            raise InputError(
                f"a window starts at coarse cell {tuple(origin)}, but must start at multiples of {self.multiple}"
            )
        t, y, x = (o * f // s for o, f, s in zip(origin, self.factor, self.latent, strict=True))
        return t, y, x


def coarse_frames(factor: Factor, frames: int | None, horizon: int | None) -> int:
    """Coarse frames of a window: as given, or as many (at least 2) as cover a horizon of fine frames."""
    if horizon is None:
        return frames or 1
    return max(2, math.floor(horizon / factor.time + 0.5))


def pad(x: Tensor, multiple: Triple, value: float | None = None) -> Tensor:
    """Extend (..., T, H, W) at the far ends to multiples, by its last cells or by a constant."""
    for axis, m in zip((-3, -2, -1), multiple, strict=True):
        n = x.shape[axis]
        if missing := -n % m:
            end = x.narrow(axis, n - 1, 1) if value is None else torch.full_like(x.narrow(axis, n - 1, 1), value)
            x = torch.cat([x, end.expand(*(missing if i == axis % x.ndim else -1 for i in range(x.ndim)))], axis)
    return x
