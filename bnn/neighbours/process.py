"""What this process and those it has started have used so far, and where they may run."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path

from bnn.neighbours.cgroup import control_groups, held_back_seconds, read_text
from bnn.neighbours.counters import ROOT, TICK


@dataclass(frozen=True)
class ProcessReading:
    """Counters of a process at one moment.

    `cpu_seconds` are its own and those of its descendants, living or not. `waited`: nanoseconds that each of its
    threads was ready to run and had no CPU; None where the kernel does not count it. `held_back`: as in cgroup.py.
    """

    cpu_seconds: float
    waited: dict[int, int] | None
    voluntary: int
    involuntary: int
    major_faults: int
    held_back: float | None


def read_process(root: Path = ROOT) -> ProcessReading:
    """Of this process, now."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    reaped = ended.ru_utime + ended.ru_stime
    return ProcessReading(
        cpu_seconds=own.ru_utime + own.ru_stime + reaped + descendants_seconds(os.getpid(), root),
        waited=waited_by_thread(root),
        voluntary=own.ru_nvcsw,
        involuntary=own.ru_nivcsw,
        major_faults=own.ru_majflt,
        held_back=held_back_seconds(control_groups("cpu", root)),
    )


def threads(pid: int | str = "self", root: Path = ROOT) -> list[int]:
    """Ids of a process's threads; empty once it is gone."""
    try:
        return [int(path.name) for path in (root / f"proc/{pid}/task").iterdir() if path.name.isdecimal()]
    except OSError:
        return []


def waited_by_thread(root: Path = ROOT) -> dict[int, int] | None:
    """Nanoseconds in the run queue by thread of this process, the second number of its schedstat."""
    found = {}
    for thread in threads("self", root):
        words = (read_text(root / f"proc/self/task/{thread}/schedstat") or "").split()
        if len(words) == 3 and words[1].isdecimal():
            found[thread] = int(words[1])
    return found or None


def affinity() -> set[int]:
    """CPUs that any thread of this process may run on: with OMP_PROC_BIND each thread has its own."""
    found = set(os.sched_getaffinity(0))
    for thread in threads():
        try:
            found |= os.sched_getaffinity(thread)
        except OSError:  # it has just ended
            continue
    return found


def descendants_seconds(pid: int, root: Path = ROOT) -> float:
    """CPU seconds of the living descendants of a process, with what they have inherited from their own dead ones."""
    stats = _by_children_files(pid, root)
    if stats is None:
        stats = _by_parents(pid, root)
    return sum(ticks for _, ticks in stats) * TICK


def _by_children_files(pid: int, root: Path) -> list[tuple[int, int]] | None:
    """Descendants as (process, ticks), by the files `children`; None where this kernel has none."""
    found, waiting = [], [pid]
    while waiting:
        process = waiting.pop()
        texts = [read_text(root / f"proc/{process}/task/{thread}/children") for thread in threads(process, root)]
        if process == pid and all(text is None for text in texts):
            return None
        for child in {int(word) for text in texts if text for word in text.split() if word.isdecimal()}:
            if (stat := process_stat(read_text(root / f"proc/{child}/stat") or "")) is not None:
                found.append((child, stat[1]))
                waiting.append(child)
    return found


def _by_parents(pid: int, root: Path) -> list[tuple[int, int]]:
    """The same from the parents of all processes."""
    children: dict[int, list[tuple[int, int]]] = {}
    try:
        names = [path.name for path in (root / "proc").iterdir() if path.name.isdecimal()]
    except OSError:
        return []
    for name in names:
        if (stat := process_stat(read_text(root / f"proc/{name}/stat") or "")) is not None:
            children.setdefault(stat[0], []).append((int(name), stat[1]))
    found, waiting = [], [pid]
    while waiting:
        mine = children.pop(waiting.pop(), [])
        found += mine
        waiting += [child for child, _ in mine]
    return found


def process_stat(text: str) -> tuple[int, int] | None:
    """(parent, ticks of it and its dead children) from /proc/PID/stat; None for anything else.

    The name, in parentheses, may itself hold spaces and parentheses: the last one ends it.
    """
    words = text[text.rfind(")") + 1 :].split()
    if ")" not in text or len(words) < 15 or not all(word.isdecimal() for word in (words[1], *words[11:15])):
        return None
    return int(words[1]), sum(int(word) for word in words[11:15])
