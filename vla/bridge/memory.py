"""What a process that handles pictures all the time asks of its memory allocator."""

from __future__ import annotations

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3), in the GNU C library
_LARGEST = 32 << 20


def keep_freed_memory() -> bool:
    """Keep what is freed for the next request instead of giving it back to the system.

    A picture is large enough for the GNU C library to map fresh pages for every copy and to unmap them after it: faults
    that cost more than the copying. For the whole process; False where the C library has no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, 2 * _LARGEST))


def settle_memory() -> None:
    """Take what is there by now for permanent: the collector need not walk through a model for every request."""
    gc.collect()
    gc.freeze()
