"""One rank's MPI profile, whatever tool wrote it. Seconds are wall time, sizes are bytes; None is 'not measured'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tool = Literal["mpitrace", "mpiP", "bnn"]


@dataclass(frozen=True)
class SizeBin:
    """Calls with messages of about one size; of an mpiP report, the calls of one call site."""

    calls: int
    average_bytes: float | None
    seconds: float


@dataclass(frozen=True)
class Routine:
    """One row of a profile's table. The bins of a routine that sends nothing are not printed."""

    name: str
    calls: int
    average_bytes: float | None
    seconds: float
    bins: tuple[SizeBin, ...] = ()


@dataclass(frozen=True)
class Totals:
    """Of one rank, from MPI_Init to MPI_Finalize. `memory_bytes` is the maximum resident set size."""

    communication: float
    elapsed: float
    user: float | None = None
    system: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Extreme:
    """Which rank had the minimum, median or maximum communication time; how much, where the profile says so."""

    kind: str
    rank: int
    seconds: float | None


@dataclass(frozen=True)
class Task:
    """A row of rank 0's table of all ranks."""

    rank: int
    hostname: str | None = None
    cpu: int | None = None
    communication: float | None = None
    elapsed: float | None = None
    user: float | None = None
    system: float | None = None
    memory_bytes: int | None = None
    switches: int | None = None


@dataclass(frozen=True)
class Call:
    """A row of our interposer's table (bnn.records.mpi.MPI_CALLS), which alone knows phase, operator and type."""

    phase: str
    phase_seconds: float
    routine: str
    operator: str
    datatype: str
    bytes_low: int
    bytes_high: int
    calls: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Profile:
    """What one rank did. `calls` and `overhead_ns` (the cost of counting one call) are of our interposer only.

    `left` names what the file holds besides and was not read.
    """

    file: str
    tool: Tool
    rank: int
    size: int
    job: str | None
    window: str | None
    routines: tuple[Routine, ...]
    totals: Totals | None
    extremes: tuple[Extreme, ...] = ()
    tasks: tuple[Task, ...] = ()
    calls: tuple[Call, ...] | None = None
    overhead_ns: float | None = None
    left: tuple[str, ...] = ()
