"""Builds what times MPI's allreduce: `python -m bnn.bench.allreduce.build` (about a second)."""

from __future__ import annotations

from pathlib import Path

from bnn import compiled
from bnn.mpi_trace.build import build_library

SOURCE = Path(__file__).parent / "allreduce.c"
# as the interposer's: it finds the environment's MPI one folder up
FLAGS = ("-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra",
         "-Werror", "-pthread", "-Wl,-z,defs", "-Wl,-rpath,$ORIGIN/..")  # fmt: skip


def library_path() -> Path:
    """Where this Python environment has the library."""
    return compiled.library_path("libbnn_allreduce")


def _source_hash() -> str:
    return compiled.source_hash(FLAGS, [SOURCE])


def library() -> Path:
    """The library built from this source. Raises UserError when it is not there or older than that."""
    words = ("what times MPI's allreduce is", "its")
    return compiled.built(library_path(), _source_hash(), "bnn.bench.allreduce", words)


def build() -> Path:
    """Build the library unless it is up to date; returns its path. Raises UserError."""
    return build_library(library_path(), [SOURCE], FLAGS, _source_hash())


if __name__ == "__main__":
    compiled.main(build, "bnn.bench.allreduce")
