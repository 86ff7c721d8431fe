"""The environment that profiles a rank."""

from __future__ import annotations

from pathlib import Path

from bnn.mpi_trace.build import check_preloadable, library


def environment(folder: Path, job: str = "") -> dict[str, str]:
    """Variables to set for every rank (not for the launcher) so that profiles are written into `folder`.

    `job` names the files; empty: the scheduler's job number. Raises UserError when the interposer is not built or
    cannot be preloaded from where it is.
    """
    path = library()
    check_preloadable(path)
    values = {"LD_PRELOAD": str(path), "BNN_MPI_TRACE_DIR": str(folder.absolute())}
    return values | ({"BNN_MPI_TRACE_JOBID": job} if job else {})
