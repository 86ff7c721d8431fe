"""Our interposer's Parquet file of one rank."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from bnn.errors import UserError
from bnn.records.columns import read_arrow
from bnn.records.mpi import MPI_CALLS
from campaign.results.mpi.mpitrace import read_mpitrace
from campaign.results.mpi.profile import Call, Profile, Routine, SizeBin

CALL_COLUMNS = [field.name for field in fields(Call)]
ONE_RANK = ["job", "rank", "size", "overhead_ns"]
SECONDS = ("phase_seconds", "seconds")


def read_own(parquet: Path) -> Profile:
    """One rank's calls by phase, operator and type, and its totals from the text profile beside, if it is there.

    Raises UserError when the file is not such a table, or when it and the text do not tell the same counts.
    """
    columns = _columns(parquet)
    facts = set(zip(*(columns[name] for name in ONE_RANK), strict=True))
    if len(facts) != 1 or any(count is None or count <= 0 for count in columns["calls"]):
        raise UserError(f"{parquet}: not the calls of one rank")
    ((job, rank, size, overhead),) = facts
    calls = tuple(Call(*row) for row in zip(*(columns[name] for name in CALL_COLUMNS), strict=True))
    profile = Profile(
        file=str(parquet),
        tool="bnn",
        rank=int(rank),
        size=int(size),
        job=str(job),
        window=None,
        routines=_routines(calls),
        totals=None,
        calls=calls,
        overhead_ns=overhead,
    )
    text = parquet.with_suffix("")
    return _with_text(profile, read_mpitrace(text, sizes=False)) if text.is_file() else profile


def _columns(parquet: Path) -> dict[str, list[Any]]:
    """Values by column; of seconds none reads NaN, of the overhead NaN reads none."""
    columns: dict[str, list[Any]] = read_arrow(parquet, MPI_CALLS).to_pydict()
    for name in SECONDS:
        columns[name] = [math.nan if value is None else value for value in columns[name]]
    columns["overhead_ns"] = [None if value is None or math.isnan(value) else value for value in columns["overhead_ns"]]
    return columns


def _routines(calls: tuple[Call, ...]) -> tuple[Routine, ...]:
    by_size: dict[str, dict[int, list[Call]]] = defaultdict(lambda: defaultdict(list))
    for call in calls:
        by_size[call.routine][call.bytes_high].append(call)
    return tuple(_routine(name, [_bin(same) for _, same in sorted(sizes.items())]) for name, sizes in by_size.items())


def _routine(name: str, bins: list[SizeBin]) -> Routine:
    whole = _total(bins)
    return Routine(name, whole.calls, whole.average_bytes, whole.seconds, tuple(bins))


def _bin(calls: list[Call]) -> SizeBin:
    return _total([SizeBin(c.calls, c.bytes / c.calls, c.seconds) for c in calls])


def _total(bins: list[SizeBin]) -> SizeBin:
    calls = sum(b.calls for b in bins)
    return SizeBin(calls, sum(b.calls * (b.average_bytes or 0) for b in bins) / calls, sum(b.seconds for b in bins))


def _with_text(profile: Profile, text: Profile) -> Profile:
    """Both files of a rank as one profile, its routines in the text's order."""
    counted = {r.name: r.calls for r in profile.routines}
    if (text.rank, text.size, {r.name: r.calls for r in text.routines}) != (profile.rank, profile.size, counted):
        raise UserError(f"{profile.file}: its counts are not those of {text.file}")
    rows = {r.name: r for r in profile.routines}
    routines = tuple(rows[r.name] for r in text.routines)
    return replace(
        profile,
        routines=routines,
        window=text.window,
        totals=text.totals,
        extremes=text.extremes,
        tasks=text.tasks,
        left=text.left,
    )
