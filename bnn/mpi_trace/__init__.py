"""Counts and times the MPI calls of a run: a PMPI interposer in C, preloaded into every rank.

    mpiexec -n 2 env $(python -m bnn.mpi_trace preload FOLDER) bnn train ...
    python -m bnn.mpi_trace collect FOLDER

The ranks leave `mpi_profile.<job>.<rank>` (the text form of IBM's mpitrace) and a table that `collect` turns into
Parquet. Where nothing is preloaded `mark` does nothing. `python -m bnn.mpi_trace.build` builds the interposer.
"""

from __future__ import annotations

from pathlib import Path

from bnn.mpi_trace.phases import mark

__all__ = ["environment", "library", "mark", "to_parquet"]


def library() -> Path:
    """The built interposer. Raises UserError when it is not there or older than its source."""
    from bnn.mpi_trace.build import library

    return library()


def environment(folder: Path, job: str = "") -> dict[str, str]:
    """Variables that make every rank write its profile into `folder`; see bnn.mpi_trace.preload."""
    from bnn.mpi_trace.preload import environment

    return environment(folder, job)


def to_parquet(folder: Path) -> list[Path]:
    """Turn the tables that the ranks left in `folder` into Parquet; see bnn.mpi_trace.sidecar."""
    from bnn.mpi_trace.sidecar import to_parquet

    return to_parquet(folder)
