"""Schedulers that take no more jobs, or say nothing clear: what waits, what goes first, when patience ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fake_scheduler import LATENCY, POLL, RETRIES, Bench, World
from snakemake_executor_plugin_batch_script.contact import Limits
from snakemake_executor_plugin_batch_script.schedulers.base import (
    LimitError,
    State,
    UnclearError,
    UnreachableError,
)
from snakemake_executor_plugin_batch_script.task import REFUSED


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(World(tmp_path))


def test_a_slot_that_becomes_free_is_used_soon(bench: Bench) -> None:
    bench.limits = Limits(POLL, RETRIES, 3600.0, LATENCY, slots=1)
    bench.restart()
    bench.add("a", "b")
    bench.run(500, until=1)
    assert (bench.started("a"), bench.started("b")) == (1, 0)
    bench.run(4)
    assert bench.started("b") == 1, "not only with the next poll, after 10 s"
    asked = bench.world.commands.count("live")
    bench.add("c")
    bench.run(5)
    assert bench.started("c") == 0
    assert bench.world.commands.count("live") == asked, "without a slot there is no haste"


TEN = "abcdefghij"


def slots(bench: Bench) -> list[object]:
    return [event["slots"] for event in bench.events("limit")]


def test_a_limit_is_learnt_and_kept_to(bench: Bench) -> None:
    bench.world.limit = 3
    bench.add(*TEN)
    bench.run(600, until=10)
    assert {result.reason for result in bench.results.values()} == {"done"}
    assert {result.attempts for result in bench.results.values()} == {1}
    assert [bench.started(stem) for stem in TEN] == [1] * 10
    assert (bench.world.most, slots(bench)) == (3, [3])
    assert bench.world.refused <= 3, "one to learn it, and rarely one more"
    said = [line for line in bench.said if "limit" in line]
    assert said == ["the scheduler takes at most 3 jobs at once in queue (default) "
                    "(qsub: would exceed queue's per-user limit): what is left waits for room"]  # fmt: skip
    assert not bench.events("refused", "retry", "unreachable")


def test_a_job_goes_when_another_has_ended(bench: Bench) -> None:
    bench.world.limit, bench.world.seconds = 1, 100
    bench.add("a", "b")
    bench.run(500, until=1)
    bench.run(4)
    assert bench.started("b") == 1, "not only with the next poll, after 10 s"


def test_without_room_there_is_no_haste(bench: Bench) -> None:
    bench.world.limit, bench.world.seconds = 1, 1000
    bench.add("a", "b")
    bench.run(20)
    before = len(bench.world.commands)
    bench.run(500)
    assert bench.started("b") == 0
    assert len(bench.world.commands) - before <= 50 + 2 * 10, (
        "a listing every 10 s, and one more job, after one of its own, every 50 s"
    )


def test_a_limit_that_loosens_is_found(bench: Bench) -> None:
    bench.world.limit, bench.world.seconds = 2, 400
    bench.add(*TEN)
    bench.run(60)
    assert len(bench.world.live_jobs) == 2
    bench.world.limit = 6
    bench.run(180)
    assert len(bench.world.live_jobs) == 6, "where one more was taken, the next follows soon"
    assert slots(bench) == [2, 3, 4, 5, 6]
    bench.run(5000, until=10)
    assert len(bench.results) == 10


def test_a_limit_that_other_jobs_fill_is_waited_for(bench: Bench) -> None:
    """Longer than patience, as long as one of ours is there; then more."""
    bench.world.limit, bench.world.theirs, bench.world.seconds = 3, 2, 8000
    bench.add("a", "b", "c")
    bench.run(7900)
    assert (bench.results, bench.world.most) == ({}, 1)
    bench.world.theirs, bench.world.seconds = 0, 25
    bench.run(1000, until=3)
    assert all(result.done for result in bench.results.values())


def test_a_job_that_is_never_taken_is_given_up_with_the_words(bench: Bench) -> None:
    bench.world.limit = 0
    bench.add("a", "b")
    bench.run(3600)
    assert not bench.results
    bench.run(400, until=2)
    assert bench.results["a"].reason == REFUSED
    assert bench.results["a"].detail == (
        "qsub: would exceed queue's per-user limit (for more than 60 minutes, with no other job of this run there)"
    )
    assert bench.results["b"].reason == REFUSED
    assert bench.world.refused < 4000 / 50
    assert len(bench.events("refused")) == 2


def test_the_next_driver_knows_that_a_job_was_not_taken(bench: Bench) -> None:
    bench.world.limit = 0
    bench.add("a")
    bench.run(5)
    bench.world.limit = None
    bench.restart()
    bench.add("a")
    bench.run(3)
    assert bench.started("a") == 1, "at once: no need to look for it"


def test_words_that_do_not_tell_hold_up_no_other(bench: Bench) -> None:
    """The script that was turned away goes to the back of the line, and is looked for before it is tried again."""
    bench.world.seconds = 3000

    answers = iter(["unclear"])
    bench.world.fault = lambda command: next(answers, "") if command == "submit" else ""
    bench.add("a", "b", "c")
    bench.run(200)
    assert [bench.started(stem) for stem in "abc"] == [1, 1, 1]
    assert len(bench.events("unclear")) == 1
    assert [line for line in bench.said if "tomorrow" in line] == [
        "a: not taken in queue (default) (qsub: come back tomorrow): tried again later"
    ]


def test_words_that_do_not_tell_end_with_patience(bench: Bench) -> None:
    bench.world.fault = lambda command: "unclear" if command == "submit" else ""
    bench.add(*TEN)
    bench.run(3600)
    assert not bench.results
    assert bench.world.refused < 120
    bench.run(1000, until=10)
    assert {result.reason for result in bench.results.values()} == {REFUSED}
    assert bench.results["a"].detail.startswith("qsub: come back tomorrow (for more than 60 minutes")


def answer_scripts(bench: Bench, answer: Callable[[str], Exception | None]) -> list[tuple[float, str]]:
    """Submissions are answered by stem; None has the job taken. Returns when which script was tried, as it comes."""
    submit, tried = bench.world.submit, []

    def answered(script: Path, name: str) -> str:
        tried.append((bench.world.now, script.stem))
        if error := answer(script.stem):
            raise error
        return submit(script, name)

    bench.world.submit = answered  # type: ignore[method-assign]
    return tried


def silent_between(bench: Bench, begin: float, end: float) -> None:
    started = bench.world.now
    bench.world.fault = lambda command: "down" if begin <= bench.world.now - started < end else ""


def test_silence_does_not_count_as_patience_with_words_that_do_not_tell(bench: Bench) -> None:
    """Turned away once, then nobody answers for nearly an hour: the script is tried again."""
    errors = iter([UnclearError("qsub: come back tomorrow")])
    tried = answer_scripts(bench, lambda stem: next(errors, None))
    silent_between(bench, 2, 3560)
    bench.add("a")
    bench.run(4500, until=1)
    assert bench.results["a"].done
    assert len(tried) == 2


def test_silence_does_not_count_as_patience_with_a_limit(bench: Bench) -> None:
    """Refused after an hour in which there were answers, and not before."""
    begin = bench.world.now
    answer_scripts(bench, lambda stem: LimitError("qsub: would exceed queue's per-user limit"))
    silent_between(bench, 278, 3600)
    bench.add("a")
    bench.run(9000, until=1)
    assert bench.results["a"].reason == REFUSED
    assert 3600 + 3322 <= bench.world.now - begin <= 3600 + 3322 + 300


def test_an_end_of_silence_of_submissions_counts_before_the_answer(bench: Bench) -> None:
    """Listings are answered all the time, submissions not; the first answer after that is a limit, no refusal."""
    begin = bench.world.now
    errors: list[Exception] = [LimitError("qsub: full")]
    answer_scripts(bench, lambda stem: errors[0])
    bench.limits = Limits(POLL, RETRIES, 600.0, LATENCY)
    bench.restart()
    bench.add("a")
    bench.run(200)
    errors[0] = UnreachableError("qsub: no answer")
    bench.run(450)
    errors[0] = LimitError("qsub: full")
    bench.run(2000, until=1)
    assert bench.results["a"].reason == REFUSED
    assert bench.world.now - begin > 600 + 300


def test_after_patience_each_script_is_tried_once_more(bench: Bench) -> None:
    """Submissions are disabled for nearly as long as patience lasts: none is refused unasked."""
    stems = [f"c{number}" for number in range(30)]
    begin = bench.world.now
    disabled = UnclearError("sbatch: error: Batch job submission failed: System submissions disabled")
    answer_scripts(bench, lambda stem: disabled if bench.world.now - begin < 3590 else None)
    bench.add(*stems)
    bench.run(6000, until=30)
    assert {result.reason for result in bench.results.values()} == {"done"}
    assert len(bench.results) == 30


def test_a_script_that_is_refused_at_last_was_tried_after_patience(bench: Bench) -> None:
    begin = bench.world.now
    tried = answer_scripts(bench, lambda stem: UnclearError("qsub: come back tomorrow"))
    bench.add(*TEN)
    bench.run(6000, until=10)
    last = {stem: when for when, stem in tried}
    assert len(bench.results) == 10
    assert all(when - begin > 3600 for when in last.values())


@pytest.mark.parametrize("many", [0, 3])
def test_a_script_over_a_limit_of_resources_holds_up_no_other(bench: Bench, many: int) -> None:
    """It asks for more than there is at the moment; others fit. `many` have been tried and were too large as well."""
    large = "abc"[: many or 1]
    over = LimitError("qsub: would exceed user me's limit on resource ncpus in queue workq")
    tried = answer_scripts(bench, lambda stem: over if stem in large and bench.world.live_jobs else None)
    bench.world.seconds = 3000
    bench.world.start(bench.world.script("theirs"), "of another run")
    bench.add(*TEN)
    bench.run(2500)
    assert [bench.started(stem) for stem in TEN] == [int(stem not in large) for stem in TEN]
    assert sum(stem in large for _, stem in tried) < 2500 / 50
    bench.run(20_000, until=10)
    assert all(result.done for result in bench.results.values())
    assert len(bench.results) == 10


@pytest.mark.parametrize("seconds", [2000, 2080, 2160, 2240])  # "one more" has been another script last
def test_a_limit_of_jobs_does_not_turn_the_order_round(bench: Bench, seconds: int) -> None:
    """However often one more was tried in vain: when a job has ended, the script of the lowest order goes."""
    bench.world.limit, bench.world.seconds = 1, seconds
    bench.add("a")
    bench.run(5)
    for priority, stem in enumerate("bcde"):
        bench.tracker.add(bench.world.script(stem), bench.world.output(stem), -priority)
    bench.run(seconds + 100)
    assert bench.world.refused > 10
    assert [bench.started(stem) for stem in "abcde"] == [1, 0, 0, 0, 1]


def test_silence_does_not_end_a_driver_whose_jobs_run(bench: Bench) -> None:
    bench.world.seconds = 6000
    bench.add("a")
    bench.run(20)
    bench.world.fault = lambda command: "down" if command == "submit" else ""
    bench.add("b")
    bench.run(5900)
    bench.world.fault = lambda command: ""
    bench.world.seconds = 25
    bench.run(1000, until=2)
    assert all(result.done for result in bench.results.values())


def test_a_lost_submission_is_repeated_with_one_slot(bench: Bench) -> None:
    bench.limits = Limits(POLL, RETRIES, 3600.0, LATENCY, slots=1)
    bench.restart()
    answers = iter(["lost"])
    bench.world.fault = lambda command: next(answers, "") if command == "submit" else ""
    bench.add("a", "b")
    bench.run(500, until=2)
    assert all(result.done for result in bench.results.values())


def test_queues_have_limits_of_their_own(bench: Bench) -> None:
    """One queue is full; jobs of the other go on."""
    for stem in "ab":
        bench.world.script(stem).write_text("#!/bin/bash\n#PBS -q debug\n")
    for stem in "cd":
        bench.world.script(stem).write_text("#!/bin/bash\n#PBS -q prod\n")
    submit, started = bench.world.submit, []

    def limited(script: Path, name: str) -> str:
        if script.stem in "ab" and started:
            raise LimitError("qsub: would exceed queue debug's per-user limit")
        started.extend("a" if script.stem in "ab" else "")
        return submit(script, name)

    bench.world.submit = limited  # type: ignore[method-assign]
    bench.world.seconds = 500
    bench.add("a", "b", "c", "d")
    bench.run(60)
    assert [bench.started(stem) for stem in "abcd"] == [1, 0, 1, 1]
    assert [(event["queue"], event["slots"]) for event in bench.events("limit")] == [("debug", 1)]
    del bench.world.submit
    bench.run(2000, until=4)
    assert all(result.done for result in bench.results.values())


def test_a_limit_of_waiting_jobs_does_not_count_those_that_run(bench: Bench) -> None:
    """One may wait: the next goes as soon as that one runs."""
    submit = bench.world.submit

    def limited(script: Path, name: str) -> str:
        if any(fake.state is State.QUEUED for fake in bench.world.live_jobs.values()):
            raise LimitError("qsub: would exceed queue's per-user limit of jobs in 'Q' state", waiting_only=True)
        job = submit(script, name)
        bench.world.live_jobs[job].state = State.QUEUED
        return job

    bench.world.submit = limited  # type: ignore[method-assign]
    bench.world.seconds = 1000
    bench.add("a", "b", "c")
    bench.run(15)
    assert (len(bench.world.live_jobs), slots(bench)) == (1, [1])
    for count in (2, 3):
        for fake in bench.world.live_jobs.values():
            fake.state = State.RUNNING
        bench.run(25)
        assert len(bench.world.live_jobs) == count
    assert slots(bench) == [1]
