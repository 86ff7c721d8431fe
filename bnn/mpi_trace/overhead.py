"""What the interposer adds to an MPI call, measured with a small C program with and without it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from bnn.errors import UserError
from bnn.mpi_trace.build import SOURCE, compile_c, mpi_compiler
from bnn.mpi_trace.preload import environment

ROUTINES = ("MPI_Comm_rank", "MPI_Allreduce")


def measure(calls: int = 1_000_000) -> dict[str, dict[str, float]]:
    """Nanoseconds per call of one process: {routine: {plain, traced, added}}, each the least of 5 rounds of `calls`.

    Raises UserError when the program cannot be built or run.
    """
    with tempfile.TemporaryDirectory(prefix="bnn-overhead-") as scratch:
        program = Path(scratch) / "overhead"
        compile_c(mpi_compiler(), [SOURCE / "overhead.c"], ("-std=gnu11", "-O2"), program)
        plain = _run(program, calls, {})
        traced = _run(program, calls, environment(Path(scratch)))
    return {
        name: {"plain": p, "traced": t, "added": round(t - p, 2)}
        for name, p, t in zip(ROUTINES, plain, traced, strict=True)
    }


def _run(program: Path, calls: int, variables: dict[str, str]) -> list[float]:
    done = subprocess.run(
        [str(program), str(calls)], env={**os.environ, **variables}, capture_output=True, text=True
    )  # fmt: skip
    if done.returncode != 0:
        raise UserError(f"{program.name}: exit code {done.returncode}: {done.stderr.strip()[:200]}")
    return [float(word) for word in done.stdout.split()]
