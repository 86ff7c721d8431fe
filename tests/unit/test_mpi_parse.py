"""MPI profiles: every variant read, everything else refused with file and line."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from bnn.errors import UserError
from campaign.results.mpi import Profile, Totals, parse, parse_all, profile_json
from campaign.results.mpi.profile import Extreme, SizeBin, Task
from campaign.results.mpi.show import show

SAMPLES = Path(__file__).parents[1] / "data" / "mpi"
THETA = SAMPLES / "mpi_profile.4711.1"
NEWER = SAMPLES / "mpi_profile.12.20300102030405.0"
OLDER = SAMPLES / "mpi_profile.0"
MPIP = SAMPLES / "program.2.4242.1.mpiP"


def only(path: Path) -> Profile:
    (profile,) = parse(path)
    return profile


def test_the_version_of_the_papers_machine():
    profile = only(THETA)
    assert (profile.tool, profile.rank, profile.size, profile.job) == ("mpitrace", 1, 3, "4711")
    assert profile.window == "Times and statistics from MPI_Init() to MPI_Finalize()."
    rows = {r.name: (r.calls, r.average_bytes, r.seconds) for r in profile.routines}
    assert rows == {
        "MPI_Comm_rank": (2, 0.0, 0.0), "MPI_Bcast": (3, 132.0, 0.011), "MPI_Allreduce": (107, 1049.4, 2.125),
        "MPI_Gatherv": (4, 0.0, 0.002),
    }  # fmt: skip
    bins = {r.name: r.bins for r in profile.routines}
    assert bins["MPI_Allreduce"] == (SizeBin(100, 8.0, 2.0), SizeBin(7, 15927.0, 0.125))
    assert bins["MPI_Gatherv"] == ()
    assert profile.totals == Totals(2.138, 10.25, 9.5, 0.125, int(100.5 * 2**20))
    assert profile.extremes == (Extreme("median", 1, None),)
    assert profile.tasks == ()


def test_a_newer_version_has_mebibytes_cpus_and_a_histogram():
    profile = only(NEWER)
    assert (profile.rank, profile.size, profile.job) == (0, 2, "12")
    assert profile.window == "Times from MPI_Init() to MPI_Finalize()."
    assert profile.totals == Totals(1.0, 4.0, 3.75, 0.05, int(2.5 * 2**20))
    assert profile.extremes == (Extreme("minimum", 0, 1.0), Extreme("median", 0, 1.0), Extreme("maximum", 1, 1.5))
    assert profile.tasks == (
        Task(0, "node-a1", 4, 1.0, 4.0, 3.75, 0.05, int(2.5 * 2**20), 77),
        Task(1, "node-a2", 12, 1.5, 4.01, 3.25, 0.06, int(2.75 * 2**20), 88),
    )


def test_an_older_version_has_kilobytes_no_hosts_and_no_job():
    profile = only(OLDER)
    assert (profile.rank, profile.size, profile.job) == (0, 2, None)
    assert profile.totals == Totals(0.5, 2.0, 1.75, 0.0, 20480 * 1024)
    assert [t.rank for t in profile.tasks] == [1, 0]
    assert profile.tasks[0] == Task(
        1, communication=0.25, elapsed=2.0, user=1.5, memory_bytes=19456 * 1024, switches=31
    )


def test_an_mpip_report_holds_every_rank():
    zero, one = parse(MPIP)
    assert [(p.tool, p.rank, p.size) for p in (zero, one)] == [("mpiP", 0, 2), ("mpiP", 1, 2)]
    assert (zero.totals, one.totals) == (Totals(2.5, 10.0), Totals(1.25, 10.0))
    reduce, barrier = zero.routines
    assert (reduce.name, reduce.calls, barrier.name, barrier.calls) == ("MPI_Allreduce", 220, "MPI_Barrier", 1)
    assert reduce.seconds == pytest.approx(200 * 0.010 + 20 * 0.0235)
    assert reduce.average_bytes == pytest.approx((1600 + 81920) / 220)
    assert barrier.average_bytes is None  # mpiP measures no size there
    assert [(b.calls, b.average_bytes) for b in reduce.bins] == [(200, 8.0), (20, 4096.0)]


def test_json_has_the_split_and_both_efficiencies():
    (entry,) = profile_json([THETA])
    assert json.loads(json.dumps(entry)) == json.loads(json.dumps({**entry, **asdict(only(THETA))}))
    assert entry["split"]["control"] == {"calls": 104, "bytes": 800.0, "seconds": 2.002}
    assert entry["split"]["data"]["calls"] == 10
    assert entry["split"]["data"]["bytes"] == 2 * 48 + 300 + 7 * 15927
    assert entry["communication_efficiency"]["paper"] == pytest.approx(2.138 / 10.25)
    assert entry["communication_efficiency"]["control"] == pytest.approx(2.002 / 10.25)


def test_a_file_named_twice_is_one_profile():
    assert len(parse_all([THETA, NEWER, THETA])) == 2


def test_the_table_says_what_was_not_measured():
    console = Console(width=100, record=True)
    show(parse(MPIP), console)
    text = console.export_text()
    assert re.search(r"MPI_Barrier .* 1 .* not measured .* 0.030", text)
    assert re.search(r"control .* 200 .* 8.0 .* 2.000", text)
    assert "0.250 (the paper's communication efficiency)" in text


@pytest.mark.parametrize(
    ("sample", "old", "new", "later", "words"),
    [
        (THETA, "Data for MPI rank 1 of 3:", "Data for MPI rank 3 of 3:", 0, "rank 3 of 3"),
        (THETA, "Data for MPI rank 1 of 3:", "Data for MPI rank 0 of 3:", 0, "named after rank 1"),
        (THETA, "    107  ", "   10 7  ", 0, "not a routine's row"),
        (THETA, "1049.4", "nan   ", 0, "not a routine's row"),
        (THETA, "107 ", "-107 ", 0, "not a routine's row"),
        (THETA, "MPI_Gatherv  ", "MPI_Bcast    ", 0, "not a routine's row"),
        (THETA, "MPI task 1 of 3", "MPI task 2 of 3", 0, "speaks of rank 2"),
        (THETA, "total elapsed", "total collapsed", 0, "not a line of totals"),
        (THETA, "MBytes.", "GBytes.", 0, "not a line of totals"),
        (THETA, "max resident set size    = 100.500 MBytes.\n", "", 5, "no line has said the memory bytes"),
        (THETA, "MPI_Bcast                 #calls", "MPI_Reduce                #calls", 0, "does not have"),
        (THETA, "                             100 ", "                             101 ", 1, "more calls by size"),
        (THETA, "8.0          2.000", "８.0          2.000", 0, "not a line of message sizes"),
        (NEWER, "switches", "swatches", 0, "heads of the table"),
        (NEWER, "1.50        4.01", "1.50 x      4.01", 0, "10 columns under 9 heads"),
        (NEWER, "     1            node-a2", "     0            node-a2", 0, "comes a second time"),
        (NEWER, "4.01        3.25", "4.01        3,25", 0, "user: not a number"),
        (OLDER, "maximum communication time = 0.500 sec for task 0", "maximum communication time = 0.5 sec for task 2",
         0, "no such task"),
        (MPIP, "   1         10", "   2         10", 0, "not the times of task 1"),
        (MPIP, "@--- Callsites: 3", "@--- Callsights: 3", 0, "unknown part"),
        (MPIP, "Allreduce            1    1    200       25", "Allreduce            1    7    200       25", 0,
         "unknown task"),
        (MPIP, "@--- End of Report", "@--- Callsites: x", 1, "cut short"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(tmp_path, sample, old, new, later, words):
    """`later`: how many lines after the edit the fault shows."""
    text = sample.read_text()
    line = text[: text.index(old)].count("\n") + 1 + later
    path = tmp_path / sample.name
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))}:{line}: .*{re.escape(words)}"):
        parse(path)


def test_what_is_no_profile_at_all(tmp_path):
    (tmp_path / "empty").write_text("")
    (tmp_path / "bytes").write_bytes(b"Data\n\xff\xfe")
    (tmp_path / "mpi_profile.1.0.tsv").write_text("bnn_mpi_trace\t1\n")
    for name, words in [
        ("empty", r":1: the file ends before"),
        ("bytes", r":2: not text"),
        ("missing", r"No such file"),
        ("mpi_profile.1.0.tsv", r"not yet collected"),
    ]:
        with pytest.raises(UserError, match=words):
            parse(tmp_path / name)
    with pytest.raises(UserError, match="Is a directory"):
        parse(tmp_path)


def test_the_papers_own_profiles(reference_data):
    folder = reference_data / "mpi_profiles"
    profiles = {p.file.rsplit("/", 1)[1]: p for p in parse_all(sorted(folder.iterdir()))}
    assert sorted(profiles) == ["mpi_profile.108902.0", "mpi_profile.108902.1", "mpi_profile.241298.0"]
    zero = profiles["mpi_profile.108902.0"]
    assert (zero.rank, zero.size, zero.job) == (0, 2, "108902")
    assert zero.totals == Totals(8.940, 44.219, 487.188, 428.972, round(1280.871 * 2**20))
    assert [t.hostname for t in zero.tasks] == ["nid00002", "nid00001"]
    assert [e.rank for e in zero.extremes] == [1, 1, 0]
    reduce = next(r for r in zero.routines if r.name == "MPI_Allreduce")
    assert (reduce.calls, reduce.average_bytes, reduce.seconds, len(reduce.bins)) == (9469, 13600.4, 8.881, 5)
    # gradients of 250 steps, 4 messages each; all other allreduces are 8 bytes of Horovod's negotiation
    (entry,) = profile_json([folder / "mpi_profile.108902.0"])
    assert sum(b.calls for b in reduce.bins[1:]) == 4 * 250
    assert entry["split"]["control"]["seconds"] / reduce.seconds == pytest.approx(8.620 / 8.881)
    assert profiles["mpi_profile.241298.0"].size == 1
