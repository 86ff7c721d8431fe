"""Keeps the memory that a process frees with it: a training step frees and takes the same blocks again and again.

glibc gives large blocks back to the kernel, which then clears every page anew: a tenth of a step, for the CNN and the
BNN alike. Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
import resource
import sys
import warnings
from pathlib import Path

STATUS = Path("/proc/self/status")
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


def peak_resident_bytes() -> int:
    """The most resident memory that this process has held so far: Linux's VmHWM, which begins anew with the program.

    getrusage's ru_maxrss does not: after fork and exec it still counts what the parent held (getrusage(2); the kernel
    carries it over in `setmax_mm_hiwater_rss`). It is taken only where there is no VmHWM, with a warning.
    """
    try:
        lines = STATUS.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        warnings.warn(
            f"{STATUS} has no VmHWM: peak memory is ru_maxrss, which may be that of the process that started this one",
            RuntimeWarning,
            stacklevel=2,
        )
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
