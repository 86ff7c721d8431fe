"""The tracker with a scheduler in memory, a clock of its own, and faults: each by itself, then random sequences."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_scheduler import RETRIES, WAYS, Bench, World
from snakemake_executor_plugin_batch_script.contact import SilenceError
from snakemake_executor_plugin_batch_script.journal import Journals
from snakemake_executor_plugin_batch_script.schedulers.base import (
    State,
)
from snakemake_executor_plugin_batch_script.task import REFUSED, job_name
from snakemake_executor_plugin_batch_script.tracking import Tracker


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(World(tmp_path))


def test_jobs_run_and_are_polled_together(bench: Bench) -> None:
    bench.add("a", "b", "c")
    bench.run(60, until=3)
    assert {stem: result.reason for stem, result in bench.results.items()} == dict.fromkeys("abc", "done")
    assert bench.world.commands.count("submit") == 3
    assert bench.world.commands.count("live") <= 6
    assert bench.world.commands.count("ended") == 1
    events = [event["event"] for event in bench.events() if event.get("name") == job_name(bench.world.script("a"))]
    assert events == ["submitting", "submitted", "running", "ended"]


@pytest.mark.parametrize(
    ("way", "reason", "starts"),
    [
        ("exit 1", "failed", 3), ("exit 2", "failed", 1), ("signal", "killed", 3), ("walltime", "walltime", 3),
        ("node", "node-failure", 3), ("memory", "out-of-memory", 1), ("cancelled", "cancelled", 1),
        ("died, forgotten", "vanished", 3), ("no output", "failed", 3), ("done, forgotten", "done", 1),
    ],
)  # fmt: skip
def test_ends_and_retries(bench: Bench, way: str, reason: str, starts: int) -> None:
    bench.world.ways = {"a": [way] * 5}
    bench.add("a")
    bench.run(1000, until=1)
    result = bench.results["a"]
    assert (result.reason, result.attempts, bench.started("a")) == (reason, starts, starts)
    assert result.log == bench.world.script("a").with_suffix(".log")
    assert len(bench.events("retry")) == starts - 1


def test_a_retry_that_succeeds(bench: Bench) -> None:
    bench.world.ways = {"a": ["walltime", "node"]}
    bench.add("a")
    bench.run(1000, until=1)
    assert (bench.results["a"].reason, bench.results["a"].attempts) == ("done", 3)
    assert any("walltime; submitted again (2 of 3)" in line for line in bench.said)


def test_an_old_output_proves_nothing(bench: Bench) -> None:
    bench.world.ways = {"a": ["died, forgotten"] * 5}
    bench.world.output("a").write_text("of other settings")
    bench.add("a")
    bench.run(1000, until=1)
    assert bench.results["a"].reason == "vanished"


def test_an_output_that_comes_late_is_waited_for(bench: Bench) -> None:
    bench.world.ways = {"a": ["no output"]}
    bench.add("a")
    while not bench.world.ended_jobs or bench.world.commands[-1] != "ended":
        bench.run(1)
    bench.run(2)
    assert not bench.results
    bench.world.output("a").write_text("seen at last")
    bench.run(2)
    assert (bench.results["a"].reason, bench.results["a"].attempts) == ("done", 1)


def test_a_refusal_fails_its_job_only(bench: Bench) -> None:
    answers = iter(["refuse"])
    bench.world.fault = lambda command: next(answers, "") if command == "submit" else ""
    bench.add("a", "b")
    bench.run(100, until=2)
    assert (bench.results["a"].reason, bench.results["a"].detail) == (REFUSED, "qsub: Unknown queue")
    assert bench.results["b"].done
    assert len(bench.events("refused")) == 1


@pytest.mark.parametrize("fault", ["timeout", "lost"])
def test_a_submission_without_an_answer(bench: Bench, fault: str) -> None:
    """Whether or not it came through, the script runs once."""
    answers = iter([fault])
    bench.world.fault = lambda command: next(answers, "") if command == "submit" else ""
    bench.world.seconds = 100
    bench.add("a")
    bench.run(500, until=1)
    assert bench.results["a"].done
    assert bench.started("a") == 1
    assert len(bench.events("attached")) == (fault == "timeout")


def test_a_submission_that_listings_lack_at_first(bench: Bench) -> None:
    answers = {"submit": iter(["timeout"]), "live": iter(["", "flap", "flap"])}
    bench.world.fault = lambda command: next(answers.get(command, iter([])), "")
    bench.world.seconds = 300
    bench.add("a")
    bench.run(500, until=1)
    assert bench.results["a"].done
    assert bench.started("a") == 1


def test_a_job_that_ended_before_anyone_asked_for_it(bench: Bench) -> None:
    answers = iter(["timeout"])
    bench.world.fault = lambda command: next(answers, "") if command == "submit" else ""
    bench.world.seconds = 1
    bench.add("a")
    bench.run(500, until=1)
    assert bench.results["a"].done
    assert bench.started("a") == 1


def test_a_scheduler_that_is_away(bench: Bench) -> None:
    bench.add("a", "b")
    bench.run(5)
    bench.world.fault = lambda command: "down"
    before = len(bench.world.commands)
    bench.run(1200)
    tries = len(bench.world.commands) - before
    assert 10 < tries < 40  # at most every FACTOR * POLL = 100 s, at least half of that
    assert not bench.results
    bench.world.fault = lambda command: ""
    bench.run(200, until=2)
    assert all(result.done and result.attempts == 1 for result in bench.results.values())
    assert sum("does not answer" in line for line in bench.said) == 1
    assert sum("is back" in line for line in bench.said) == 1
    assert [event["event"] for event in bench.events("unreachable", "reachable")] == ["unreachable", "reachable"]


def test_patience_ends(bench: Bench) -> None:
    bench.add("a")
    bench.run(5)
    bench.world.fault = lambda command: "down"
    with pytest.raises(SilenceError, match="for more than 60 minutes"):
        bench.run(4000)
    assert bench.world.now > 1000 + 3600
    assert list(bench.world.commands).count("cancel") == 0


def test_cancel_ends_everything_with_one_command(bench: Bench) -> None:
    bench.world.seconds = 300
    answers = iter(["", "timeout"])
    bench.world.fault = lambda command: next(answers, "") if command == "submit" else ""
    bench.add("a", "b")
    bench.run(1)
    assert len(bench.world.live_jobs) == 2
    bench.add("c")  # not even looked at
    bench.tracker.cancel(wait=lambda seconds: None)
    assert not bench.world.live_jobs
    assert bench.world.commands.count("cancel") == 1
    assert {result.reason for result in bench.tracker.results} == {"cancelled"}
    assert {event["name"] for event in bench.events("cancelled")} == {job_name(bench.world.script(s)) for s in "abc"}


def test_cancel_without_an_answer_says_so_and_forgets_nothing(bench: Bench) -> None:
    bench.world.seconds = 300
    bench.add("a")
    bench.run(2)
    bench.world.fault = lambda command: "down"
    bench.tracker.cancel(wait=lambda seconds: None)
    assert any("could not be cancelled" in line for line in bench.said)
    assert not bench.events("cancelled")


def test_held_jobs_are_told_once(bench: Bench) -> None:
    bench.world.seconds = 300
    bench.add("a")
    bench.run(2)
    next(iter(bench.world.live_jobs.values())).state = State.HELD
    bench.run(100)
    assert [line for line in bench.said if "is held (reason)" in line] == [bench.said[-1]]


def test_a_journal_that_cannot_be_written_ends_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.journals = Journals(tmp_path / "none" / "journal")
    bench.tracker = Tracker(bench.world, bench.journals, bench.limits, bench.said.append, lambda: bench.world.now)
    bench.add("a")
    bench.run(100, until=1)
    assert bench.results["a"].done
    assert sum("cannot be kept" in line for line in bench.said) == 1


FAULTS = {
    "live": ["", "", "flap", "down"], "ended": ["", "", "flap", "down"],
    "submit": ["", "", "timeout", "lost", "refuse", "unclear", "limit"],
    "cancel": ["", "down"],
}  # fmt: skip

# (A script that exits with 0 beside an old output breaks its side of the contract.)
RANDOM_WAYS = st.sampled_from(sorted(WAYS.keys() - {"no output"}))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tape=st.lists(st.integers(0, 419), max_size=60),
    ways=st.dictionaries(st.sampled_from("abc"), st.lists(RANDOM_WAYS, max_size=4), max_size=3),
    seconds=st.sampled_from([1.0, 15.0, 90.0]),
    restarts=st.lists(st.integers(1, 120), max_size=2),
    stale=st.sets(st.sampled_from("abc")),
    limit=st.sampled_from([None, None, 1, 2]),
)
def test_random_faults(
    tape: list[int], ways: dict[str, list[str]], seconds: float, restarts: list[int], stale: set[str], limit: int | None
) -> None:
    """Never two live jobs of one name (World.start looks), none lost, none called done that is not, or the reverse."""
    steps = iter(tape)

    def fault(command: str) -> str:
        choices = FAULTS[command]
        return choices[next(steps, 0) % len(choices)]

    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        bench = Bench(World(Path(folder), ways, seconds=seconds, fault=fault, limit=limit))
        for stem in stale:
            bench.world.output(stem).write_text("stale")
        bench.add(*"abc")
        for after in restarts:
            bench.run(after, until=3)
            bench.restart()
            bench.add(*(stem for stem in "abc" if stem not in bench.results))
        bench.run(20_000, until=3)
        assert set(bench.results) == set("abc")
        assert not bench.world.live_jobs
        for stem, result in bench.results.items():
            fakes = [fake for fake in bench.world.ended_jobs.values() if fake.script.stem == stem]
            if result.done:
                assert bench.world.output(stem).read_text() in bench.world.ended_jobs
                assert fakes[-1].way.startswith("done")
            elif result.reason != REFUSED:
                assert fakes[-1].way == {
                    "failed": fakes[-1].way, "killed": "signal", "walltime": "walltime", "node-failure": "node",
                    "out-of-memory": "memory", "cancelled": "cancelled", "vanished": "died, forgotten",
                }[result.reason]  # fmt: skip
                assert not fakes[-1].way.startswith("done")
                assert result.attempts <= RETRIES + 1
