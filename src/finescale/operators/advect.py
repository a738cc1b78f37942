"""Coarse frames where they have moved to by the time of a fine frame.

In the time τ from the middle of a coarse frame, in such frames, what is at x has come along a straight line: the frame
k away, at −n … −1, 1 … n, shows it at x + (k − τ) v(x), with v the displacement in a frame. So

    m_k(τ, x) = c_k(x + (k − τ) v(x)),      interpolated (1 − |τ|) m_0 + |τ| m_{sign τ}

with c_k interpolated in space by the cubic kernel of `finescale.operators.interpolate`. A coarse cell that rain moves
through holds, in the frames before and after, what lies inside it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from finescale.grids.factor import Factor
from finescale.operators.interpolate import upsample


def along(coarse: Tensor, near: Tensor, velocity: Tensor, factor: Factor) -> tuple[Tensor, Tensor]:
    """Coarse frames on fine cells, moved to the times of fine frames.

    Args:
        coarse: c_0, (B, C, t, h, w), finite.
        near: c_k, (B, 2n, C, t, h, w), k = −n … −1, 1 … n.
        velocity: v, (B, 2, t, h, w), coarse cells along y and x in a coarse frame.
        factor: from coarse to fine.

    Returns:
        The interpolated field (B, C, T, H, W), and the m_k (B, 2nC, T, H, W).
    """
    space, n = Factor(y=factor.y, x=factor.x), near.shape[1] // 2
    numbers = [k for k in range(-n, n + 1) if k]
    own = upsample(coarse, space)
    others = upsample(near.flatten(1, 2), space).unflatten(1, near.shape[1:3]).unbind(1)
    cells = torch.tensor([factor.y, factor.x], dtype=velocity.dtype, device=velocity.device)
    shift = upsample(velocity, space, "linear") * cells[:, None, None, None]
    first, moved = [], []
    for part in range(factor.time):
        time = (part + 0.5) / factor.time - 0.5
        parts = [_at(other, (k - time) * shift) for k, other in zip(numbers, others, strict=True)]
        moved.append(torch.stack(parts, 1))
        if time:
            beside = parts[numbers.index(1 if time > 0 else -1)]
            first.append((1 - abs(time)) * _at(own, -time * shift) + abs(time) * beside)
        else:
            first.append(own)
    return torch.stack(first, 3).flatten(2, 3), torch.stack(moved, 4).flatten(3, 4).flatten(1, 2)


def _at(field: Tensor, shift: Tensor) -> Tensor:
    """A field (B, C, t, H, W) at the cells moved by (B, 2, t, H, W) cells, linearly, by its edges beyond them."""
    frames, (height, width) = field.shape[2], field.shape[-2:]
    y, x = shift.transpose(1, 2).flatten(0, 1).unbind(1)
    rows = (torch.arange(height, device=y.device) + 0.5)[:, None] + y
    columns = torch.arange(width, device=x.device) + 0.5 + x
    grid = torch.stack([2 * columns / width - 1, 2 * rows / height - 1], -1)
    flat = field.transpose(1, 2).flatten(0, 1)
    # In their own precision where networks around run in bfloat16.
    with torch.autocast(field.device.type, enabled=False):
        found = F.grid_sample(flat, grid.to(flat.dtype), "bilinear", "border", align_corners=False)
    return found.unflatten(0, (-1, frames)).transpose(1, 2)
