"""Memory that a process has freed stays with it: a training step frees and takes the same blocks again and again.

glibc gives large blocks back to the kernel, which then clears every page anew: a tenth of a step, for the CNN and the
BNN alike. Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes

# Options of mallopt(3), each with its number in malloc.h and its environment variable's name.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = (-1, "MALLOC_TRIM_THRESHOLD_"), (-2, "MALLOC_TOP_PAD_"), (-4, "MALLOC_MMAP_MAX_")
KEPT = {TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 64 * 2**20, MMAP_MAX: 0}
# The same for a process that is yet to be started.
ENVIRONMENT = {name: str(value) for (_, name), value in KEPT.items()}


def keep_freed_memory() -> None:
    """Let this process keep what it frees. Call it before anything large is allocated."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for (option, _), value in KEPT.items():
            mallopt(option, value)
