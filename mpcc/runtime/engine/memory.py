"""Memory of a process that computes round after round: kept, not given back after each tensor and fetched anew.

By default the C library returns large blocks to the system when they are freed, and every page of the next one then costs
a fault.
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's `mallopt` (malloc.h)."""
LARGEST = 32 << 20
"""Bytes: the largest threshold that glibc takes."""


def keep() -> bool:
    """Let freed blocks of up to 32 MiB stay with this process. False where the C library is another."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = {MMAP_THRESHOLD: LARGEST, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: LARGEST}
    return all([mallopt(parameter, value) for parameter, value in settings.items()])
