"""Where and with what a rank runs."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import psutil
import torch

from bnn.engine import Engine
from bnn.records import Provenance, RankProvenance

PACKAGES = ("torch", "horovod", "mpich", "numpy", "pandas", "pyarrow", "snakemake")
# Environment that changes how a run performs; nothing else is copied, since an environment can hold secrets.
PREFIXES = ("HOROVOD_", "OMP_", "MKL_", "KMP_", "GOMP_", "MPICH_", "FI_", "UCX_", "NCCL_", "CUDA_VISIBLE", "TORCH_")


def cpu_model() -> str:
    """The processor's name as Linux states it, else as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def mpi_library() -> str | None:
    """First line of the loaded MPI library's own version text; None when no MPI is loaded."""
    try:
        maps = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    paths = {line.split(maxsplit=5)[5] for line in maps if "libmpi" in line and ".so" in line}
    for path in sorted(paths):
        try:
            function = getattr(ctypes.CDLL(path), "MPI_Get_library_version", None)
        except OSError:  # replaced on disk since it was loaded
            continue
        if function is not None:
            text, length = ctypes.create_string_buffer(8192), ctypes.c_int()
            function(text, ctypes.byref(length))
            return text.value.decode(errors="replace").splitlines()[0].strip()
    return None


def versions() -> dict[str, str]:
    """Versions of the packages that matter, of those installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def rank_provenance(engine: Engine, device: str, started_at: float) -> RankProvenance:
    """What this rank runs on, as of now; `device` is 'cpu' or 'cuda', `started_at` in seconds since 1970.

    A GPU that the run does not compute on is no part of it: to ask for its name would take memory on it.
    """
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return RankProvenance(
        rank=engine.rank,
        local_rank=engine.local_rank,
        hostname=socket.gethostname(),
        pid=os.getpid(),
        cpu_model=cpu_model(),
        cores=os.cpu_count() or 0,
        affinity=sorted(os.sched_getaffinity(0)),
        threads=torch.get_num_threads(),
        memory_bytes=psutil.virtual_memory().total,
        gpu=gpu,
        python=platform.python_version(),
        platform=platform.platform(),
        versions=versions(),
        mpi_library=mpi_library(),
        environment={k: v for k, v in sorted(os.environ.items()) if k.startswith(PREFIXES)},
        modules=[m for m in os.environ.get("LOADEDMODULES", "").split(":") if m],
        started_at=started_at,
        stopped_at=time.time(),
    )


def git_state() -> tuple[str | None, bool | None]:
    """(revision, dirty) of the checkout this package runs from; (None, None) outside a checkout."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    revision = git("rev-parse", "HEAD")
    status = git("status", "--porcelain", "--untracked-files=no") if revision else None
    return revision, None if status is None else bool(status)


def gather_provenance(engine: Engine, device: str, started_at: float) -> Provenance:
    """Provenance of every rank, on every rank; git's state is rank 0's. Arguments as of `rank_provenance`."""
    mine = rank_provenance(engine, device, started_at).model_dump(mode="json")
    state = git_state() if engine.rank == 0 else (None, None)
    gathered = engine.gather({"rank": mine, "git": state}, "provenance")
    revision, dirty = gathered[0]["git"]
    ranks = [RankProvenance.model_validate(item["rank"]) for item in gathered]
    return Provenance(command=sys.argv, git_revision=revision, git_dirty=dirty, ranks=ranks)
