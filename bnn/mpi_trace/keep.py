"""A job's MPI profiles: gathered aside while it runs, kept as a whole or with the reason why there are none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bnn.errors import UserError
from bnn.mpi_trace.build import check_preloadable, library
from bnn.mpi_trace.sidecar import to_parquet
from bnn.records.files import MPI_NOT_RECORDED, write_text

PROFILES = "mpi_profile.*"


def prepare(folder: Path, interposer: bool = True) -> Path | None:
    """Make `folder` new and empty; returns the interposer for LD_PRELOAD if it is asked for.

    Raises UserError when the interposer cannot be preloaded; the reason is then left in `folder`, for `keep`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        if not interposer:
            return None
        path = library()
        check_preloadable(path)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    except UserError as reason:
        write_text(folder / MPI_NOT_RECORDED, f"{reason}\n")
        raise
    return path


def keep(folder: Path, target: Path, found_in: Path | None = None) -> str:
    """Rename `folder` to `target` once its profiles are whole; returns a line that says what it holds.

    `found_in`: also take the profiles that another tool wrote there since `folder` was prepared. A missing or damaged
    profile is no error: `target` then holds MPI_NOT_RECORDED with the reason. Raises UserError when nothing can be
    written.
    """
    try:
        if found_in is not None:
            _take(found_in, folder)
        line = _judge(folder)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(folder, target)
    except OSError as error:
        raise UserError(f"{error.filename or target}: {error.strerror}") from None
    return f"{target}: {line}"


def _take(source: Path, folder: Path) -> None:
    """Move profiles that are younger than `folder`; older ones are of other jobs."""
    since = folder.stat().st_ctime_ns
    young = [path for path in source.glob(PROFILES) if path.is_file() and path.stat().st_mtime_ns >= since]
    for path in young:
        shutil.move(path, folder / path.name)


def _judge(folder: Path) -> str:
    if (folder / MPI_NOT_RECORDED).exists():
        return f"MPI calls were not profiled: {(folder / MPI_NOT_RECORDED).read_text().strip()}"
    try:
        to_parquet(folder)
        if not list(folder.glob(PROFILES)):
            raise UserError("the ranks left no MPI profile")
    except UserError as reason:
        write_text(folder / MPI_NOT_RECORDED, f"{reason}\n")
        return f"MPI calls were not profiled: {reason}"
    return f"{len(list(folder.glob(PROFILES)))} files of MPI profiles"
