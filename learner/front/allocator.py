"""The C allocator's thresholds, set for messages of megabytes."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

MMAP_THRESHOLD_BYTES = 32 << 20
"""The most that glibc takes."""

TRIM_THRESHOLD_BYTES = 256 << 20


def keep_large_buffers() -> bool:
    """Has glibc keep freed buffers of up to 32 MiB for the next message.

    By default it maps and unmaps large buffers on every call, and the kernel clears each page anew:
    about half of the time of receiving a push of 1 MiB. The price is memory that stays with the
    process: up to 256 MiB of free heap are not given back.

    Returns:
        Whether it took effect; another C library has no such thresholds, and needs none.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    mapped = mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
    trimmed = mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
    return bool(mapped and trimmed)
