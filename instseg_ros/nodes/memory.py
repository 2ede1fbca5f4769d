"""What a node's process does with freed memory: kept for the next frame, and given back before the process grows for days."""

from __future__ import annotations

import ctypes
import threading

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""
KEPT = 1 << 29
"""Bytes free at a heap's end before they go back at once; a segmenter uses about 100 MB anew with each frame."""
LARGE = 1 << 25
"""Bytes from which on a block is mapped for itself; the most that glibc takes."""
PERIOD = 60.0
"""Seconds. A call takes 3 ms and gives back 100 MB of a segmenter, whose next frame takes some 30 ms longer."""


def keep_freed_memory() -> None:
    """Have glibc keep what is freed; with another C library there is nothing to do.

    By itself it gives images and network layers back as they are freed, and the system clears each page anew for the next
    frame: 3000 to 9000 pages a frame, 6 to 17 % of the time in ``segment()`` of clusternet-bin on two cores.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, KEPT)


def return_freed_memory(stop: threading.Event) -> None:
    """Until ``stop`` is set, have glibc give the free pages of all its heaps back; with another C library there is nothing to do.

    Every thread has a heap of its own, and glibc returns only what is free at a heap's end: the blocks of images and network layers, freed
    in whatever order, leave it ever longer with holes.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None and not stop.wait(PERIOD):
        trim(0)
