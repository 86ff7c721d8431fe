"""mpi/mpi_profile.<job>.<rank>.parquet: the MPI calls of one rank, as the interposer counted them."""

from bnn.records.columns import Column, TableSchema

# What a run is doing when a call starts, in the interposer's numbering.
PHASES = ("startup", "warmup", "steady", "evaluation", "checkpoint", "end", "phase 6", "phase 7")

MPI_CALLS = TableSchema(
    name="mpi_calls",
    version=1,
    columns=(
        Column("job", "string", "", "job number or name, as in the file's name"),
        Column("rank", "int32", "", "rank that made the calls"),
        Column("size", "int32", "", "number of ranks"),
        Column("phase", "string", "", f"part of the run in which the calls started: {', '.join(PHASES[:6])}"),
        Column("phase_seconds", "float64", "s", "wall time of that part on this rank"),
        Column("routine", "string", "", "MPI routine"),
        Column("operator", "string", "", "operator of a reduction (MPI_SUM, MPI_BAND, ...); empty for other routines"),
        Column("datatype", "string", "", "type of the elements; empty for routines that only wait or ask"),
        Column("bytes_low", "int64", "B", "least size of a message in this bin"),
        Column("bytes_high", "int64", "B", "greatest size of a message in this bin"),
        Column("calls", "int64", "calls", "calls with messages of that size"),
        Column("bytes", "int64", "B", "of these calls: what this rank contributed, in total"),
        Column(
            "seconds", "float64", "s", "of these calls: wall time inside the MPI library, summed over calls and threads"
        ),
        Column("finalized", "bool", "", "the run came to MPI_Finalize (else the process ended without it)"),
        Column("overhead_ns", "float64", "ns", "measured in this run: what being counted adds to a call"),
    ),
)

# What an MPI profile cannot show, and why: such a figure reads "not measurable", never 0.
NOT_MEASURED = {
    "NCCL": "NCCL's traffic does not go through MPI",
    "one-sided": "MPI_Put, MPI_Get and MPI_Accumulate are not counted",
    "MPI-IO": "MPI_File_* is not counted",
    "persistent and partitioned": "MPI_Start, MPI_Pready and their kin are not counted",
    "neighbourhood": "MPI_Neighbor_* and MPI_Alltoallw are not counted",
    "matched probes": "MPI_Mprobe and MPI_Mrecv are not counted",
    "communicators": "making and freeing communicators is not counted (mpitrace does not count it either)",
    "large counts": "the bindings with an MPI_Count (_c) are not counted",
    "Fortran": "calls through the Fortran bindings are not counted",
}


def profile_name(job: str, rank: int) -> str:
    """File name of one rank's text profile; the Parquet file has `.parquet` behind it."""
    return f"mpi_profile.{job}.{rank}"
