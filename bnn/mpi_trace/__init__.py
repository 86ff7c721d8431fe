"""Counts and times the MPI calls of a run: a PMPI interposer in C, preloaded into every rank.

    mpiexec -n 2 env $(python -m bnn.mpi_trace preload FOLDER) bnn train ...
    python -m bnn.mpi_trace collect FOLDER

The ranks leave `mpi_profile.<job>.<rank>` (the text form of IBM's mpitrace) and a table that `collect` turns into
Parquet. Where nothing is preloaded `mark` does nothing and `data_calls` knows none.
`python -m bnn.mpi_trace.build` builds the interposer.
"""

from bnn.mpi_trace.phases import data_calls, mark

__all__ = ["data_calls", "mark"]
