"""How many threads a command takes by hand: the cores that this process may use, divided among the ranks beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bnn.neighbours.cgroup import control_groups, quota_cpus, read_text
from bnn.neighbours.counters import CPUS, ROOT
from bnn.ranks import LOCAL_SIZES


@dataclass(frozen=True)
class Room:
    """What there is for this process. `cores`: physical ones that it may run on; `quota`: CPUs that its control group
    allows, None without one; `ranks`: how many share this room, itself included."""

    cores: int
    quota: float | None
    ranks: int

    @property
    def threads(self) -> int:
        """At least one."""
        room = self.cores if self.quota is None else min(self.cores, int(self.quota))
        return max(1, room // self.ranks)

    def __str__(self) -> str:
        words = [f"{self.cores} core{'s' * (self.cores > 1)} that it may use"]
        if self.quota is not None:
            words.append(f"a quota of {self.quota:g} CPUs")
        if self.ranks > 1:
            words.append(f"{self.ranks} ranks that share them")
        return ", ".join(words)


def room_here(environment: Mapping[str, str] = os.environ, root: Path = ROOT) -> Room:
    """Of this process, from its affinity, the machine's topology, its control group and what its launcher says."""
    mine = os.sched_getaffinity(0)
    asked = environment.get("SLURM_CPUS_PER_TASK", "")
    if asked.isdecimal() and int(asked) > 0 and _slurm_task(environment):
        # Slurm says by itself what is a task's; where it has bound it, the affinity is no more than that
        alone = min(physical_cores(mine, root), int(asked))
        return Room(alone, quota_cpus(control_groups("cpu", root)), 1)
    return Room(physical_cores(mine, root), quota_cpus(control_groups("cpu", root)), sharing(mine, environment))


def sharing(mine: set[int], environment: Mapping[str, str]) -> int:
    """How many of the ranks on this machine share the CPUs `mine`.

    A launcher that binds ranks to CPUs spreads them over what it has itself: of 8 ranks, each bound to 8 of 32 CPUs,
    2 share. Without binding all of them do.
    """
    ranks = local_ranks(environment)
    if ranks == 1:
        return 1
    try:
        whole = len(os.sched_getaffinity(os.getppid()))
    except OSError:
        whole = len(mine)
    allocated = environment.get("SLURM_CPUS_ON_NODE", "")
    if allocated.isdecimal() and int(allocated) > 0:
        whole = min(whole, int(allocated))
    return max(1, -(-ranks * len(mine) // max(whole, len(mine))))


def local_ranks(environment: Mapping[str, str]) -> int:
    """Ranks that the launcher has started on this machine; 1 where none says it."""
    for name in LOCAL_SIZES:
        if environment.get(name, "").isdecimal():
            return max(1, int(environment[name]))
    return _slurm_tasks(environment) if _slurm_task(environment) else 1


def _slurm_task(environment: Mapping[str, str]) -> bool:
    """Whether srun started this process: in a batch script the variables are those of the script."""
    return "SLURM_PROCID" in environment and "SLURM_STEP_NUM_TASKS" in environment


def _slurm_tasks(environment: Mapping[str, str]) -> int:
    """The entry of this node in SLURM_STEP_TASKS_PER_NODE, as `2(x3),1` writes it."""
    node = int(environment["SLURM_NODEID"]) if environment.get("SLURM_NODEID", "").isdecimal() else 0
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", "")):
        counts += [int(count)] * min(int(times or 1), 10**5)
    return max(1, counts[node]) if node < len(counts) else 1


def physical_cores(cpus: set[int], root: Path = ROOT) -> int:
    """Cores that these hardware threads belong to; where Linux does not say it, each counts as one."""
    return len({siblings(cpu, root) for cpu in cpus})


def siblings(cpu: int, root: Path = ROOT) -> str:
    """What the hardware threads of one core have in common; each is its own core where Linux does not say it."""
    folder = root / CPUS / f"cpu{cpu}/topology"
    text = read_text(folder / "core_cpus_list") or read_text(folder / "thread_siblings_list")  # since Linux 5.3, before
    return (text or "").strip() or str(cpu)
