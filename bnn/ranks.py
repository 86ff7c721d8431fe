"""Which rank a launcher says that this process is. Loads nothing, so that it can be asked before torch is there."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bnn.errors import UserError


@dataclass(frozen=True)
class Launcher:
    """Environment variables by which a launcher tells each of its processes its rank; empty where it has none.

    `local_rank` and `local_size` are of this machine.
    """

    name: str
    rank: str
    size: str = ""
    local_rank: tuple[str, ...] = ()
    local_size: tuple[str, ...] = ()


# The innermost launcher comes first: torchrun runs under srun, Hydra starts its own processes through srun, and a
# launcher's variables outlive it in what its processes start. Where the names come from:
#   torchrun        its documentation, "Environment Variables"
#   PMI             MPICH's Hydra and Intel MPI (MPI_LOCALRANKID), Cray PALS (pals.h: PMI_LOCAL_RANK, PALS_RANKID),
#                   Slurm's own pmi2, which tells the local rank as Slurm does
#   Open MPI        its documentation, "Environment variables set for MPI applications"
#   MVAPICH2        its user guide, "MV2_COMM_WORLD_*"
#   Flux            flux-core, src/shell and flux-environment(7)
#   PMIx, ALPS      PMIx standard, PMIX_RANK; Cray's aprun, ALPS_APP_PE. Neither states how many ranks there are.
#   Slurm           srun(1), "OUTPUT ENVIRONMENT VARIABLES". SLURM_NTASKS would not do: a batch script, which is no
#                   rank, has it too, with SLURM_PROCID=0; SLURM_STEP_NUM_TASKS has only what srun starts.
LAUNCHERS = (
    Launcher("torchrun", "RANK", "WORLD_SIZE", ("LOCAL_RANK",), ("LOCAL_WORLD_SIZE",)),
    Launcher(
        "PMI", "PMI_RANK", "PMI_SIZE", ("MPI_LOCALRANKID", "PMI_LOCAL_RANK", "PALS_LOCAL_RANKID", "SLURM_LOCALID"),
        ("MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"),
    ),
    Launcher(
        "Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", ("OMPI_COMM_WORLD_LOCAL_RANK",),
        ("OMPI_COMM_WORLD_LOCAL_SIZE",),
    ),
    Launcher(
        "MVAPICH2", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", ("MV2_COMM_WORLD_LOCAL_RANK",),
        ("MV2_COMM_WORLD_LOCAL_SIZE",),
    ),
    Launcher("Flux", "FLUX_TASK_RANK", "FLUX_JOB_SIZE", ("FLUX_TASK_LOCAL_ID",)),
    Launcher("PALS", "PALS_RANKID", "", ("PALS_LOCAL_RANKID",)),
    Launcher("PMIx", "PMIX_RANK"),
    Launcher("ALPS", "ALPS_APP_PE"),
    Launcher("Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", ("SLURM_LOCALID",)),
)  # fmt: skip
LOCAL_SIZES = tuple(name for launcher in LAUNCHERS for name in launcher.local_size)
EARLY_RANK = tuple(launcher.rank for launcher in LAUNCHERS)
# `srun --pty` starts a terminal on rank 0 alone, whatever the number of tasks.
SLURM_TERMINAL = "SLURM_PTY_PORT"


@dataclass(frozen=True)
class Launched:
    """What launchers state of this process. `size` None: there may be others, nobody says how many."""

    rank: int = 0
    size: int | None = 1
    launcher: str = ""

    @property
    def several(self) -> bool:
        """Whether this is for certain one of several ranks."""
        return self.rank > 0 or (self.size or 1) > 1


def launched(environment: Mapping[str, str] = os.environ) -> Launched:
    """The rank and size that the innermost launcher states.

    A launcher that states the rank alone is asked only where no launcher states both. Raises UserError for values that
    are not such numbers.
    """
    for launcher in LAUNCHERS:
        if not launcher.size or launcher.rank not in environment or launcher.size not in environment:
            continue
        if launcher.name == "Slurm" and SLURM_TERMINAL in environment:
            continue
        rank, size = _number(environment, launcher.rank), _number(environment, launcher.size)
        if rank >= size:
            raise UserError(f"{launcher.rank}={rank}: there are {size} ranks by {launcher.size}")
        return Launched(rank, size, launcher.name)
    for launcher in LAUNCHERS:
        if not launcher.size and launcher.rank in environment:
            return Launched(_number(environment, launcher.rank), None, launcher.name)
    return Launched()


def local_rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """The rank within its node that the innermost launcher states; None where it does not."""
    told = launched(environment).launcher
    names = next((launcher.local_rank for launcher in LAUNCHERS if launcher.name == told), ())
    return next((_number(environment, name) for name in names if name in environment), None)


def early_rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """This process's rank before its engine has started; None where no launcher states it."""
    return next((int(environment[name]) for name in EARLY_RANK if environment.get(name, "").isdecimal()), None)


def refuse_several(what: str, instead: str) -> None:
    """Raises UserError where this process is one of several ranks, which `what` is not made for."""
    told = launched()
    if told.several:
        number = f"rank {told.rank}" + (f" of {told.size}" if told.size else "")
        raise UserError(f"{what}: started on several ranks ({told.launcher}: this is {number}); {instead}")


def machine() -> str:
    """What tells this running machine from others; ranks in containers or virtual hosts of one machine agree."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment[name].strip()
    if not (text.isascii() and text.isdecimal()):
        raise UserError(f"environment variable {name}={text!r}: not a number")
    return int(text)
