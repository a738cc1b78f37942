"""White noise that is carried along a motion and renewed: detail moves with the field, and lives for some time.

Let W_n be white fields on fine cells, functions of member and position (`finescale.diffusion.noise_field`), that belong
to the times n P of a lifetime P. At time s, between n P and (n + 1) P,

    e(s, x) = cos(½ π θ) W_n(x − D(s, nP; x)) + sin(½ π θ) W_{n+1}(x − D(s, (n+1) P; x)),      θ = s/P − n

with D the displacement of `finescale.grids.motion`, rounded to whole cells. The two are independent and the squares of
their weights add to 1, so that at every time e is white, as a network that sees frames one by one expects it (but for
cells that a converging motion sends to one place). Along the motion its autocorrelation, averaged over s, is

    ρ(l) = (1 − l/2P) cos(½ π l/P) + sin(½ π l/P)/π,      0 ≤ l ≤ 2P;      ρ(P) = 1/π

Nothing but the place, the time and the motion decides it, so that windows and runs agree. An orthonormal latent turns
white fields on fine cells into white latents, which move by whole fine cells where latent cells are larger. (Noise that
a flow carries, for videos: Chang et al., ICLR 2024, arXiv 2504.03072. That it is keyed and renewed is ours.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from finescale.diffusion.noise_field import BLOCK, Place, noise_field

FAR = BLOCK << 24
"""Added to rows and columns, so that what came from beyond the first ones has noise too."""
AT_ONCE = 2**22
"""Fine cells whose origins are known at once."""
EPOCHS, STARTS = 26, 24
"""Bits of n, and of the frame that a sequence starts with."""


@dataclass(frozen=True, eq=False)
class Carried:
    """Where the noise of B windows came from, for each of T' latent frames and the two fields W that it is made of.

    Attributes:
        shift: (B, T', 2, 2, h + 2, w + 2), displacement along y and x, in coarse cells, of the window's coarse cells
            and one more on every side.
        share: (B, T', 2), the weights of the two.
        epoch: (B, T', 2), their numbers n.
        start: (B,), the first frame of the sequence that the window is of.
    """

    shift: Tensor
    share: Tensor
    epoch: Tensor
    start: Tensor

    def __getitem__(self, items: Tensor) -> Self:
        """Those of some windows."""
        return type(self)(*(part[items.to(part.device)] for part in vars(self).values()))


def carried_noise(
    fields: int,
    shape: tuple[int, int, int],
    carried: Carried,
    places: Sequence[Place],
    cells: tuple[int, int],
    seed: int,
    draw: int = 0,
) -> Tensor:
    """White fields (N, fields, T', H, W) on fine cells, carried along a motion.

    Args:
        fields: independent ones at each time.
        shape: (T', H, W), latent frames and fine cells; H and W may be more than the windows have.
        carried: of each of the N.
        places: members and absolute fine index (t, y, x) of their first cells, t of no account.
        cells: fine cells (y, x) of a coarse one.
        seed: the run's.
        draw: number of the draw for samplers that need fresh noise at every step.
    """
    out = np.empty((len(places), fields, *shape), dtype=np.float32)
    most = max(1, AT_ONCE // (shape[1] * shape[2]))
    for alike in _alike(carried):
        one = carried[torch.tensor(alike[:1])]
        for frames in _runs(one.epoch[0], most):
            moved = _fine(one.shift[0, frames], cells, shape[1:])
            words = [_word(int(epoch), int(one.start[0]), draw) for epoch in one.epoch[0, frames.start]]
            for n in alike:
                total = np.zeros((fields, len(moved), *shape[1:]), dtype=np.float32)
                for which, word in enumerate(words):
                    _add(total, moved[:, which], one.share[0, frames, which].tolist(), word, places[n], seed)
                out[n, :, frames] = total
    return torch.from_numpy(out)


def _add(
    total: NDArray[np.float32], moved: NDArray[np.int32], share: list[float], word: int, place: Place, seed: int
) -> None:
    """Add one W, drawn once, to frames (fields, T', H, W): its shares (T') from displacements (T', 2, H, W) away."""
    if not any(share):
        return
    fields, _, height, width = total.shape
    member, (_, top, left) = place
    y, x = np.arange(height)[:, None] - moved[:, 0], np.arange(width) - moved[:, 1]
    first = int(y.min()), int(x.min())
    size = (1, int(y.max()) - first[0] + 1, int(x.max()) - first[1] + 1)
    origin = (word, FAR + top + first[0], FAR + left + first[1])
    white = noise_field(fields, size, seed=seed, member=member, origin=origin).numpy()[:, 0]
    for t, weight in enumerate(share):
        if weight:
            total[:, t] += np.float32(weight) * white[:, y[t] - first[0], x[t] - first[1]]


def _alike(carried: Carried) -> list[list[int]]:
    """The numbers of those that are of the same window, as members are."""
    found: dict[bytes, list[int]] = {}
    for n in range(len(carried.start)):
        key = b"".join(part[n].cpu().numpy().tobytes() for part in vars(carried).values())
        found.setdefault(key, []).append(n)
    return list(found.values())


def _runs(epoch: Tensor, most: int) -> list[slice]:
    """Frames that follow each other with the same W_n and W_{n+1}, at most so many at once; epoch (T', 2)."""
    found, first = [], 0
    for t in range(1, len(epoch) + 1):
        if t == len(epoch) or t - first == most or bool((epoch[t] != epoch[first]).any()):
            found.append(slice(first, t))
            first = t
    return found


def autocorrelation(lag: NDArray[np.float64]) -> NDArray[np.float64]:
    """ρ of the noise along the motion at lags in lifetimes, of any shape."""
    angle = np.pi / 2 * lag
    return np.where(lag < 2, (1 - lag / 2) * np.cos(angle) + np.sin(angle) / np.pi, 0.0)


def _fine(shift: Tensor, cells: tuple[int, int], size: tuple[int, int]) -> NDArray[np.int32]:
    """Displacements (T', 2, 2, h + 2, w + 2) in coarse cells -> (T', 2, 2, H, W) in whole fine cells."""
    fine = F.interpolate(shift.cpu().flatten(0, 1).double(), scale_factor=tuple(map(float, cells)), mode="bilinear")
    (y, x), (height, width) = cells, fine.shape[-2:]
    fine = fine[..., y : height - y, x : width - x]
    room = size[1] - fine.shape[-1], size[0] - fine.shape[-2]
    fine = F.pad(fine, (0, max(0, room[0]), 0, max(0, room[1])), mode="replicate")[..., : size[0], : size[1]]
    fine = fine * torch.tensor(cells, dtype=fine.dtype)[:, None, None]
    found: NDArray[np.int32] = fine.round().int().unflatten(0, shift.shape[:2]).numpy()
    return found


def _word(epoch: int, start: int, draw: int) -> int:
    """One number of the counter for a field W."""
    return epoch + (start << EPOCHS) + (draw + 1 << EPOCHS + STARTS)
