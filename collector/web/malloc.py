"""Keeps glibc from giving memory back that is needed again at once."""

from __future__ import annotations

import ctypes

# malloc.h; see mallopt(3)
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MMAP = 4 << 20  # bytes; a block of a page, a compressor's state and most requests are smaller
_TRIM = 1 << 20  # bytes of freed memory that are kept at most


def keep_freed_memory() -> None:
    """Set for this process that up to 1 MiB of freed memory stays with it.

    Without it, buffers of more than 128 KiB come as fresh pages from the kernel each time, which
    costs as much again as rendering a page of 1,000 series. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP)
        mallopt(_M_TRIM_THRESHOLD, _TRIM)
