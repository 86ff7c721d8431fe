"""What starts the ranks of a job, and how they lie on machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """Ranks on machines: `per_machine` on each of `machines`, `threads` each; `smt` hardware threads used per core."""

    machines: int
    per_machine: int
    threads: int
    smt: int = 1

    @property
    def ranks(self) -> int:
        return self.machines * self.per_machine


def _mpiexec(placement: Placement) -> list[str]:
    """Hydra (MPICH, Intel MPI). It finds the scheduler's machines by itself."""
    spread = ["-ppn", str(placement.per_machine)] if placement.machines > 1 else []
    return ["mpiexec", "-n", str(placement.ranks), *spread]


def _aprun(placement: Placement) -> list[str]:
    """ALPS (Cray XC). -d: hardware threads of a rank, -j: how many of them per core, -cc depth: no migration."""
    place = ["-n", placement.ranks, "-N", placement.per_machine, "-cc", "depth"]
    return ["aprun", *map(str, [*place, "-d", placement.threads, "-j", placement.smt])]


def _pals(placement: Placement) -> list[str]:
    """HPE's parallel application launch service (Cray EX)."""
    words = ["-n", placement.ranks, "--ppn", placement.per_machine, "--depth", placement.threads, "--cpu-bind", "depth"]
    return ["mpiexec", *map(str, words)]


def _srun(placement: Placement) -> list[str]:
    counts = {
        "nodes": placement.machines,
        "ntasks": placement.ranks,
        "ntasks-per-node": placement.per_machine,
        "cpus-per-task": placement.threads,
    }
    return ["srun", *(f"--{name}={count}" for name, count in counts.items())]


# How a launcher is told the nodes that it may use, by a file with one name in each line. (ALPS finds free ones itself.)
NODEFILE = {"mpiexec": "-f", "pals": "--hostfile", "srun": "--nodelist"}
KINDS: dict[str, Callable[[Placement], list[str]]] = {
    "mpiexec": _mpiexec, "aprun": _aprun, "pals": _pals, "srun": _srun
}  # fmt: skip


@dataclass(frozen=True)
class Launcher:
    """A launcher with the site's further options."""

    kind: str
    options: tuple[str, ...] = ()

    @property
    def nodefile(self) -> str:
        """The option that names the nodes; empty where there is none."""
        return NODEFILE.get(self.kind, "")

    @property
    def leads_to_nodes(self) -> bool:
        """Whether a job's script runs elsewhere than on the job's nodes, which only the launcher reaches."""
        return self.kind == "aprun"

    def command(self, placement: Placement) -> list[str]:
        """The words before the program's own."""
        return [*KINDS[self.kind](placement), *self.options]
