"""Builds the interposer with the environment's MPI compiler: `python -m bnn.mpi_trace.build` (about a second)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bnn import compiled
from bnn.errors import UserError

SOURCE = Path(__file__).parent
FILES = ("interposer.c", "counters.c", "report.c")
HEADERS = ("counters.h", "report.h")
# The library lies in <environment>/lib/bnn and finds the environment's MPI one folder up, wherever that is moved.
FLAGS = ("-std=c11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread", "-Wall", "-Wextra", "-Werror",
         "-Wl,-z,defs", "-Wl,-rpath,$ORIGIN/..")  # fmt: skip


def library_path() -> Path:
    """Where the interposer of this Python environment lies."""
    return compiled.library_path("libbnn_mpi_trace")


def _source_hash() -> str:
    return compiled.source_hash(FLAGS, [SOURCE / name for name in FILES + HEADERS])


def library() -> Path:
    """The interposer built from these sources. Raises UserError when it is not there or older than they are."""
    return compiled.built(library_path(), _source_hash(), "bnn.mpi_trace", ("the MPI interposer is", "its"))


def mpi_compiler() -> str:
    """MPI's C compiler wrapper: BNN_MPICC, else the one beside this Python. Raises UserError when there is none.

    Not any other one on the PATH: the interposer must use the MPI that Horovod was built with.
    """
    mpicc = os.environ.get("BNN_MPICC") or str(Path(sys.executable).parent / "mpicc")
    if not os.access(mpicc, os.X_OK):
        raise UserError(f"{mpicc}: not an MPI compiler wrapper that can be run (BNN_MPICC names another)")
    return mpicc


def check_preloadable(path: Path) -> None:
    """Raises UserError for a path that LD_PRELOAD would take for several (nor do MPI's wrappers quote spaces)."""
    if re.search(r"[\s:]", str(path)):
        raise UserError(f"{path}: MPI calls cannot be profiled from a path with spaces or colons")


def _say(command: list[str]) -> str:
    """The output of a command, whether or not it succeeds."""
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout + done.stderr


def key_with_mpi(mpicc: str, source: str) -> str:
    """Source, wrapper, compiler and MPI release: a change in any of them asks for a new build."""
    # MPICH and Cray answer -show, Open MPI --showme; the release is in MPI's header
    asked = "#include <mpi.h>\nMPI_VERSION MPI_SUBVERSION MPICH_VERSION OMPI_MAJOR_VERSION OMPI_MINOR_VERSION"
    header = subprocess.run([mpicc, "-E", "-P", "-x", "c", "-"], input=asked, capture_output=True, text=True).stdout
    release = header.strip().split("\n")[-1]
    wrapper = str(Path(mpicc).resolve())
    return compiled.key_of(source, wrapper, _say([mpicc, "-show"]), _say([mpicc, "--version"]), release)


def compile_c(mpicc: str, sources: Sequence[Path], flags: tuple[str, ...], target: Path) -> None:
    """Compile with an MPI wrapper; `target` appears whole or not at all. Raises UserError with the first error."""
    with compiled.scratch_beside(target) as scratch:
        files = [str(source) for source in sources]
        compiled.compile_with([mpicc, *flags, *files, "-o", str(scratch / target.name)], target.name)


def build_library(path: Path, sources: Sequence[Path], flags: tuple[str, ...], source: str) -> Path:
    """Build a library with the environment's MPI compiler unless it is up to date with the hash `source` of its source.

    Returns its path. Raises UserError.
    """
    mpicc = mpi_compiler()
    key = key_with_mpi(mpicc, source)
    if compiled.is_current(path, key):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with compiled.one_at_a_time(path):
            path.with_suffix(".key").unlink(missing_ok=True)
            compile_c(mpicc, sources, flags, path)
            compiled.write_key(path, key)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    return path


def build() -> Path:
    """Build the interposer unless it is up to date; returns its path. Raises UserError."""
    path = library_path()
    check_preloadable(path)
    return build_library(path, [SOURCE / name for name in FILES], FLAGS, _source_hash())


if __name__ == "__main__":
    compiled.main(build, "bnn.mpi_trace")
