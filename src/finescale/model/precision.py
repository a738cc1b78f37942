"""Number types of networks: bfloat16 where the processor multiplies it natively."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 matrices natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_bf16_supported())


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 where the processor computes with it natively and ``precision`` is not ``float32``."""
    native = precision != "float32" and has_bfloat16(device)
    return torch.autocast(device.type, torch.bfloat16) if native else nullcontext()
