"""A profile is whole or refused: cut anywhere, filtered, concise, with columns and parts that are not known.

`tests/data/mpi/mpi_profile.13113.*` are of IBM's mpitrace itself (PROFILE_BY_COMMUNICATOR, SAVE_ALL_TASKS), which
counted a small program on two ranks; the host's name is changed. The others are written by hand.
"""

import gzip
import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn.errors import UserError
from campaign.results.mpi import Profile, parse, split
from campaign.results.mpi.lines import half_unit

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "mpi").iterdir())
if "BNN_REFERENCE_DATA" in os.environ:
    SAMPLES += sorted((Path(os.environ["BNN_REFERENCE_DATA"]) / "mpi_profiles").iterdir())
SINCE_2021 = """Data for MPI rank 0 of 2:
Times from MPI_Init() to MPI_Finalize().
-----------------------------------------------------------------------
MPI Routine                        #calls     avg. bytes      time(sec)
-----------------------------------------------------------------------
MPI_Barrier                             2            0.0          0.250
MPI_Allreduce                          36         2011.1          1.500
-----------------------------------------------------------------------
MPI task 0 of 2 had the maximum communication time.
total communication time = 1.750 seconds.
total elapsed time       = 7.000 seconds.
user cpu time            = 6.000 seconds.
system time              = 0.250 seconds.
max resident set size    = 60.000 MiB.

total MPI-IO time = 0.125 seconds.

-----------------------------------------------------------------
Message size distributions:

MPI_Allreduce             #calls    avg. bytes      time(sec)
                              18           8.0          0.500
                              18        4014.3          1.000

-----------------------------------------------------------------
Profile by call stack, traceback level = 0, number of stacks = 1
-----------------------------------------------------------------
Use addr2line to map addresses to source file and line number.

For addresses in the executable file :
-----------------------------------------------------------------
\x20
time in MPI routines = 1.750 sec, call stack index = 0
   MPI Routine                  #calls        time(sec)
   MPI_Allreduce                    36           1.500

-----------------------------------------------------------------

Summary for all tasks:

  Rank 0 reported the largest memory utilization : 60.00 MiB
  Rank 0 reported the largest elapsed time : 7.00 sec

  minimum communication time = 1.000 sec for task 1
  median  communication time = 1.000 sec for task 1
  maximum communication time = 1.750 sec for task 0


MPI timing summary for all ranks:
taskid   host    cpu    comm(s)  elapsed(s)     user(s)   system(s)   size(MiB)    switches  energy(J)
     0  node1      0       1.75        7.00        6.00        0.25       60.00          12      900.0
     1  node1      1       1.00        7.00        6.00        0.25       59.00          13      890.0
"""


def told(profile: Profile) -> Profile:
    return replace(profile, file="", left=())


def read(folder: Path, name: str, data: bytes) -> list[Profile] | None:
    """The profiles of `data`, or None when it is refused in one line with file and line."""
    path = folder / name
    path.write_bytes(data)
    try:
        return [told(profile) for profile in parse(path)]
    except UserError as error:
        refusal = str(error)
    assert re.match(rf"{re.escape(str(path))}:[0-9]+: .", refusal)
    assert "\n" not in refusal
    return None


@pytest.mark.parametrize("sample", [*SAMPLES, None], ids=lambda path: path.name if path else "since-2021")
def test_cut_anywhere_it_is_refused_or_right(tmp_path, sample):
    data, name = (sample.read_bytes(), sample.name) if sample else (SINCE_2021.encode(), "mpi_profile.7.0")
    whole = read(tmp_path, name, data)
    assert whole
    ends = {match.end() for match in re.finditer(b"\n", data)}  # and within lines, most of all in the last ones
    ends |= set(range(0, len(data), 41)) | set(range(len(data) - 100, len(data)))
    for end in sorted(ends):
        cut = read(tmp_path, name, data[:end])
        assert cut is None or cut == whole, (end, data[:end][-80:])


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_line_ends_of_another_system_and_blanks_change_nothing(tmp_path, sample):
    data = sample.read_bytes()
    whole = read(tmp_path, sample.name, data)
    assert read(tmp_path, sample.name, data.replace(b"\n", b"  \r\n")) == whole
    assert read(tmp_path, sample.name, data.replace(b"0.0", b"0\0.0", 1).replace(b"MPI", b"M\0I", 1)) is None


def test_a_table_is_read_by_its_heads_and_other_parts_are_named(tmp_path):
    path = tmp_path / "mpi_profile.7.0"
    path.write_text(SINCE_2021)
    (profile,) = parse(path)
    assert [(t.rank, t.hostname, t.cpu, t.communication, t.switches) for t in profile.tasks] == [
        (0, "node1", 0, 1.75, 12), (1, "node1", 1, 1.0, 13),
    ]  # fmt: skip
    assert profile.left == ("total MPI-IO time", "Profile by call stack", "column energy(J) of all ranks")
    parts = split(profile)
    assert (parts.control.calls, parts.control.seconds) == (18, 0.5)
    assert (parts.data.calls, parts.data.seconds) == (20, 1.25)  # with the barriers


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("                              18        4014.3          1.000\n", "", "18 of its 36 calls"),
        ("        4014.3", "        4016.3", "bytes: the file is cut"),
        ("          0.500\n", "          0.503\n", "1.503 of its 1.5 seconds"),
        ("time = 1.750 seconds", "time = 1.760 seconds", "routines of 1.750 s in all"),
        ("          0.500\n", "          0.5\n", "other digits"),
        ("  median  communication time = 1.000 sec for task 1\n", "", "median"),
        ("4014.3", "4014,3", "not a line of message sizes"),
        ("4014.3", "******", "not a line of message sizes"),
    ],
)
def test_what_does_not_add_up_is_refused(tmp_path, old, new, words):
    path = tmp_path / "mpi_profile.7.0"
    assert old in SINCE_2021
    path.write_text(SINCE_2021.replace(old, new, 1))
    with pytest.raises(UserError, match=rf":[0-9]+: .*{re.escape(words)}"):
        parse(path)


@pytest.mark.parametrize(
    ("pack", "name"),
    [(gzip.compress, "gzip"), (lambda d: b"BZh9" + d, "bzip2"), (lambda d: b"\x28\xb5\x2f\xfd" + d, "zstd"),
     (lambda d: b"\xfd7zXZ\0" + d, "xz")],
)  # fmt: skip
def test_compressed_content_is_named_whatever_the_file_is_called(tmp_path, pack, name):
    path = tmp_path / "mpi_profile.7.0"
    path.write_bytes(pack(SINCE_2021.encode()))
    with pytest.raises(UserError, match=rf":1: compressed \({name}\)"):
        parse(path)


def mpip(ranks: int, drop: str = "", options: str = "[null]") -> str:
    """A report of `ranks` ranks that call a large and a small allreduce and a barrier, without the lines of `drop`."""
    sites = [("Allreduce", 1, 40, 100, 4.2e6), ("Allreduce", 2, 200, 0.2, 8), ("Barrier", 3, 5, 2, 0)]
    mpi = sum(count * mean for _, _, count, mean, _ in sites) / 1e3
    rule = "-" * 75
    lines = ["@ mpiP", f"@ MPIP env var             : {options}", "", rule, "@--- MPI Time (seconds) " + "-" * 51, rule]
    lines += ["Task    AppTime    MPITime     MPI%"]
    lines += [f"{rank:4d} {10:10.3g} {mpi:10.3g}    {10 * mpi:5.2f}" for rank in range(ranks)]
    lines += [f"   * {10 * ranks:10.3g} {mpi * ranks:10.3g}    {10 * mpi:5.2f}", rule]
    lines += [f"@--- Callsite Time statistics (all, milliseconds): {3 * ranks} ---", rule]
    lines += ["Name              Site Rank  Count      Max     Mean      Min   App%   MPI%"]
    for name, site, count, mean, _ in sites:
        row = f"{mean:8.3g} {mean:8.3g} {mean:8.3g} {1:6.2f} {1:6.2f}"
        lines += [f"{name:<17} {site:4d} {rank:4d} {count:6d} {row}" for rank in range(ranks)]
        lines += [f"{name:<17} {site:4d}    * {count * ranks:6d} {row}", ""]
    lines += [rule, "@--- Callsite Message Sent statistics (all, sent bytes) ---", rule]
    lines += ["Name              Site Rank   Count       Max      Mean       Min       Sum"]
    for name, site, count, _, size in sites[:2]:
        row = f"{size:9.4g} {size:9.4g} {size:9.4g}"
        lines += [f"{name:<17} {site:4d} {r:4d} {count:7d} {row} {count * size:9.4g}" for r in range(ranks)]
        lines += [f"{name:<17} {site:4d}    * {count * ranks:7d} {row} {count * size * ranks:9.4g}", ""]
    lines += [rule, "@--- End of Report " + "-" * 56, rule]
    return "".join(f"{line}\n" for line in lines if not (drop and re.match(drop, line)))


def test_a_report_that_is_whole_has_every_rank(tmp_path):
    path = tmp_path / "a.mpiP"
    path.write_text(mpip(64))
    profiles = parse(path)
    assert [p.rank for p in profiles] == list(range(64))
    parts = split(profiles[63])
    assert (parts.control.calls, parts.data.calls) == (200, 45)  # the barrier is data, as in mpitrace's format
    assert parts.control.seconds == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("drop", "words"),
    [
        ("Allreduce +2 +0 +200 +0.2", "200 of 490 calls and 0.5% of the MPI time"),
        ("Barrier +3 +[01] ", "10 of 490 calls and 0.2% of the MPI time"),
        ("Barrier ", "filtered"),
        ("Allreduce +2 +1 +200 +8 ", "the sizes of call site 2"),
        (r"Allreduce +2 +\* +400 +8 ", "the sizes of call site 2"),
        (r"   \* ", "no sum"),
        ("   1 ", "1 tasks add up to 10"),
    ],
)
def test_a_report_that_lacks_lines_is_refused(tmp_path, drop, words):
    path = tmp_path / "a.mpiP"
    path.write_text(mpip(2, drop))
    with pytest.raises(UserError, match=rf":[0-9]+: .*{re.escape(words)}"):
        parse(path)


def test_the_threshold_is_named_and_the_mend(tmp_path):
    path = tmp_path / "a.mpiP"
    path.write_text(mpip(2, r"(Allreduce|Barrier) +[23] +\d+ +\d+ +[0-9.]+ +[0-9.]+ +[0-9.]+ +1.00", "-t 10.0 -k 2"))
    with pytest.raises(UserError, match=r"filtered \(option -t 10\.0 of mpiP\).*run again with -t 0"):
        parse(path)


@pytest.mark.parametrize(
    ("options", "mend"),
    [("-c", "run again without -c"), ("-c -t 0", "without -c"), ("-v", r"other report of this run \(-v\)"),
     ("-k 2,-v", "other report"), ("-t0 -yv", "other report")],
)  # fmt: skip
def test_a_concise_report_says_what_to_do(tmp_path, options, mend):
    path = tmp_path / "a.mpiP"
    head = f"@ mpiP\n@ MPIP env var             : {options}\n\n"
    path.write_text(f"{head}{'-' * 75}\n@--- Task Time Statistics (seconds) ---\n{'-' * 75}\n")
    with pytest.raises(UserError, match=rf"concise report \(mpiP's option -c\).*{mend}"):
        parse(path)


def test_a_collective_report_that_lost_calls_says_what_to_do(tmp_path):
    path = tmp_path / "a.mpiP"
    report = mpip(2, r"Barrier +3 +1 ", "-l").replace("@ MPIP", "@ Report generation        : Collective\n@ MPIP", 1)
    assert report.count("*     10 ") == 1
    path.write_text(report.replace("*     10 ", "*      5 "))
    with pytest.raises(UserError, match=r"1 of 6 rows .*option -l.*run again without -l"):
        parse(path)


@pytest.mark.parametrize(
    ("printed", "significant", "half"),
    [("0.250", 0, 0.0005), ("2011.1", 0, 0.05), ("2.5", 3, 0.005), ("10", 3, 0.05), ("1.68e+08", 4, 5e4),
     ("3e+03", 3, 5.0), ("12.300", 3, 0.0005), ("0", 3, 0.0), ("0.000", 3, 0.0005), ("1600", 4, 0.5),
     ("0.0123", 3, 0.00005)],
)  # fmt: skip
def test_half_a_unit_of_the_last_digit(printed, significant, half):
    assert half_unit(printed, significant) == pytest.approx(half)


COUNTS = st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 2**20), st.floats(0, 50)), min_size=1, max_size=6)


@settings(max_examples=100)
@given(COUNTS)
def test_what_mpitrace_prints_of_any_run_is_read_and_without_a_size_refused(counts):
    """Numbers rounded as its %.1f and %.3f do (IBM mpitrace, src/mpitrace_common.c) always add up well enough."""
    calls, seconds = sum(c for c, _, _ in counts), sum(t for _, _, t in counts)
    average = sum(c * size for c, size, _ in counts) / calls
    text = (
        SINCE_2021[: SINCE_2021.index("MPI_Barrier")] + f"MPI_Allreduce {calls:12d} {average:11.1f} {seconds:12.3f}\n"
    )
    text += f"{'-' * 71}\ntotal communication time = {seconds:.3f} seconds.\ntotal elapsed time = 900.000 seconds.\n"
    text += "user cpu time = 1.000 seconds.\nsystem time = 1.000 seconds.\nmax resident set size = 1.000 MiB.\n\n"
    text += f"{'-' * 65}\nMessage size distributions:\n\nMPI_Allreduce #calls avg. bytes time(sec)\n"
    bins = [f"{c:32d} {size:11.1f} {t:12.3f}\n" for c, size, t in counts]
    with tempfile.TemporaryDirectory() as folder:
        (profile,) = read(Path(folder), "mpi_profile.1.0", (text + "".join(bins) + "\n").encode()) or [None]
        assert profile is not None
        assert [(b.calls, b.average_bytes) for b in profile.routines[0].bins] == [(c, size) for c, size, _ in counts]
        for at in range(len(bins)):
            less = text + "".join(bins[:at] + bins[at + 1 :]) + "\n"
            assert read(Path(folder), "mpi_profile.1.0", less.encode()) is None


# `tests/data/mpi/mpip_*` and `tests/data/mpip_not_whole/*` are reports of mpiP itself (LLNL/mpiP, commit 8ff38c3, with
# MPICH; options -e, -l, -t 10.0 and -v), made on one (mpip_e) and two ranks of one machine by a program that calls what
# CALLED says; paths and host names are changed.
CALLED = {
    "MPI_Allreduce": (127, 100 * 8 + 20 * 80_000 + 7 * 8), "MPI_Barrier": (3, None), "MPI_Bcast": (4, 4 * 4000),
    "MPI_Gather": (6, 6 * 12),
}  # fmt: skip
OF_RANK = (  # of two
    {"MPI_Send": (7, 7 * 40)},
    {"MPI_Recv": (7, None)},
)
NOT_WHOLE = Path(__file__).parents[1] / "data" / "mpip_not_whole"


@pytest.mark.parametrize("sample", sorted(SAMPLES[0].parent.glob("mpip_*.mpiP")), ids=lambda path: path.name)
def test_mpips_own_reports_say_what_the_program_called(sample):
    profiles = parse(sample)
    ranks = 1 if sample.stem == "mpip_e" else 2
    assert [profile.rank for profile in profiles] == list(range(ranks))
    for profile, own in zip(profiles, OF_RANK if ranks == 2 else ({},), strict=True):
        routines = {routine.name: routine for routine in profile.routines}
        for name, (calls, size) in {**CALLED, **own}.items():
            assert routines[name].calls == calls
            if size is not None:
                assert routines[name].average_bytes * calls == pytest.approx(size, rel=5e-4)
        seconds = sum(routine.seconds for routine in profile.routines)
        assert seconds == pytest.approx(profile.totals.communication, rel=6e-3, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "words"),
    [("threshold", r"filtered \(option -t 10\.0 of mpiP\): 94 of 294 calls and 0\.9% .*run again with -t 0"),
     ("concise", r"concise report .*read the other report of this run \(-v\)")],
)  # fmt: skip
def test_mpips_own_reports_that_are_not_whole_say_what_to_do(name, words):
    with pytest.raises(UserError, match=words):
        parse(NOT_WHOLE / f"{name}.mpiP")
