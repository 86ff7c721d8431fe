"""The interposer under real ranks: what it counts, against what was called and against Horovod's own timeline."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from bnn.mpi_trace import preload
from bnn.mpi_trace.build import build, compile_c, mpi_compiler
from bnn.mpi_trace.sidecar import to_parquet
from bnn.records import SUMMARY, Summary, read_table
from bnn.records.mpi import MPI_CALLS
from campaign.results.mpi import Profile, parse_all, split
from tests.support.ranks import BIN, environment, need_horovod, train_command

pytestmark = pytest.mark.mpi
CALLS_C = Path(__file__).parents[1] / "support" / "mpi_calls.c"


def under_profile(folder: Path) -> list[str]:
    build()
    return ["env", *(f"{name}={value}" for name, value in preload.environment(folder, "job.1").items())]


def collected(folder: Path) -> pd.DataFrame:
    return pd.concat(read_table(path, MPI_CALLS) for path in to_parquet(folder))


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    if not (BIN / "mpicc").exists():
        pytest.skip("no mpicc")
    path = tmp_path_factory.mktemp("program") / "mpi_calls"
    compile_c(mpi_compiler(), [CALLS_C], ("-std=gnu11", "-O1", "-pthread", "-Wall", "-Werror"), path)
    return path


def run_program(program: Path, folder: Path, *arguments: str) -> int:
    command = ["mpiexec", "-n", "2", *under_profile(folder), str(program), *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, timeout=120).returncode


def test_every_call_is_counted_with_its_bytes_operator_and_phase(program, tmp_path):
    assert run_program(program, tmp_path / "mpi") == 0
    frame = collected(tmp_path / "mpi")
    assert frame["finalized"].all()
    assert set(frame["size"]) == {2}
    assert set(frame["job"]) == {"job"}  # a job's number without the server's name
    assert (frame["overhead_ns"] > 0).all()
    assert frame["bytes"].between(frame["bytes_low"] * frame["calls"], frame["bytes_high"] * frame["calls"]).all()

    def found(routine: str, rank: int = 0) -> tuple[int, int]:
        rows = frame.query("routine == @routine and rank == @rank")
        return int(rows["calls"].sum()), int(rows["bytes"].sum())

    assert found("MPI_Comm_rank") == (1, 0)
    assert found("MPI_Comm_size") == (4 * 50_000 + 1, 0)  # four threads at once lose none
    steady = frame.query("phase == 'steady' and rank == 0").set_index(["operator", "datatype"])[["calls", "bytes"]]
    assert steady.apply(tuple, axis=1).to_dict() == {
        ("MPI_BAND", "MPI_LONG_LONG_INT"): (7, 56), ("MPI_SUM", "MPI_FLOAT"): (5, 160), ("other", "MPI_FLOAT"): (1, 0),
    }  # fmt: skip
    for routine, expected in {
        "Send": (1, 12), "Ssend": (1, 12), "Isend": (1, 12), "Wait": (1, 0), "Iprobe": (1, 0), "Sendrecv": (1, 8),
        "Sendrecv_replace": (1, 8), "Waitall": (2, 0), "Waitany": (1, 0), "Waitsome": (1, 0), "Test": (1, 0),
        "Testall": (1, 0), "Testany": (1, 0), "Testsome": (1, 0), "Barrier": (1, 0), "Bcast": (2, 24),
        "Reduce": (1, 16), "Scan": (1, 16), "Exscan": (1, 16), "Reduce_scatter": (1, 12),
        "Reduce_scatter_block": (1, 16), "Gather": (1, 12), "Gatherv": (1, 4), "Scatter": (1, 12), "Scatterv": (1, 4),
        "Allgather": (1, 12), "Allgatherv": (1, 4), "Alltoall": (1, 16), "Alltoallv": (1, 8), "Ibarrier": (1, 0),
        "Ibcast": (1, 16), "Ireduce": (1, 16), "Iallreduce": (1, 16), "Ireduce_scatter": (1, 8),
        "Ireduce_scatter_block": (1, 16), "Igather": (1, 12), "Igatherv": (1, 4), "Iscatter": (1, 12),
        "Iallgather": (1, 12), "Iallgatherv": (1, 4), "Ialltoall": (1, 16),
    }.items():  # fmt: skip
        assert found(f"MPI_{routine}") == expected, routine
    for routine, expected in {
        "Recv": (2, 24), "Irecv": (1, 32), "Probe": (1, 0), "Gather": (1, 12), "Gatherv": (1, 8), "Allgatherv": (1, 8),
        "Scatterv": (1, 8),
    }.items():  # fmt: skip
        assert found(f"MPI_{routine}", rank=1) == expected, routine
    assert set(frame.query("routine == 'MPI_Bcast'")["datatype"]) == {"MPI_FLOAT", "MPI_BYTE"}


def test_our_text_is_read_by_the_parser_and_agrees_with_the_table(program, tmp_path):
    assert run_program(program, tmp_path) == 0
    zero, one = parse_all(sorted(p for p in tmp_path.iterdir() if p.suffix != ".tsv"))
    assert [(p.tool, p.rank, p.job, len(p.tasks)) for p in (zero, one)] == [
        ("mpitrace", 0, "job", 2), ("mpitrace", 1, "job", 0),
    ]  # fmt: skip
    assert {e.kind for e in zero.extremes} == {"minimum", "median", "maximum"}
    to_parquet(tmp_path)
    both = parse_all(sorted(tmp_path.iterdir()))
    assert [(p.tool, p.rank, p.calls is not None) for p in both] == [("bnn", 0, True), ("bnn", 1, True)]
    for text, whole in zip((zero, one), both, strict=True):
        assert whole.totals == text.totals
        assert text.totals is not None
        assert text.totals.elapsed > 0  # less than the time in MPI, perhaps: that is a sum over threads
        assert text.totals.communication > 0
        assert [(r.name, r.calls) for r in whole.routines] == [(r.name, r.calls) for r in text.routines]
        for routine in text.routines:
            assert not routine.bins or sum(b.calls for b in routine.bins) == routine.calls
    assert split(both[0], "steady").control.calls == 7


def test_a_rank_that_exits_without_finalize_still_leaves_its_counts(program, tmp_path):
    assert run_program(program, tmp_path, "exit") == 3
    profiles = parse_all(p for p in sorted(tmp_path.iterdir()) if p.suffix != ".tsv")
    assert profiles
    assert {p.window for p in profiles} == {"Times and statistics from MPI_Init() to exit without MPI_Finalize()."}
    tables = sorted(tmp_path.glob("*.tsv"))
    assert len(tables) == len(profiles)
    assert all("finalized\t0" in table.read_text() for table in tables)


def test_children_and_programs_without_mpi_leave_nothing(tmp_path):
    environment = {**os.environ, **preload.environment(tmp_path / "mpi")}
    subprocess.run(["true"], env=environment, check=True)
    assert not (tmp_path / "mpi").exists()


def test_python_marks_the_interposers_phases(tmp_path):
    build()
    variables = {**environment(), **preload.environment(tmp_path)}
    code = "from bnn.mpi_trace import mark; print(mark('steady'), mark('end'), mark('end'))"
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    assert done.stdout.split() == ["startup", "steady", "end"], done.stderr


def profiled_training(folder: Path, ranks: int, **settings) -> tuple[list[Profile], Summary]:
    folder.mkdir(exist_ok=True)
    command = train_command(folder / "cell", ranks, {"engine": "horovod", **settings})
    at = command.index(str(BIN / "bnn"))
    command[at:at] = under_profile(folder / "mpi")
    variables = {**environment(), "HOROVOD_TIMELINE": str(folder / "timeline.json")}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    to_parquet(folder / "mpi")
    summary = Summary.model_validate_json((folder / "cell" / SUMMARY).read_text())
    return parse_all(sorted((folder / "mpi").glob("*.parquet"))), summary


def allreduced(profile: Profile) -> tuple[int, int]:
    """Calls and bytes of all data allreduces."""
    rows = [c for c in profile.calls or () if c.routine == "MPI_Allreduce" and c.operator == "MPI_SUM"]
    return sum(c.calls for c in rows), sum(c.bytes for c in rows)


def is_whole(timeline: Path) -> bool:
    """Whether the timeline holds the last operation: Horovod's writer may not have come to it when the run ends."""
    text = timeline.read_text()
    name = re.search(r'"pid": (\d+), "args": {"name": "allgather.barrier.published"', text)
    return name is not None and re.search(rf'"MPI_ALLGATHER", "ts": \d+, "pid": {name[1]}}}', text) is not None


def timeline_counts(path: Path) -> dict[str, int]:
    """How many operations of each kind Horovod's timeline shows: a fused one is a run of begins, one per tensor."""
    text = path.read_text().rstrip().rstrip(",")
    events = [e for e in json.loads(text if text.endswith("]") else text + "]") if e["ph"] in "BE"]
    names = [e.get("name", "end") for e in events]
    return {
        kind: sum(b == kind and a != kind for a, b in pairwise(["", *names]))
        for kind in ("MPI_ALLREDUCE", "MPI_BCAST", "MPI_ALLGATHER")
    }


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "kind"), [(2, "bnn"), (2, "cnn"), (4, "bnn")])
def test_data_per_step_is_the_trainable_parameters_and_counts_are_horovods_own(tmp_path, ranks, kind):
    """4 bytes per trainable parameter and step on every rank; BatchNorm's running statistics once, at the end."""
    need_horovod()
    steps = 5
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        profiles, summary = profiled_training(folder, ranks, kind=kind, max_steps=steps, save_posterior=False)
        if is_whole(folder / "timeline.json"):
            break
    assert summary.steps == steps
    # running means and variances are all the parameters that are not trained
    statistics = summary.parameters_total - summary.parameters_trainable
    assert statistics > 0
    assert len(profiles) == ranks
    assert summary.gradient_bytes_per_step == 4 * summary.parameters_trainable
    for profile in profiles:
        assert allreduced(profile)[1] == 4 * (steps * summary.parameters_trainable + statistics)
    shown = timeline_counts(folder / "timeline.json")
    rows = profiles[0].calls or ()
    fixed_width = [c for c in rows if not re.fullmatch("MPI_(BYTE|INT)", c.datatype)]
    counted = {
        "MPI_ALLREDUCE": allreduced(profiles[0])[0],
        "MPI_BCAST": sum(c.calls for c in fixed_width if c.routine == "MPI_Bcast"),
        "MPI_ALLGATHER": sum(c.calls for c in fixed_width if c.routine == "MPI_Allgatherv"),
    }
    assert counted == shown


@pytest.mark.parametrize("kind", ["bnn", "cnn"])
def test_without_fusion_mpi_sees_the_gradients_messages_one_by_one(tmp_path, kind):
    need_horovod()
    profiles, summary = profiled_training(
        tmp_path, 2, kind=kind, max_steps=6, warmup_steps=2, save_posterior=False, gradient_block_mb=0.05,
        fusion_buffer_mb=0.0,
    )  # fmt: skip
    assert 1 < summary.gradient_messages_per_step < 20
    for profile in profiles:
        steady = [
            c for c in profile.calls or ()
            if (c.routine, c.operator, c.phase) == ("MPI_Allreduce", "MPI_SUM", "steady")
        ]  # fmt: skip
        assert sum(c.calls for c in steady) == 4 * summary.gradient_messages_per_step
        assert sum(c.bytes for c in steady) == 4 * summary.gradient_bytes_per_step
