"""Energy of a run: one rank per node reads the counters of its node, the nodes are summed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnn.device import gpu_uuid
from bnn.energy.counters import CRAY, POWERCAP, Counter, NotMeasurableError, cray, rapl
from bnn.energy.nvml import LIBRARY, nvml
from bnn.engine import Engine
from bnn.ranks import machine

# Often enough not to miss a wrap: a RAPL counter of 65 kJ, the smallest, then bears 2 kW per package.
PERIOD = 30.0  # seconds


@dataclass(frozen=True)
class RunEnergy:
    """Joules of all nodes; None where not measurable, and `source` then says why."""

    joules: float | None
    steady_joules: float | None
    source: str


def node_counters(
    gpus: Sequence[str], cray_folder: Path = CRAY, powercap: Path = POWERCAP, library: str = LIBRARY
) -> tuple[str, list[Counter]]:
    """The source's name and the counters of this node; `gpus` are the UUIDs of the GPUs that the run uses here.

    Cray's counter covers the whole node, so it goes alone. Raises NotMeasurableError where nothing covers what
    computes: a run on GPUs without NVML is not measured by its processors.
    """
    if found := cray(cray_folder):
        found[0].read()
        return "cray-pm-counters", found
    devices = nvml(gpus, library) if gpus else []
    try:
        found = rapl(powercap)
    except NotMeasurableError:
        if not devices:
            raise
        found = []
    if not found and not devices:
        raise NotMeasurableError(f"no energy counter ({cray_folder}, {powercap})")
    names = [name for name, part in (("rapl", found), ("nvml", devices)) if part]
    return "+".join(names), [*found, *devices]


class EnergyMeter:
    """Sums what counters add from `start` to `stop`, and apart from that between `resume` and `pause`.

    A thread reads along, so that no wrap of a counter is missed. Nothing here raises: what fails is the `reason`.
    """

    def __init__(self, source: str, counters: Sequence[Counter], reason: str | None = None, period: float = PERIOD):
        self.source, self.reason = source, reason
        self.joules = self.steady_joules = 0.0
        self._counters, self._period = list(counters), period
        self._last: list[float] = []
        self._steady = False
        self._lock, self._stopped = threading.Lock(), threading.Event()

    def start(self) -> None:
        """Count from now on."""
        self._advance()
        if self._counters and self.reason is None:
            threading.Thread(target=self._read_along, name="energy", daemon=True).start()

    def resume(self) -> None:
        """Steady steps follow."""
        self._advance()
        self._steady = True

    def pause(self) -> None:
        """Something else follows."""
        self._advance()
        self._steady = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do something between steady steps; before the first of them it changes nothing."""
        steady = self._steady
        self.pause()
        yield
        if steady:
            self.resume()

    def stop(self) -> None:
        """Count no longer. A counter that has not moved at all counts nothing: many virtual machines have such."""
        self._advance()
        self._stopped.set()
        if self.reason is None and not self.joules:
            self.reason = "the counters have not moved"

    def _read_along(self) -> None:
        while not self._stopped.wait(self._period):
            self._advance()

    def _advance(self) -> None:
        with self._lock:
            if self.reason is not None or self._stopped.is_set():
                return
            try:
                now = [counter.read() for counter in self._counters]
                before = self._last or now
                added = sum(c.difference(a, b) for c, a, b in zip(self._counters, before, now, strict=True))
            except NotMeasurableError as error:
                self.reason = str(error)
                return
            self._last = now
            self.joules += added
            self.steady_joules += added if self._steady else 0.0


def node_meter(engine: Engine, device: str) -> EnergyMeter:
    """This rank's meter, which measures only on local rank 0. Every rank must call it."""
    here = machine()
    uses = engine.gather([here, gpu_uuid()], "energy.gpus") if device == "cuda" else []
    if engine.local_rank != 0:
        return EnergyMeter("", [], "not this rank's task")
    try:
        source, counters = node_counters(sorted({uuid for where, uuid in uses if where == here}))
    except NotMeasurableError as error:
        return EnergyMeter("", [], str(error))
    return EnergyMeter(source, counters)


def total_energy(engine: Engine, meter: EnergyMeter) -> RunEnergy:
    """The sum over nodes, on every rank, which must all call it. Measurable only if it is on every node, alike."""
    mine = {
        "machine": machine(), "host": socket.gethostname(), "reader": engine.local_rank == 0, "source": meter.source,
        "reason": meter.reason, "joules": meter.joules, "steady": meter.steady_joules,
    }  # fmt: skip
    return add_nodes(engine.gather(mine, "energy"))


def add_nodes(ranks: list[dict[str, Any]]) -> RunEnergy:
    """What all ranks say, in rank order, as one: of several readers on one machine the first counts."""
    readers: dict[str, dict[str, Any]] = {}
    for rank in ranks:
        if rank["reader"]:
            readers.setdefault(rank["machine"], rank)
    for rank in ranks:
        if rank["machine"] not in readers:
            return RunEnergy(None, None, f"not measurable: no local rank 0 on {rank['host']}")
    for reader in readers.values():
        if reader["reason"] is not None:
            return RunEnergy(None, None, f"not measurable: {reader['host']}: {reader['reason']}")
    sources = sorted({reader["source"] for reader in readers.values()})
    if len(sources) > 1:
        return RunEnergy(None, None, f"not measurable: nodes differ: {', '.join(sources)}")
    steady = [reader["steady"] for reader in readers.values()]
    return RunEnergy(sum(r["joules"] for r in readers.values()), sum(steady) if all(steady) else None, sources[0])
