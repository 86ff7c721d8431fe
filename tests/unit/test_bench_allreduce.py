"""Which allreduces are timed, in what order, and the file that is kept of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bnn.bench.allreduce.measure import MOST_CALLS, Plan, Time, measure, nodes_of, powers, rank_counts
from bnn.bench.allreduce.ranks import Ranks
from bnn.bench.allreduce.record import COLUMNS, AllreduceHeader, header_path, kept_rows, write
from bnn.cli import cli
from bnn.errors import UserError
from campaign.results.projection.read import read_curves


class Pretended(Ranks):
    """Ranks whose allreduce takes 10 us and 1 ns per byte on each rank; the second measurement takes 2% longer."""

    library, version, rank, groups = "mpi", "pretended", 0, True

    def __init__(self, hosts: list[str], wrong: int = 0) -> None:
        self.hosts, self.count, self.wrong, self.asked = hosts, 0, wrong, []
        self.beside: list[int] = []

    def choose(self, ranks: int) -> None:
        self.count = ranks

    def right(self, count: int) -> bool:
        return count * 4 != self.wrong

    def seconds(self, count: int, calls: int) -> float:
        self.asked.append((self.count, count * 4, calls))
        return 1e-5 + 4e-9 * count * self.count

    def left(self, count: int, calls: int, alone: float) -> float:
        self.beside.append(count * 4)
        return 1.02 if count == 1 else 0.5

    def close(self) -> None: ...


def header(**changes: object) -> AllreduceHeader:
    facts = {
        "node": "a node", "library": "mpi", "version": "v", "hosts": ["a", "a", "b", "b"], "cpu_model": "cpu",
        "cores": 2, "device": "cpu", "cycle_time_ms": None, "rounds": 3, "seed": 0, "worst_control": 1.0,
        "command": ["bnn"], "started_at": 0.0, "stopped_at": 1.0, "git_revision": None, "git_dirty": None,
    }  # fmt: skip
    return AllreduceHeader(**{**facts, **changes})


def times(*counts: int) -> list[Time]:
    return [Time(count // 2, count, size, 1e-5 * count, 9e-6, 1.1e-5, 1.0, 3) for count in counts for size in (4, 8)]


def test_what_is_left_to_computing_is_measured_where_it_is_asked_for(tmp_path: Path) -> None:
    ranks = Pretended(["a", "b", "a", "b"])
    plain = measure(ranks, Plan((4, 8), rounds=3), lambda text, done: None)
    assert {time.computing for time in plain} == {None}
    assert not ranks.beside
    found = measure(ranks, Plan((4, 8), rounds=3, computing=True), lambda text, done: None)
    assert {(time.bytes, time.computing) for time in found} == {(4, 1.0), (8, 0.5)}, "never faster than without"
    assert sorted(ranks.beside) == [4] * 6 + [8] * 6
    write(tmp_path / "times.csv", header(), found)
    (curve,) = read_curves(tmp_path / "times.csv")
    assert curve.computing is not None
    assert curve.computing.tolist() == [[1.0, 0.5]] * 2
    write(tmp_path / "times.csv", header(), plain[:2])
    assert read_curves(tmp_path / "times.csv")[0].computing is None, "of one scale alone it says nothing"


def test_rows_of_a_file_without_it_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "times.csv"
    write(out, header(node="other"), times(2, 4))
    lines = [line.rpartition(",")[0] for line in out.read_text().splitlines()]
    out.write_text("\n".join([*lines, ""]))
    write(out, header(), times(2, 4))
    assert [curve.node for curve in read_curves(out)] == ["a node", "other"]
    assert len(out.read_text().splitlines()) == 1 + 8


def test_an_engine_does_not_say_what_is_left_to_computing(tmp_path: Path) -> None:
    command = ["bench", "allreduce", "--computing", "--through", "torch", "--out", str(tmp_path / "times.csv")]
    done = CliRunner().invoke(cli, command)
    assert isinstance(done.exception, UserError)
    assert "--computing: mpi by itself" in str(done.exception)


@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=12))
def test_default_counts_spread_evenly(hosts: list[str]) -> None:
    for ranks, nodes in rank_counts(hosts, (), groups=True):
        assert nodes == nodes_of(hosts, ranks) == len(set(hosts[:ranks]))
        assert ranks % nodes == 0
        assert 2 <= ranks <= len(hosts)


@pytest.mark.parametrize(
    ("hosts", "wanted", "groups", "words"),
    [
        (["a"], (), True, "one rank has nobody"),
        (["a", "a"], (3,), True, "--ranks 3: this job has 2 ranks"),
        (["a", "a", "b"], (3,), True, "--ranks 3: the first 3 ranks do not spread"),
        (["a", "b", "a", "b"], (2,), False, "--ranks 2: an engine averages over all of its 4"),
    ],
)
def test_counts_that_cannot_be(hosts: list[str], wanted: tuple[int, ...], groups: bool, words: str) -> None:
    with pytest.raises(UserError, match=words):
        rank_counts(hosts, wanted, groups)


def test_every_size_is_timed_twice_per_round_on_every_count() -> None:
    ranks = Pretended(["a", "a", "b", "b"])
    plan = Plan(powers(4, 2**20), rounds=3)
    found = measure(ranks, plan, lambda text, done: None)
    assert [(t.ranks, t.nodes) for t in found[:: len(plan.sizes)]] == [(2, 1), (4, 2)]
    for time in found:
        assert time.seconds == pytest.approx(1e-5 + 1e-9 * time.bytes * time.ranks)
        assert time.control == pytest.approx(1.0)
        assert 1 <= time.calls <= MOST_CALLS
        assert ranks.asked.count((time.ranks, time.bytes, time.calls)) >= 2 * plan.rounds
    orders = [size for count, size, _ in ranks.asked if count == 4][-2 * len(plan.sizes) :]
    assert orders != sorted(orders), "sizes come in random order"


def test_a_wrong_sum_is_named() -> None:
    with pytest.raises(UserError, match="mpi: an allreduce of 64 bytes on 2 ranks does not give the sum"):
        measure(Pretended(["a", "a"], wrong=64), Plan(powers(4, 256)), lambda text, done: None)


def test_a_file_grows_by_jobs_and_is_read_by_projection(tmp_path: Path) -> None:
    out = tmp_path / "times.csv"
    write(out, header(), times(2, 4))
    write(out, header(hosts=["a", "a", "b", "b"] * 2), times(8))
    write(out, header(), times(2))  # measured again: the same rows
    (curve,) = read_curves(out)
    assert curve.ranks == (2, 4, 8)
    assert curve.microseconds[2].tolist() == pytest.approx([80.0, 80.0])
    assert header_path(out, header()).is_file()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("node,library\n", "not a file of this command"),
        (",".join(COLUMNS) + "\na,b\n", "a row of it is not of its columns"),
        (",".join(COLUMNS) + "\n" + ",".join("x" * len(COLUMNS)) + "\n", "a row of it is not of its columns"),
        ('"', "cannot be read"),
    ],
)
def test_a_file_of_others_is_left_alone(tmp_path: Path, text: str, words: str) -> None:
    out = tmp_path / "times.csv"
    out.write_text(text)
    with pytest.raises(UserError, match=words):
        kept_rows(out, "a", "b", set())
    assert out.read_text() == text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "x.parquet"], "--out x.parquet: the record is a CSV file"),
        (["--out", "x.csv", "--least", "6"], "--least 6"),
        (["--out", "x.csv", "--least", "64", "--most", "8"], "--most 8"),
        (["--out", "x.csv", "--through", "torch", "--algorithm", "ring"], "--algorithm: only mpi"),
        (["--out", "x.csv", "--device", "cuda"], "--device: mpi by itself"),
        (["--out", "x.csv", "--node", "a\nb"], "--node"),
    ],
)
def test_a_slip_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["bench", "allreduce", *arguments])
    assert done.exit_code != 0
    assert words in (done.output + str(done.exception))
    assert not [*tmp_path.iterdir()]
