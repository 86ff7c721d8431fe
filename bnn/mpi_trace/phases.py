"""Tells the interposer, where it is preloaded, which part of the run follows, and asks it when data travelled."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from bnn.records.mpi import PHASES

if TYPE_CHECKING:
    import numpy as np


@cache
def _switch() -> Callable[[int], int] | None:
    """The interposer's function in this process, or None where it is not preloaded."""
    try:
        function = ctypes.CDLL(None).bnn_mpi_trace_phase
    except AttributeError:
        return None
    function.argtypes, function.restype = [ctypes.c_int], ctypes.c_int
    return lambda number: int(function(number))


def mark(phase: str) -> str | None:
    """From now on count MPI calls under `phase`, one of bnn.records.mpi.PHASES. About a microsecond.

    Calls of Horovod's background thread belong to the phase in which they start. Returns the phase before, or None
    where no interposer is loaded. Raises ValueError for an unknown phase.
    """
    number = PHASES.index(phase)
    switch = _switch()
    return PHASES[switch(number)] if switch else None


def data_calls() -> np.ndarray | None:
    """Start and end of this rank's allreduces that carried data in training steps, (n, 2), in the order of their ends.

    Seconds of `time.perf_counter`, which reads the same clock on Linux. The interposer keeps those of the first tens of
    thousands. None where no interposer is loaded.
    """
    import numpy as np

    try:
        copy = ctypes.CDLL(None).bnn_mpi_trace_dates
    except AttributeError:
        return None
    copy.argtypes, copy.restype = [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_size_t
    pairs = np.zeros((int(copy(None, 0)), 2), dtype=np.int64)
    copy(pairs.ctypes.data, len(pairs))
    pairs = pairs[pairs[:, 1] > 0]
    ordered: np.ndarray = pairs[np.argsort(pairs[:, 1], kind="stable")] / 1e9
    return ordered
