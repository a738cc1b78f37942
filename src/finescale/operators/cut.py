"""Amounts too small to be there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cut(x: Tensor, least: float) -> Tensor:
    """x where it is at least ``least`` (>= 0) and positive, or NaN; exactly zero elsewhere.

    What is cut keeps its slope: a network that is trained through it can find back.
    """
    below = torch.nextafter(torch.tensor(least, dtype=x.dtype), torch.tensor(0.0, dtype=x.dtype))
    kept = F.threshold(x.detach(), float(below), 0.0)
    return x + (kept - x.detach()) if x.requires_grad else kept
