"""What the C library does with freed memory: a training step frees and asks for the same hundreds of megabytes again."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # parameters of mallopt(3)
ADAPTED = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 64 << 20}  # where glibc itself arrives when blocks are large


def keep_freed_memory(keep: bool = True) -> bool:
    """Have glibc keep freed blocks for the next step; else every large tensor's pages come empty from the kernel again.

    Args:
        keep: False goes back to what glibc does by itself.

    Returns:
        whether that was possible: glibc only. The process keeps its largest size from then on.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        return False
    wanted = {MMAP_MAX: 0, TRIM_THRESHOLD: -1} if keep else ADAPTED
    done = all([libc.mallopt(name, value) for name, value in wanted.items()])
    if not keep:
        libc.malloc_trim(0)
    return done
