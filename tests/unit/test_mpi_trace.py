"""The Python side of the interposer: what is built, preloaded, collected."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from bnn.mpi_trace import build, mark
from bnn.mpi_trace.preload import environment
from bnn.mpi_trace.sidecar import read_sidecar, to_parquet
from bnn.records import read_table
from bnn.records.mpi import MPI_CALLS, PHASES

TABLE = """bnn_mpi_trace\t1
job\t77
rank\t{rank}
size\t2
finalized\t1
lost\t0
overhead_ns\t48.5
phase\t0\t1.500000000
phase\t2\t20.000000000
calls\t0\tMPI_Comm_rank\t\t\t0\t0\t5\t0\t900
calls\t2\tMPI_Allreduce\tMPI_SUM\tMPI_FLOAT\t1025\t2048\t10\t20000\t3000000000
end\t2
"""


def leave(folder: Path, rank: int, text: str = TABLE) -> Path:
    path = folder / f"mpi_profile.77.{rank}.tsv"
    path.write_text(text.format(rank=rank))
    return path


def test_tables_become_parquet_once(tmp_path):
    leave(tmp_path, 0), leave(tmp_path, 1)
    paths = to_parquet(tmp_path)
    assert [p.name for p in paths] == ["mpi_profile.77.0.parquet", "mpi_profile.77.1.parquet"]
    assert sorted(tmp_path.iterdir()) == paths  # the tables are gone
    frame = read_table(paths[1], MPI_CALLS)
    assert frame["rank"].tolist() == [1, 1]
    assert frame["phase"].tolist() == ["startup", "steady"]
    assert frame["phase_seconds"].tolist() == [1.5, 20.0]
    assert frame["seconds"].tolist() == [9e-7, 3.0]
    assert frame.loc[1, ["operator", "datatype", "bytes_low", "bytes_high", "calls", "bytes"]].tolist() == [
        "MPI_SUM", "MPI_FLOAT", 1025, 2048, 10, 20000,
    ]  # fmt: skip
    assert to_parquet(tmp_path) == paths


def test_a_missing_rank_is_named(tmp_path):
    leave(tmp_path, 0)
    with pytest.raises(UserError, match=r"mpi_profile\.77\.1: the profile of rank 1 of 2 is missing"):
        to_parquet(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("bnn_mpi_trace\t1", "bnn_mpi_trace\t2", ":1: not a line"),
        ("end\t2\n", "", ": the MPI profile is cut short"),
        ("end\t2\n", "end\t3\n", ":12: not a line"),
        ("end\t2\n", "end\t2\nend\t2\n", ":13: not a line"),
        ("lost\t0", "lost\t4", ": 4 MPI calls were not counted"),
        ("calls\t2", "calls\t8", ":11: not a line"),
        ("\t20000\t", "\t2e4\t", ":11: not a line"),
        ("size\t2\n", "size\t2\nsize\t3\n", ":5: not a line"),
        ("size\t2\n", "", ": the MPI profile is cut short"),
    ],
)
def test_a_damaged_table_is_refused_and_kept(tmp_path, old, new, words):
    assert TABLE.count(old) == 1
    path = leave(tmp_path, 0, TABLE.replace(old, new))
    with pytest.raises(UserError, match=words):
        to_parquet(tmp_path)
    assert path.exists()


@given(st.integers(0, len(TABLE) - 1), st.binary(max_size=2))
def test_any_damage_is_refused_or_harmless(tmp_path_factory, at, piece):
    path = tmp_path_factory.mktemp("fuzz") / "mpi_profile.77.0.tsv"
    data = TABLE.format(rank=0).encode()
    path.write_bytes(data[:at] + piece + data[at + 1 :])
    try:
        frame = read_sidecar(path)
    except UserError:
        return
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == 2


def test_marks_are_nothing_without_the_interposer():
    assert {mark(phase) for phase in PHASES} == {None}
    with pytest.raises(ValueError, match="not in tuple"):
        mark("lunch")


def test_no_library_no_profile(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(UserError, match=r"not built: run python -m bnn\.mpi_trace\.build"):
        environment(tmp_path)
    library = build.library_path()
    library.parent.mkdir(parents=True)
    library.write_bytes(b"")
    library.with_suffix(".key").write_text("of another source\nand MPI\n")
    with pytest.raises(UserError, match=r"older than its source: run python -m bnn\.mpi_trace\.build"):
        build.library()
    library.with_suffix(".key").write_text(f"{build._source_hash()}\nand MPI\n")
    values = environment(Path("mpi"), "12")
    assert values == {
        "LD_PRELOAD": str(library), "BNN_MPI_TRACE_DIR": str(Path.cwd() / "mpi"), "BNN_MPI_TRACE_JOBID": "12",
    }  # fmt: skip


def test_a_path_that_cannot_be_preloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "library_path", lambda: tmp_path / "two words" / "lib.so")
    (tmp_path / "two words").mkdir()
    (tmp_path / "two words" / "lib.so").write_bytes(b"")
    (tmp_path / "two words" / "lib.key").write_text(build._source_hash())
    for use in (build.build, lambda: environment(tmp_path)):
        with pytest.raises(UserError, match="cannot be profiled from a path with spaces"):
            use()


def test_no_compiler_no_library(tmp_path, monkeypatch):
    monkeypatch.setenv("BNN_MPICC", str(tmp_path / "mpicc"))
    with pytest.raises(UserError, match="not an MPI compiler wrapper"):
        build.build()


def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    wrapper = tmp_path / "mpicc"
    wrapper.write_text("#!/bin/sh\necho 'counters.c:1: error: no space left' >&2\nexit 1\n")
    wrapper.chmod(0o755)
    monkeypatch.setenv("BNN_MPICC", str(wrapper))
    with pytest.raises(UserError, match=r"cannot build libbnn_mpi_trace\.so: counters\.c:1: error: no space left"):
        build.build()
    assert list((tmp_path / "lib" / "bnn").iterdir()) == []
