"""The environment that profiles a rank."""

from __future__ import annotations

import re
from pathlib import Path

from bnn.errors import UserError
from bnn.mpi_trace.build import library


def environment(folder: Path, job: str = "") -> dict[str, str]:
    """Variables to set for every rank (not for the launcher) so that profiles are written into `folder`.

    `job` names the files; empty: the scheduler's job number. Raises UserError when the interposer is not built or
    cannot be preloaded from where it is.
    """
    path = str(library())
    if re.search(r"[\s:]", path):
        raise UserError(f"{path}: cannot be preloaded from a path with spaces or colons")
    values = {"LD_PRELOAD": path, "BNN_MPI_TRACE_DIR": str(folder.absolute())}
    return values | ({"BNN_MPI_TRACE_JOBID": job} if job else {})
