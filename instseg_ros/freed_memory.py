"""What the C library does with freed memory. By itself glibc gives large blocks back as they are freed, and each page comes anew and cleared.

A frame in a segmenter, or a step of a training, frees and asks for the same hundreds of megabytes again.
"""

from __future__ import annotations

import ctypes
import threading

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # parameters of mallopt(3)
ADAPTED = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 64 << 20}  # where glibc itself arrives when blocks are large
PERIOD = 60.0
"""Seconds. Giving back takes 3 ms for 100 MB of a segmenter, whose next frame takes some 30 ms longer."""


def keep_freed_memory(keep: bool = True) -> bool:
    """Have glibc keep freed blocks for the next step; the process keeps its largest size from then on.

    ``segment()`` of clusternet-bin had 3000 to 9000 pages cleared a frame: 4 to 17 % of its time on two cores.

    Args:
        keep: False goes back to what glibc does by itself.

    Returns:
        whether that was possible: glibc only.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        return False
    wanted = {MMAP_MAX: 0, TRIM_THRESHOLD: -1} if keep else ADAPTED
    done = all([libc.mallopt(name, value) for name, value in wanted.items()])
    if not keep:
        libc.malloc_trim(0)
    return done


def return_freed_memory(stop: threading.Event) -> None:
    """Until ``stop`` is set, have glibc give free pages back now and then: else the process of a node grows for days without a leak.

    Every thread has a heap of its own: the blocks of images and network layers, freed in whatever order, leave it ever longer with holes.
    With another C library there is nothing to do.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None and not stop.wait(PERIOD):
        trim(0)
