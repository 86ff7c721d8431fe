"""Tells the interposer, where it is preloaded, which part of the run follows."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

from bnn.records.mpi import PHASES


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
