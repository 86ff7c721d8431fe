"""All ranks' meters as one table, and the worst of each phase.

Ranks that may run on the same CPUs share one count of who used them: what is busy there minus what all of them used
is other programs'. So each rank says first where it may run, and then what was busy on the CPUs of its group.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnn.neighbours.counters import RESOURCES
from bnn.neighbours.meter import NeighbourMeter
from bnn.neighbours.process import affinity
from bnn.records.neighbours import NEIGHBOURS, PhaseLoad

if TYPE_CHECKING:
    import pandas as pd

    from bnn.engine import Engine

Row = dict[str, Any]
# Seconds: in a shorter phase the CPUs' time, counted in ticks of 10 ms, tells nothing.
SHORTEST = 0.1


@dataclass(frozen=True)
class Neighbours:
    """Rows of bnn.records.neighbours.NEIGHBOURS, and by phase the worst of them."""

    rows: list[Row]
    phases: dict[str, PhaseLoad]

    def frame(self) -> pd.DataFrame:
        """The rows as a table; whole numbers stay whole where some are missing."""
        import pandas as pd

        frame = pd.DataFrame(self.rows, columns=NEIGHBOURS.names)
        kinds = {"int32": "Int32", "int64": "Int64", "float64": "float64"}
        return frame.astype({c.name: kinds[c.type] for c in NEIGHBOURS.columns if c.type in kinds})


def gather_neighbours(engine: Engine, meter: NeighbourMeter) -> Neighbours:
    """What all ranks' meters counted, on every rank; every rank must call it, with its meter stopped."""
    from bnn.ranks import machine

    places = engine.gather([machine(), sorted(affinity())], "neighbours.places")
    groups = share_cpus([(where, set(cpus)) for where, cpus in places])
    cpus, _ = groups[engine.rank]
    mine = {phase: totals.on(cpus) for phase, totals in meter.totals.items()}
    told = engine.gather([socket.gethostname(), mine], "neighbours")
    rows = table_rows([host for host, _ in told], [counted for _, counted in told], groups)
    return Neighbours(rows, worst(rows))


def alone(meter: NeighbourMeter) -> Neighbours:
    """The same of a command that has no ranks."""
    cpus = affinity()
    counted = {phase: totals.on(cpus) for phase, totals in meter.totals.items()}
    rows = table_rows([socket.gethostname()], [counted], [(cpus, [0])])
    return Neighbours(rows, worst(rows))


def share_cpus(places: list[tuple[str, set[int]]]) -> list[tuple[set[int], list[int]]]:
    """For each rank, the CPUs of its group and the ranks in it. `places`: machine and CPUs of each rank.

    Two ranks of one machine are in one group when they have a CPU in common, or each has one with a third.
    """
    groups: dict[str, list[tuple[set[int], list[int]]]] = {}
    for rank, (machine, cpus) in enumerate(places):
        known = groups.setdefault(machine, [])
        met = [group for group in known if not group[0].isdisjoint(cpus)]
        if met and met[0][0] == cpus:  # groups have nothing in common, so that it meets no other
            met[0][1].append(rank)
            continue
        apart = [group for group in known if group[0].isdisjoint(cpus)]
        joined = cpus.union(*(other for other, _ in met)), sorted([rank, *(r for _, ranks in met for r in ranks)])
        groups[machine] = [*apart, joined]
    of_rank = {rank: group for known in groups.values() for group in known for rank in group[1]}
    return [of_rank[rank] for rank in range(len(places))]


def table_rows(hosts: list[str], counted: list[dict[str, Row]], groups: list[tuple[set[int], list[int]]]) -> list[Row]:
    """A row per rank and phase from what each rank counted (`PhaseTotals.on` by phase)."""
    rows = []
    for rank, phases in enumerate(counted):
        cpus, ranks = groups[rank]
        for phase, facts in phases.items():
            ours = sum(counted[other][phase]["cpu_seconds"] for other in ranks if phase in counted[other])
            rows.append(_row(rank, hosts[rank], phase, facts, len(cpus), len(ranks), ours))
    return rows


def _row(rank: int, host: str, phase: str, facts: Row, cpus: int, ranks: int, ours: float) -> Row:
    seconds, megahertz = facts["seconds"], facts["megahertz"] or [None] * 3
    busy, stolen = (facts[name] if seconds >= SHORTEST else None for name in ("busy", "stolen"))
    foreign = None if busy is None else max(0.0, busy - ours)
    cores = _over(foreign, seconds)
    return {
        "rank": rank,
        "hostname": host,
        "phase": phase,
        "seconds": seconds,
        "cpus": cpus,
        "ranks": ranks,
        "cpu_seconds": facts["cpu_seconds"],
        "foreign_seconds": foreign,
        "foreign_cores": cores,
        "foreign_share": _over(cores, cpus),
        "stolen_share": _over(stolen, seconds * cpus),
        "held_back_share": _over(facts["held_back_seconds"], seconds * cpus),
        "waited_seconds": facts["waited_seconds"],
        "voluntary_switches": facts["voluntary"],
        "involuntary_switches": facts["involuntary"],
        "major_faults": facts["major_faults"],
        "megahertz_mean": megahertz[0],
        "megahertz_min": megahertz[1],
        "megahertz_max": megahertz[2],
        "throttles": facts["throttles"],
        **{f"pressure_{name}": _over(facts["pressure"][name], seconds) for name in RESOURCES},
        "swapped_bytes": facts["swapped_bytes"],
    }


def _over(value: float | None, whole: float) -> float | None:
    return None if value is None or whole <= 0 else value / whole


def worst(rows: list[Row]) -> dict[str, PhaseLoad]:
    """By phase, the worst that any rank saw."""
    phases: dict[str, list[Row]] = {}
    for row in rows:
        phases.setdefault(row["phase"], []).append(row)
    return {phase: _worst(found) for phase, found in phases.items()}


def _worst(rows: list[Row]) -> PhaseLoad:
    busiest = max(rows, key=lambda row: -1.0 if row["foreign_share"] is None else row["foreign_share"])
    means = [row["megahertz_mean"] for row in rows if row["megahertz_mean"] is not None]
    return PhaseLoad(
        seconds=max(row["seconds"] for row in rows),
        host=busiest["hostname"],
        cpus=busiest["cpus"],
        foreign_cores=busiest["foreign_cores"],
        foreign_share=busiest["foreign_share"],
        involuntary_per_second=_most(_over(row["involuntary_switches"], row["seconds"]) for row in rows),
        waited_share=_most(_over(row["waited_seconds"], row["seconds"]) for row in rows),
        megahertz_mean=sum(means) / len(means) if means else None,
        megahertz_min=min((r["megahertz_min"] for r in rows if r["megahertz_min"] is not None), default=None),
        **{
            name: _most(row[name] for row in rows)
            for name in (
                "stolen_share", "held_back_share", "major_faults", "megahertz_max", "throttles", "pressure_cpu",
                "pressure_memory", "pressure_io", "swapped_bytes",
            )
        },
    )  # fmt: skip


def _most(values: Iterable[Any]) -> Any:
    return max((value for value in values if value is not None), default=None)
