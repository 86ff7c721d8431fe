"""One rank's meter: counters are read where one phase ends and the next begins, and never in between."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bnn.neighbours.counters import RESOURCES, ROOT, CpuTimes, MachineReading, read_machine
from bnn.neighbours.process import ProcessReading, affinity, read_process


@dataclass(frozen=True)
class Reading:
    at: float  # seconds of a clock that only rises
    machine: MachineReading
    process: ProcessReading


@dataclass
class PhaseTotals:
    """What a phase added to the counters of one rank and its machine; None: not measured.

    `busy` and `stolen` are seconds by CPU, `megahertz` the readings of the rank's CPUs where the phase began and ended.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    busy: dict[int, float] | None = field(default_factory=dict)
    stolen: dict[int, float] | None = field(default_factory=dict)
    waited_seconds: float | None = 0.0
    voluntary: int = 0
    involuntary: int = 0
    major_faults: int = 0
    held_back_seconds: float | None = 0.0
    megahertz: list[float] = field(default_factory=list)
    throttles: int | None = 0
    pressure: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(RESOURCES, 0.0))
    swapped_bytes: int | None = 0

    def add(self, before: Reading, now: Reading) -> None:
        """Count what lies between two readings. A counter that went back (a CPU taken away) is not measured."""
        self.seconds += now.at - before.at
        old, new = before.process, now.process
        self.cpu_seconds += max(0.0, new.cpu_seconds - old.cpu_seconds)
        self.waited_seconds = plus(self.waited_seconds, _waited(old.waited, new.waited))
        self.voluntary += new.voluntary - old.voluntary
        self.involuntary += new.involuntary - old.involuntary
        self.major_faults += new.major_faults - old.major_faults
        self.held_back_seconds = plus(self.held_back_seconds, risen(old.held_back, new.held_back))
        then, since = before.machine, now.machine
        self.busy = _plus_cpus(self.busy, then.cpus, since.cpus, "busy")
        self.stolen = _plus_cpus(self.stolen, then.cpus, since.cpus, "stolen")
        for reading in (then, since):
            self.megahertz += list((reading.frequencies or {}).values())
        self.throttles = plus(self.throttles, risen(then.throttles, since.throttles))
        self.swapped_bytes = plus(self.swapped_bytes, risen(then.swapped, since.swapped))
        for name in RESOURCES:
            added = risen(then.pressure.get(name), since.pressure.get(name))
            self.pressure[name] = plus(self.pressure[name], added)

    def on(self, cpus: set[int]) -> dict[str, Any]:
        """As JSON has it: `busy` and `stolen` summed over these CPUs, None if one is not measured; MHz summarised."""
        facts = asdict(self)
        for name in ("busy", "stolen"):
            each: dict[int, float] | None = facts[name]
            facts[name] = sum(each[cpu] for cpu in cpus) if each is not None and cpus <= each.keys() else None
        values: list[float] = facts.pop("megahertz")
        facts["megahertz"] = [sum(values) / len(values), min(values), max(values)] if values else None
        return facts


def risen(before: Any, now: Any) -> Any:
    """What a counter has risen by; None if it was not there both times, or went back."""
    return None if before is None or now is None or now < before else now - before


def plus(total: Any, added: Any) -> Any:
    """A sum with one unknown part is unknown."""
    return None if total is None or added is None else total + added


def _waited(before: dict[int, int] | None, now: dict[int, int] | None) -> float | None:
    """Seconds; a thread that is new has waited since it started, one that has ended is no longer known."""
    if before is None or now is None:
        return None
    return sum(max(0, value - before.get(thread, 0)) for thread, value in now.items()) / 1e9


def _plus_cpus(
    total: dict[int, float] | None, before: dict[int, CpuTimes] | None, now: dict[int, CpuTimes] | None, name: str
) -> dict[int, float] | None:
    if total is None or before is None or now is None:
        return None
    found = {}
    for cpu in before.keys() & now.keys():
        added = risen(getattr(before[cpu], name), getattr(now[cpu], name))
        if added is not None and (cpu in total or not total):
            found[cpu] = total.get(cpu, 0.0) + added
    return found or None


class NeighbourMeter:
    """Sums counters by phase, from its making until `stop`. It reads twice per phase and does nothing in between."""

    def __init__(self, phase: str, root: Path = ROOT) -> None:
        self.totals: dict[str, PhaseTotals] = {}
        self._phase, self._root = phase, root
        self._last = self._read()

    def enter(self, phase: str) -> None:
        """From now on count under `phase`; the one that goes on already costs a comparison."""
        if phase != self._phase:
            self._advance()
            self._phase = phase

    def stop(self) -> None:
        """Count what the last phase took."""
        self._advance()

    def _advance(self) -> None:
        now = self._read()
        self.totals.setdefault(self._phase, PhaseTotals()).add(self._last, now)
        self._last = now

    def _read(self) -> Reading:
        process = read_process(self._root)
        return Reading(time.perf_counter(), read_machine(affinity(), self._root), process)
