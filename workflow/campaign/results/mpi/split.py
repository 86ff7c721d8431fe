"""Which MPI calls are control and which carry data: the one place that says so.

Control is what Horovod's ranks say to each other to agree on what to exchange; data is the rest (gradients, parameters,
metrics). Asking for a rank or a size is neither: it sends nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from campaign.results.mpi.profile import Call, Profile, Routine

LOCAL = frozenset({"MPI_Comm_rank", "MPI_Comm_size"})
AGREEING = frozenset({"MPI_BAND", "MPI_BOR", "MPI_BXOR", "MPI_LAND", "MPI_LOR", "MPI_LXOR"})
# Requests go to rank 0 and responses come back as plain C integers and bytes; tensors have types of a fixed width
# (MPI_FLOAT, MPI_INT32_T, MPI_UINT8_T, ...).
REQUESTS = frozenset({"MPI_Gather", "MPI_Gatherv", "MPI_Bcast", "MPI_Allgather"})
REQUEST_TYPES = frozenset({"MPI_INT", "MPI_BYTE"})
# A foreign profile knows no operators and types. Horovod's bit vectors are 8 bytes per 64 tensors (8 bytes in the
# paper's runs); the least gradient of the paper's models is 40 bytes (a bias of 10 classes).
CONTROL_BYTES = 32

# These have no message of their own: mpitrace prints 0 bytes, mpiP nothing. They are no control, hence data, as in
# a profile that knows operators.
NO_MESSAGE = re.compile(r"MPI_(?:I?barrier|Wait\w*|Test\w*|I?m?probe|Start(?:all)?)", re.ASCII | re.IGNORECASE)

BY_OPERATOR = "control: reductions with bitwise or logical operators, requests of plain integers and bytes"
BY_SIZE = f"by size, for want of operators: control is what has at most {CONTROL_BYTES} bytes, and gathers to rank 0"


@dataclass(frozen=True)
class Part:
    """Sums over calls; `bytes` is None where sizes were not measured."""

    calls: int = 0
    bytes: float | None = 0.0
    seconds: float = 0.0

    def plus(self, calls: int, size: float | None, seconds: float) -> Part:
        total = None if self.bytes is None or size is None else self.bytes + size
        return Part(self.calls + calls, total, self.seconds + seconds)


@dataclass(frozen=True)
class Split:
    """A profile's calls by what they are for, and the rule they were told apart by."""

    rule: str
    control: Part
    data: Part
    local: Part


def kind_of(call: Call) -> str:
    """`control`, `data` or `local`, of a call whose operator and type are known."""
    if call.routine in LOCAL:
        return "local"
    if call.operator in AGREEING or (call.routine in REQUESTS and call.datatype in REQUEST_TYPES):
        return "control"
    return "data"


def kind_by_size(routine: str, average_bytes: float | None) -> str:
    """The same for a foreign profile of any format, by routine and size of the message."""
    if routine in LOCAL:
        return "local"
    if routine in ("MPI_Gather", "MPI_Gatherv"):
        return "control"
    if NO_MESSAGE.fullmatch(routine):
        return "data"
    return "control" if average_bytes is not None and average_bytes <= CONTROL_BYTES else "data"


def split(profile: Profile, phase: str | None = None) -> Split:
    """Control and data of a profile; with `phase`, of the calls that started in it (our interposer's profiles only).

    Raises ValueError when a phase is asked of a profile that knows none.
    """
    parts = {"control": Part(), "data": Part(), "local": Part()}
    if profile.calls is not None:
        for call in profile.calls:
            if phase in (None, call.phase):
                kind = kind_of(call)
                parts[kind] = parts[kind].plus(call.calls, call.bytes, call.seconds)
        return Split(BY_OPERATOR, **parts)
    if phase is not None:
        raise ValueError(f"{profile.file}: a profile of {profile.tool} knows no phases")
    for routine in profile.routines:
        for calls, average, seconds in by_size(routine):
            kind = kind_by_size(routine.name, average)
            parts[kind] = parts[kind].plus(calls, None if average is None else calls * average, seconds)
    return Split(BY_SIZE, **parts)


def by_size(routine: Routine) -> list[tuple[int, float | None, float]]:
    """Calls, average bytes and seconds of a routine by the size of its messages, as far as the profile tells."""
    rows = [(b.calls, b.average_bytes, b.seconds) for b in routine.bins]
    if not rows:
        return [(routine.calls, routine.average_bytes, routine.seconds)]
    rest = routine.calls - sum(b.calls for b in routine.bins)
    if rest > 0:  # calls without a size of their own are empty ones
        rows.append((rest, 0.0, max(0.0, routine.seconds - sum(b.seconds for b in routine.bins))))
    return rows
