"""MPI profiles as tables: every call by rank, phase, routine and size, and per rank what they are checked against."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from campaign.results.mpi import Call, Profile, split
from campaign.results.mpi.parse import efficiency
from campaign.results.mpi.split import by_size, kind_by_size, kind_of
from campaign.results.tables.mpi_records import TRAINING, carries_no_data

if TYPE_CHECKING:
    from campaign.results.tables.cells import LoadedCell

Row = dict[str, Any]
OPERATOR, SIZE = "operator", "size"
GRADIENT_BYTES = 4  # of a 32-bit float


def mpi_rows(loaded: LoadedCell) -> list[Row]:
    """The rows of table `mpi` of one cell; none without a profile."""
    steps = loaded.profiled_steps if loaded.mpi.profiles else {}
    return [
        loaded.identity | {"rank": profile.rank, "tool": profile.tool} | row
        for profile in loaded.mpi.profiles
        for row in (_called(profile.calls, steps) if profile.calls is not None else _listed(profile))
    ]


def _called(calls: Iterable[Call], steps: dict[str, int]) -> list[Row]:
    """Of our interposer, the types of a routine's messages added up."""
    rows: dict[tuple[Any, ...], Row] = {}
    for call in calls:
        key = (call.phase, call.routine, call.operator, kind_of(call), call.bytes_low, call.bytes_high)
        row = rows.setdefault(
            key,
            {
                "phase": call.phase, "phase_seconds": call.phase_seconds, "phase_steps": steps.get(call.phase),
                "routine": call.routine, "operator": call.operator, "carries": kind_of(call), "rule": OPERATOR,
                "bytes_low": call.bytes_low, "bytes_high": call.bytes_high, "calls": 0, "bytes": 0.0, "seconds": 0.0,
            },
        )  # fmt: skip
        row["calls"] += call.calls
        row["bytes"] += call.bytes
        row["seconds"] += call.seconds
    return list(rows.values())


def _listed(profile: Profile) -> list[Row]:
    """Of another tool: routines by size, over the whole run."""
    elapsed = math.nan if profile.totals is None else profile.totals.elapsed
    rows = []
    for routine in profile.routines:
        for calls, average, seconds in by_size(routine):
            rows.append(
                {
                    "phase": "", "phase_seconds": elapsed, "phase_steps": None, "routine": routine.name,
                    "operator": "", "carries": kind_by_size(routine.name, average), "rule": SIZE,
                    "bytes_low": None, "bytes_high": None, "calls": calls,
                    "bytes": math.nan if average is None else calls * average, "seconds": seconds,
                }
            )  # fmt: skip
    return rows


def mpi_rank_rows(loaded: LoadedCell) -> list[Row]:
    """The rows of table `mpi_ranks` of one cell: one per rank with a profile."""
    return [_rank_row(loaded, profile) for profile in loaded.mpi.profiles]


def _rank_row(loaded: LoadedCell, profile: Profile) -> Row:
    assert loaded.summary is not None
    parts, fractions, hidden = split(profile), efficiency(profile), carries_no_data(loaded.settings)
    elapsed = math.nan if profile.totals is None else profile.totals.elapsed
    steps = sum(loaded.profiled_steps.values())
    epochs = steps / loaded.summary.steps_per_epoch
    exchanges = _metric_exchanges(profile)
    calls = sum(routine.calls for routine in profile.routines)
    overhead = math.nan if profile.overhead_ns is None else profile.overhead_ns
    row = loaded.identity | loaded.labels | _gradients(loaded, profile, steps, hidden)
    return row | {
        "verdict": loaded.verdict,
        "counted": loaded.counted,
        "rank": profile.rank,
        "tool": profile.tool,
        "rule": SIZE if profile.calls is None else OPERATOR,
        "elapsed_seconds": elapsed,
        "mpi_seconds": sum(routine.seconds for routine in profile.routines),
        "control_seconds": parts.control.seconds,
        "data_seconds": math.nan if hidden else parts.data.seconds,
        "mpi_fraction": _or_nan(fractions["paper"]),
        "data_fraction": math.nan if hidden else _or_nan(fractions["data"]),
        "steps": steps,
        "control_rate": _agreeing(profile) / elapsed if elapsed else math.nan,
        "cycle_rate": 1000 / loaded.settings.cycle_time_ms,
        "epochs": epochs,
        "metric_exchanges": exchanges,
        "metric_exchanges_per_epoch": exchanges / math.ceil(epochs - 1e-9) if epochs else math.nan,
        "calls": calls,
        "overhead_ns": overhead,
        "overhead_fraction": calls * overhead * 1e-9 / elapsed if elapsed else math.nan,
    }


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _gradients(loaded: LoadedCell, profile: Profile, steps: int, hidden: str) -> Row:
    """Bytes of gradients per step against the model's trainable parameters."""
    assert loaded.summary is not None
    none: Row = {"gradient_bytes_per_step": math.nan, "gradient_ratio": math.nan}
    if hidden:
        return none | {"gradient_check": f"not measurable: {hidden}"}
    if profile.calls is None:
        return none | {"gradient_check": f"not measurable: a profile of {profile.tool} does not tell training apart"}
    if steps == 0:
        return none | {"gradient_check": "not measurable: no step in the profiled attempt"}
    sent = sum(call.bytes for call in _reductions(profile.calls) if call.phase in TRAINING)
    if profile.size == 1 and sent == 0:
        return none | {"gradient_bytes_per_step": 0.0, "gradient_check": "no exchange"}
    expected = GRADIENT_BYTES * loaded.summary.parameters_trainable
    exact = sent == steps * expected
    ratio = 1.0 if exact else sent / steps / expected
    return {
        "gradient_bytes_per_step": sent / steps,
        "gradient_ratio": ratio,
        "gradient_check": "exact" if exact else "differs",
    }


def _reductions(calls: Iterable[Call]) -> list[Call]:
    return [call for call in calls if call.routine == "MPI_Allreduce" and kind_of(call) == "data"]


def _agreeing(profile: Profile) -> int:
    """Control allreduces: Horovod's ranks agree on what is ready once per cycle at most."""
    if profile.calls is not None:
        return sum(c.calls for c in profile.calls if c.routine == "MPI_Allreduce" and kind_of(c) == "control")
    return sum(
        row["calls"] for row in _listed(profile) if row["routine"] == "MPI_Allreduce" and row["carries"] == "control"
    )


def _metric_exchanges(profile: Profile) -> float:
    """Held-out metrics are gathered by two allgathers: sizes, then values."""
    if profile.calls is None:
        return math.nan
    return sum(c.calls for c in profile.calls if c.routine == "MPI_Allgatherv" and c.phase == "evaluation") / 2
