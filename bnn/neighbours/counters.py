"""Counters that Linux keeps of a machine, as files: CPU time, pressure, swap, frequency, throttling.

Sources: Documentation/filesystems/proc.rst (stat, vmstat), accounting/psi.rst, ABI/testing/sysfs-devices-system-cpu.
Every function takes the root folder, so that a copied tree can be read; what cannot be read is None.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bnn.neighbours.cgroup import read_text

ROOT = Path("/")
TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds: what /proc/stat counts in
PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
CPUS = "sys/devices/system/cpu"
RESOURCES = ("cpu", "memory", "io")


@dataclass(frozen=True)
class CpuTimes:
    """Seconds of one CPU since the machine started.

    `busy`: in programs and the kernel (user, nice, system; guests are part of user). Interrupts are left out: nobody
    can say whose they are. `stolen`: the hypervisor ran something else; None where the kernel does not count it.
    """

    busy: float
    stolen: float | None


def cpu_times(text: str) -> dict[int, CpuTimes] | None:
    """By CPU, from /proc/stat's `cpuN user nice system idle iowait irq softirq steal ...`; None if it says nothing."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if not words or not words[0].startswith("cpu") or not words[0][3:].isdecimal():
            continue
        if len(words) < 5 or not all(word.isdecimal() for word in words[1:]):
            return None
        ticks = [int(word) for word in words[1:]]
        stolen = ticks[7] * TICK if len(ticks) > 7 else None
        found[int(words[0][3:])] = CpuTimes(sum(ticks[:3]) * TICK, stolen)
    return found or None


def pressure_seconds(text: str) -> float | None:
    """Seconds in which at least one task has waited: `total` of the line `some` of a /proc/pressure file, in µs."""
    for line in text.splitlines():
        words = line.split()
        if words and words[0] == "some":
            totals = [word.removeprefix("total=") for word in words if word.startswith("total=")]
            return int(totals[0]) / 1e6 if len(totals) == 1 and totals[0].isdecimal() else None
    return None


def swapped_bytes(text: str) -> int | None:
    """Bytes that went to and from swap, from the pages in /proc/vmstat; None where it does not count them."""
    pages = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name in ("pswpin", "pswpout") and value.strip().isdecimal():
            pages[name] = int(value)
    return sum(pages.values()) * PAGE if len(pages) == 2 else None


def frequencies(cpus: Iterable[int], root: Path = ROOT) -> dict[int, float] | None:
    """MHz of these CPUs now, by cpufreq or else by /proc/cpuinfo; None where neither says it (Arm without cpufreq)."""
    wanted, found = set(cpus), {}
    for cpu in wanted:
        text = (read_text(root / CPUS / f"cpu{cpu}/cpufreq/scaling_cur_freq") or "").strip()
        if text.isdecimal() and int(text) > 0:
            found[cpu] = int(text) / 1000
    if not found:
        everyone = cpuinfo_megahertz(read_text(root / "proc/cpuinfo") or "")
        found = {cpu: value for cpu, value in everyone.items() if cpu in wanted}
    return found or None


def cpuinfo_megahertz(text: str) -> dict[int, float]:
    """By CPU, from the lines `processor : N` and `cpu MHz : X` of /proc/cpuinfo."""
    found, cpu = {}, None
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "processor":
            cpu = int(value) if value.isdecimal() else None
        elif name == "cpu MHz" and cpu is not None:
            try:
                megahertz = float(value)
            except ValueError:
                continue
            if 0 < megahertz < 1e6:
                found[cpu] = megahertz
    return found


def throttle_events(cpus: Iterable[int], root: Path = ROOT) -> int | None:
    """How often the cores of these CPUs and their packages have been slowed down because they were too hot, so far.

    Hardware threads of a core show its count each, and all cores that of their package: each counts once.
    """
    counts: dict[str, int] = {}
    for cpu in cpus:
        folder = root / CPUS / f"cpu{cpu}"
        for file, shared in (("core_throttle_count", "thread_siblings_list"),
                             ("package_throttle_count", "physical_package_id")):  # fmt: skip
            text = (read_text(folder / "thermal_throttle" / file) or "").strip()
            if text.isdecimal():
                owner = (read_text(folder / "topology" / shared) or str(cpu)).strip()
                key = f"{file} {owner}"
                counts[key] = max(counts.get(key, 0), int(text))
    return sum(counts.values()) if counts else None


@dataclass(frozen=True)
class MachineReading:
    """Counters of a machine at one moment; units as the functions above have them."""

    cpus: dict[int, CpuTimes] | None
    frequencies: dict[int, float] | None
    throttles: int | None
    pressure: dict[str, float | None]
    swapped: int | None


def read_machine(own: Iterable[int], root: Path = ROOT) -> MachineReading:
    """Now; frequency and throttling of the CPUs `own` alone."""
    own = set(own)
    return MachineReading(
        cpus=cpu_times(read_text(root / "proc/stat") or ""),
        frequencies=frequencies(own, root),
        throttles=throttle_events(own, root),
        pressure={name: pressure_seconds(read_text(root / f"proc/pressure/{name}") or "") for name in RESOURCES},
        swapped=swapped_bytes(read_text(root / "proc/vmstat") or ""),
    )
