"""Control and data: by operator and type where they are known, by size elsewhere."""

import pandas as pd
import pytest

from bnn.errors import UserError
from bnn.records import write_table
from bnn.records.mpi import MPI_CALLS
from campaign.results.mpi import Call, Part, Profile, Routine, parse, split
from campaign.results.mpi.split import BY_OPERATOR, BY_SIZE, kind_by_size, kind_of


def call(routine, operator="", datatype="", size=0, calls=1, seconds=0.5, phase="steady") -> Call:
    return Call(phase, 10.0, routine, operator, datatype, size, size, calls, calls * size, seconds)


@pytest.mark.parametrize(
    ("routine", "operator", "datatype", "kind"),
    [
        ("MPI_Allreduce", "MPI_BAND", "MPI_LONG_LONG_INT", "control"),
        ("MPI_Allreduce", "MPI_BOR", "MPI_LONG_LONG_INT", "control"),
        ("MPI_Allreduce", "MPI_LAND", "MPI_INT", "control"),
        ("MPI_Allreduce", "MPI_SUM", "MPI_FLOAT", "data"),
        ("MPI_Allreduce", "MPI_SUM", "MPI_LONG_LONG_INT", "data"),
        ("MPI_Allreduce", "other", "other", "data"),
        ("MPI_Gather", "", "MPI_INT", "control"),
        ("MPI_Gatherv", "", "MPI_BYTE", "control"),
        ("MPI_Bcast", "", "MPI_BYTE", "control"),
        ("MPI_Bcast", "", "MPI_FLOAT", "data"),
        ("MPI_Bcast", "", "MPI_INT32_T", "data"),
        ("MPI_Allgatherv", "", "MPI_UINT8_T", "data"),
        ("MPI_Comm_rank", "", "", "local"),
    ],
)
def test_kinds(routine, operator, datatype, kind):
    assert kind_of(call(routine, operator, datatype)) == kind


def profile(calls) -> Profile:
    return Profile("file", "bnn", 0, 2, "1", None, (), None, calls=tuple(calls))


def test_by_operator_and_phase():
    made = profile([
        call("MPI_Allreduce", "MPI_BAND", "MPI_LONG_LONG_INT", 16, calls=100),
        call("MPI_Allreduce", "MPI_SUM", "MPI_FLOAT", 4, calls=3, seconds=1.0),  # as small as control, yet data
        call("MPI_Allreduce", "MPI_SUM", "MPI_FLOAT", 4000, calls=2, seconds=1.0),
        call("MPI_Allreduce", "MPI_SUM", "MPI_FLOAT", 8, phase="evaluation"),
        call("MPI_Comm_size"),
    ])  # fmt: skip
    whole, steady = split(made), split(made, "steady")
    assert (whole.rule, whole.control, whole.data) == (BY_OPERATOR, Part(100, 1600, 0.5), Part(6, 8020, 2.5))
    assert (steady.data, steady.local.calls) == (Part(5, 8012, 2.0), 1)
    assert split(made, "warmup").data == Part()


def test_by_size_where_the_operator_is_unknown():
    routines = (Routine("MPI_Allreduce", 5, 40.0, 1.0), Routine("MPI_Barrier", 2, None, 0.25))
    made = Profile("file", "mpiP", 0, 2, None, None, routines, None)
    parts = split(made)
    assert (parts.rule, parts.control) == (BY_SIZE, Part())
    assert (parts.data.calls, parts.data.bytes) == (7, None)  # not measured, not 0
    with pytest.raises(ValueError, match="knows no phases"):
        split(made, "steady")


def frame(**columns) -> pd.DataFrame:
    row = {
        "job": "9", "rank": 0, "size": 1, "phase": "steady", "phase_seconds": 2.0, "routine": "MPI_Allreduce",
        "operator": "MPI_SUM", "datatype": "MPI_FLOAT", "bytes_low": 5, "bytes_high": 8, "calls": 3, "bytes": 20,
        "seconds": 0.5, "finalized": True, "overhead_ns": 50.0,
    }  # fmt: skip
    return pd.DataFrame([{**row, **columns}, {**row, "phase": "end", "calls": 1, "bytes": 8}])


def test_our_parquet_file_alone(tmp_path):
    path = tmp_path / "mpi_profile.9.0.parquet"
    write_table(frame(), path, MPI_CALLS)
    (made,) = parse(path)
    assert (made.tool, made.rank, made.size, made.job, made.totals, made.overhead_ns) == ("bnn", 0, 1, "9", None, 50.0)
    assert made.routines[0].bins[0].calls == made.routines[0].calls == 4
    assert made.routines[0].average_bytes == 7.0
    assert split(made, "steady").data == Part(3, 20, 0.5)


def test_our_parquet_file_damaged_or_of_another_run(tmp_path):
    path = tmp_path / "mpi_profile.9.0.parquet"
    for bad in (frame(calls=0), frame(rank=1), frame().iloc[:0]):
        write_table(bad, path, MPI_CALLS)
        with pytest.raises(UserError, match="not the calls of one rank"):
            parse(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a readable Parquet"):
        parse(path)


@pytest.mark.parametrize("routine", ["MPI_Barrier", "MPI_Ibarrier", "MPI_Wait", "MPI_Waitall", "MPI_Test", "MPI_Probe"])
def test_what_has_no_message_is_data_in_every_format(routine):
    """mpitrace prints 0 bytes, mpiP nothing, our interposer knows the routine."""
    assert kind_by_size(routine, 0.0) == kind_by_size(routine, None) == kind_of(call(routine)) == "data"
    assert kind_by_size("MPI_Allreduce", 0.0) == "control"
