"""Builds the interposer with the environment's MPI compiler: `python -m bnn.mpi_trace.build` (about a second)."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bnn.errors import UserError

SOURCE = Path(__file__).parent
FILES = ("interposer.c", "counters.c", "report.c")
HEADERS = ("counters.h", "report.h")
# The library lies in <environment>/lib/bnn and finds the environment's MPI one folder up, wherever that is moved.
FLAGS = ("-std=c11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread", "-Wall", "-Wextra", "-Werror",
         "-Wl,-z,defs", "-Wl,-rpath,$ORIGIN/..")  # fmt: skip


def library_path() -> Path:
    """Where the interposer of this Python environment lies."""
    return Path(sys.prefix) / "lib" / "bnn" / "libbnn_mpi_trace.so"


def _key_path() -> Path:
    return library_path().with_suffix(".key")


def _source_hash() -> str:
    digest = hashlib.sha256(repr(FLAGS).encode())
    for name in FILES + HEADERS:
        digest.update((SOURCE / name).read_bytes())
    return digest.hexdigest()


def library() -> Path:
    """The interposer built from these sources. Raises UserError when it is not there or older than they are."""
    try:
        built = _key_path().read_text().split("\n")[0]
    except OSError:
        built = ""
    if built != _source_hash() or not library_path().is_file():
        state = "older than its source" if built else "not built"
        raise UserError(f"{library_path()}: the MPI interposer is {state}: run python -m bnn.mpi_trace.build")
    return library_path()


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
    """What a command prints, whether or not it succeeds."""
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout + done.stderr


def _key(mpicc: str) -> str:
    """Source, wrapper, compiler and MPI release: a change in any of them asks for a new build."""
    # MPICH and Cray answer -show, Open MPI --showme; the release is in MPI's header
    asked = "#include <mpi.h>\nMPI_VERSION MPI_SUBVERSION MPICH_VERSION OMPI_MAJOR_VERSION OMPI_MINOR_VERSION"
    header = subprocess.run([mpicc, "-E", "-P", "-x", "c", "-"], input=asked, capture_output=True, text=True).stdout
    release = header.strip().split("\n")[-1]
    facts = [str(Path(mpicc).resolve()), _say([mpicc, "-show"]), _say([mpicc, "--version"]), release]
    return _source_hash() + "\n" + hashlib.sha256(repr(facts).encode()).hexdigest() + "\n"


def compile_c(mpicc: str, sources: tuple[str, ...], flags: tuple[str, ...], target: Path) -> None:
    """Compile with an MPI wrapper, aside and then renamed. Raises UserError with the compiler's first words."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as scratch:
        made = Path(scratch) / target.name
        command = [mpicc, *flags, *(str(SOURCE / name) for name in sources), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            words = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
            raise UserError(f"{mpicc}: cannot build {target.name}: {words[0] if words else 'no reason given'}")
        made.replace(target)


def build() -> Path:
    """Build the interposer unless it is up to date; returns its path. Raises UserError."""
    path = library_path()
    check_preloadable(path)
    mpicc = mpi_compiler()
    key = _key(mpicc)
    try:
        if path.is_file() and _key_path().read_text() == key:
            return path
    except OSError:
        pass
    try:
        compile_c(mpicc, FILES, FLAGS, path)
        aside = _key_path().with_suffix(f".{os.getpid()}")
        aside.write_text(key)
        aside.replace(_key_path())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    return path


if __name__ == "__main__":
    try:
        print(build())
    except UserError as error:
        print(f"bnn.mpi_trace: {error}", file=sys.stderr)
        sys.exit(2)
