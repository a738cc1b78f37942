"""Lets physicsnemo run with the CPU build of torch: imported before it.

Its dependency timm imports torchvision, whose compiled operators are for the CUDA build; they are declared, not used.
Its networks work in bfloat16 if their results come back in single precision, for which the preconditioner asks.
"""

from __future__ import annotations

import torch
from torch import nn

for name in ("nms", "qnms"):
    torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")


def single(network: nn.Module) -> nn.Module:
    """The network, with results in single precision."""
    network.register_forward_hook(_widened)
    return network


def _widened(module: nn.Module, given: object, out: torch.Tensor) -> torch.Tensor:
    return out.float()
