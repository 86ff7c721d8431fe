"""MPI tables from handmade profiles, and what is said where there is none."""

import math
import shutil
from pathlib import Path

import pandas as pd
import pytest

from bnn.records import STEPS, STEPS_FILE, read_table
from bnn.records.files import MPI, MPI_ASIDE, MPI_NOT_RECORDED, TIMELINE
from campaign.names.cell import Cell
from campaign.results.tables.build import build_tables
from tests.support.cells import entry, plan, write_cell, write_profiles
from tests.unit.test_mpi_whole import SINCE_2021

REAL = """Data for MPI rank 0 of 2:
Times and statistics from MPI_Init() to MPI_Finalize().
-----------------------------------------------------------------
MPI Routine                        #calls     avg. bytes      time(sec)
-----------------------------------------------------------------
MPI_Allreduce                        1010      1000.0          2.000
-----------------------------------------------------------------
total communication time = 2.000 seconds.
total elapsed time       = 10.000 seconds.
user cpu time            = 10.000 seconds.
system time              = 0.100 seconds.
max resident set size    = 100.0 MiB.

-----------------------------------------------------------------
Message size distributions:

MPI_Allreduce             #calls    avg. bytes      time(sec)
                            1000         8.0          1.500
                              10    100200.0          0.500

"""


def folder(results: Path, cell: dict) -> Path:
    return results / Cell(**{key: cell[key] for key in Cell.__dataclass_fields__}).folder


def build(results: Path, cell: dict) -> dict[str, pd.DataFrame]:
    return build_tables(plan([cell]), results)


def test_calls_by_rank_phase_and_size(tmp_path):
    cell = entry(nodes=2)
    write_cell(tmp_path, cell, seconds=0.5, jitter=0)
    tables = build(tmp_path, cell)
    assert tables["cells"].loc[0, "mpi"] == "recorded"
    table = tables["mpi"]
    assert sorted(table["rank"].unique()) == [0, 1]
    row = table.query("rank == 1 and phase == 'steady' and carries == 'data'")
    assert row[["routine", "operator", "calls", "phase_steps", "bytes_high"]].to_numpy().tolist() == [
        ["MPI_Allreduce", "MPI_SUM", 10, 10, 4 * 18_823_178]
    ]
    assert row["phase_seconds"].to_list() == pytest.approx([5.0])
    control = table.query("rank == 0 and phase == 'steady' and carries == 'control'").iloc[0]
    assert control["calls"] / control["phase_seconds"] == pytest.approx(100)


def test_gradients_are_checked_against_the_model(tmp_path):
    cell = entry(nodes=2)
    write_cell(tmp_path, cell, seconds=0.5, jitter=0)
    ranks = build(tmp_path, cell)["mpi_ranks"]
    assert ranks["gradient_check"].to_list() == ["exact", "exact"]
    assert ranks["gradient_ratio"].to_list() == [1.0, 1.0]
    assert ranks["gradient_bytes_per_step"].to_list() == [4 * 18_823_178] * 2
    assert ranks["cycle_rate"].to_list() == [200.0, 200.0]
    assert ranks["metric_exchanges"].to_list() == [1.0, 1.0]
    first = ranks.iloc[0]
    # 12 gradients of a millisecond each and two allgathers, in 2 x 2 s + 10 x 0.5 s of steps and 4 s besides
    assert first["data_seconds"] == pytest.approx(0.014)
    assert first["data_fraction"] == pytest.approx(0.014 / 13)
    assert first["mpi_fraction"] == pytest.approx(first["mpi_seconds"] / 13)
    assert first["control_rate"] == pytest.approx(900 / 13)
    assert first["overhead_fraction"] == pytest.approx(first["calls"] * 50e-9 / 13)


def test_one_byte_too_many_differs(tmp_path):
    cell = entry(nodes=2)
    write_cell(tmp_path, cell)
    place = folder(tmp_path, cell)
    shutil.rmtree(place / MPI)
    steps = read_table(place / STEPS_FILE, STEPS)
    write_profiles(place / MPI, 2, steps, 18_823_178, bytes=10 * 4 * 18_823_178 + 1)
    ranks = build(tmp_path, cell)["mpi_ranks"]
    assert ranks["gradient_check"].to_list() == ["differs", "exact"]


def test_one_rank_exchanges_nothing(tmp_path):
    cell = entry(nodes=1)
    write_cell(tmp_path, cell)
    row = build(tmp_path, cell)["mpi_ranks"].iloc[0]
    assert (row["gradient_check"], row["gradient_bytes_per_step"]) == ("no exchange", 0)
    assert math.isnan(row["gradient_ratio"])


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ({"engine": "torch"}, "not measurable: engine torch does not exchange gradients through MPI"),
        ({}, "not recorded: the cell ran without a profiler"),
    ],
)
def test_no_profile_has_a_reason(tmp_path, settings, state):
    cell = entry(nodes=2, **settings)
    write_cell(tmp_path, cell, profiled=False)
    tables = build(tmp_path, cell)
    assert tables["cells"].loc[0, "mpi"] == state
    assert tables["mpi"].empty
    assert tables["mpi_ranks"].empty


def test_profiles_that_are_not_gathered_yet_are_not_denied(tmp_path):
    cell = entry()
    write_cell(tmp_path, cell, profiled=False)
    (folder(tmp_path, cell) / MPI_ASIDE).mkdir()
    assert "about to gather its profiles" in build(tmp_path, cell)["cells"].loc[0, "mpi"]


def test_the_jobs_own_reason_is_told(tmp_path):
    cell = entry()
    write_cell(tmp_path, cell, profiled=False)
    place = folder(tmp_path, cell) / MPI
    place.mkdir()
    (place / MPI_NOT_RECORDED).write_text("the interposer\nis not built\n")
    (place / TIMELINE).write_text("[]")
    row = build(tmp_path, cell)["cells"].iloc[0]
    assert row["mpi"] == "not recorded: the interposer is not built"
    assert row["mpi_timeline"] == f"{cell['site']}/{'/'.join((place / TIMELINE).relative_to(tmp_path).parts[1:])}"


def test_nccl_traffic_is_not_measurable(tmp_path):
    cell = entry(nodes=2, device="cuda")
    write_cell(tmp_path, cell)
    row = build(tmp_path, cell)["mpi_ranks"].iloc[0]
    assert row["gradient_check"] == "not measurable: NCCL's traffic does not go through MPI"
    assert math.isnan(row["data_seconds"])
    assert math.isnan(row["data_fraction"])
    assert row["control_seconds"] > 0


def test_a_foreign_profile_is_told_apart_by_size(tmp_path):
    cell = entry(nodes=2)
    write_cell(tmp_path, cell, profiled=False)
    place = folder(tmp_path, cell) / MPI
    place.mkdir()
    (place / "mpi_profile.42.0").write_text(REAL)
    tables = build(tmp_path, cell)
    assert tables["mpi"][["carries", "rule", "calls", "phase"]].to_numpy().tolist() == [
        ["control", "size", 1000, ""], ["data", "size", 10, ""],
    ]  # fmt: skip
    assert tables["mpi"]["bytes"].to_list() == [8000, 1_002_000]
    row = tables["mpi_ranks"].iloc[0]
    assert row["gradient_check"] == "not measurable: a profile of mpitrace does not tell training apart"
    assert (row["control_rate"], row["mpi_fraction"], row["data_fraction"]) == pytest.approx((100, 0.2, 0.05))


def test_profiles_of_two_jobs_are_not_mixed(tmp_path):
    cell = entry()
    write_cell(tmp_path, cell, profiled=False)
    place = folder(tmp_path, cell) / MPI
    place.mkdir()
    for job in ("42", "43"):
        (place / f"mpi_profile.{job}.0").write_text(REAL)
    state = build(tmp_path, cell)["cells"].loc[0, "mpi"]
    assert state == f"not readable: {place}: holds the MPI profiles of several jobs"


def test_a_damaged_profile_is_named_and_the_cell_stands(tmp_path):
    cell = entry()
    write_cell(tmp_path, cell, profiled=False)
    place = folder(tmp_path, cell) / MPI
    place.mkdir()
    (place / "mpi_profile.42.0").write_text(REAL.replace("1010", "ten"))
    tables = build(tmp_path, cell)
    row = tables["cells"].iloc[0]
    assert row["mpi"].startswith(f"not readable: {place / 'mpi_profile.42.0'}:6: ")
    assert row["verdict"] == "OK"
    assert tables["mpi"].empty


def test_one_unreadable_rank_is_named_and_the_others_are_kept(tmp_path):
    """The site's own mpitrace, rank 0 of a version with `host` and `cpu`, rank 1 cut after the table of routines."""
    cell = entry(nodes=2)
    write_cell(tmp_path, cell, profiled=False)
    place = folder(tmp_path, cell) / MPI
    place.mkdir()
    (place / "mpi_profile.7.0").write_text(SINCE_2021)
    (place / "mpi_profile.7.1").write_text("\n".join(REAL.replace("rank 0", "rank 1").splitlines()[:16]) + "\n")
    tables = build(tmp_path, cell)
    state = tables["cells"].loc[0, "mpi"]
    assert state.startswith(f"recorded, without {place / 'mpi_profile.7.1'}:16: the sizes of MPI_Allreduce")
    assert tables["mpi_ranks"][["rank", "control_seconds", "data_seconds"]].to_numpy().tolist() == [[0, 0.5, 1.25]]
