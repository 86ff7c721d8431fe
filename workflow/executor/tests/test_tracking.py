"""The tracker with a scheduler in memory, a clock of its own, and faults: each by itself, then random sequences."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snakemake_executor_plugin_batch_script.contact import Limits, SilenceError
from snakemake_executor_plugin_batch_script.journal import Journals
from snakemake_executor_plugin_batch_script.schedulers.base import (
    UNKNOWN,
    Ended,
    LimitError,
    Live,
    Outcome,
    RefusedError,
    State,
    UnclearError,
    UnreachableError,
    exited,
    killed_by,
)
from snakemake_executor_plugin_batch_script.submitting import CONFIRMATIONS
from snakemake_executor_plugin_batch_script.task import REFUSED, Result, job_name
from snakemake_executor_plugin_batch_script.tracking import Tracker

POLL, LATENCY, RETRIES = 10.0, 5.0, 2
# Ways in which an attempt ends, and what the scheduler can tell of it then.
WAYS: dict[str, Ended] = {
    "done": exited(0),
    "done, forgotten": UNKNOWN,
    "died, forgotten": UNKNOWN,
    "exit 1": exited(1),
    "exit 2": exited(2),
    "no output": exited(0),
    "signal": killed_by(9),
    "walltime": Ended(Outcome.WALLTIME),
    "node": Ended(Outcome.NODE_FAILURE),
    "memory": Ended(Outcome.OUT_OF_MEMORY, 137),
    "cancelled": Ended(Outcome.CANCELLED),
}


@dataclass
class FakeJob:
    name: str
    script: Path
    way: str
    ends: float
    state: State = State.RUNNING
    hidden: int = 0  # listings in a row that lacked it


@dataclass
class World:
    """A scheduler that really is one: jobs begin, and end after some seconds. `fault` is asked at every command."""

    folder: Path
    ways: dict[str, list[str]] = field(default_factory=dict)  # by script's stem, one per attempt; then "done"
    now: float = 1000.0
    seconds: float = 25.0
    fault: Callable[[str], str] = lambda command: ""
    live_jobs: dict[str, FakeJob] = field(default_factory=dict)
    ended_jobs: dict[str, FakeJob] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    programs: tuple[str, ...] = ()
    limit: int | None = None  # live jobs that are taken; `theirs` count as well
    theirs: int = 0
    most: int = 0  # jobs that were live at once
    refused: int = 0  # submissions

    def script(self, stem: str) -> Path:
        return self.folder / f"{stem}.sh"

    def output(self, stem: str) -> Path:
        return self.folder / f"{stem}.json"

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for job, fake in list(self.live_jobs.items()):
            if fake.ends <= self.now:
                self.end(job)

    def end(self, job: str) -> None:
        fake = self.live_jobs.pop(job)
        self.ended_jobs[job] = fake
        if fake.way.startswith("done"):
            path = self.output(fake.script.stem)
            path.with_suffix(".new").write_text(job)
            path.with_suffix(".new").replace(path)

    def start(self, script: Path, name: str) -> str:
        job = str(100 + len(self.live_jobs) + len(self.ended_jobs))
        assert name not in [fake.name for fake in self.live_jobs.values()], "two live jobs of one name"
        ways = self.ways.get(script.stem, [])
        before = len([fake for fake in self.ended_jobs.values() if fake.name == name])
        way = ways[before] if before < len(ways) else "done"
        self.live_jobs[job] = FakeJob(name, script, way, self.now + self.seconds)
        return job

    def _begin(self, command: str) -> str:
        self.commands.append(command)
        fault = self.fault(command)
        if fault == "down":
            raise UnreachableError(f"{command}: connection refused")
        return fault

    # Scheduler

    def live(self, jobs: Collection[str], names: bool) -> list[Live]:
        flap = self._begin("live") == "flap"
        shown = []
        for job, fake in self.live_jobs.items():
            fake.hidden = fake.hidden + 1 if flap and fake.hidden < CONFIRMATIONS - 2 else 0
            if not fake.hidden and (names or job in jobs):
                shown.append(Live(job, fake.name, fake.state, "reason"))
        return shown

    def ended(self, jobs: Mapping[str, Path]) -> dict[str, Ended | Live]:
        flap = self._begin("ended") == "flap"
        found: dict[str, Ended | Live] = {}
        for job in jobs:
            if job in self.ended_jobs:
                found[job] = WAYS[self.ended_jobs[job].way]
            else:
                fake = self.live_jobs[job]
                found[job] = UNKNOWN if flap and fake.hidden else Live(job, fake.name, fake.state)
        return found

    def submit(self, script: Path, name: str) -> str:
        fault = self._begin("submit")
        if fault == "refuse":
            raise RefusedError("qsub: Unknown queue")
        if fault == "lost":
            raise UnreachableError("qsub: no answer")
        if fault == "unclear":
            self.refused += 1
            raise UnclearError("qsub: come back tomorrow")
        full = self.limit is not None and len(self.live_jobs) + self.theirs >= self.limit
        if full or fault == "limit":
            self.refused += 1
            raise LimitError("qsub: would exceed queue's per-user limit")
        job = self.start(script, name)
        self.most = max(self.most, len(self.live_jobs))
        if fault == "timeout":
            raise UnreachableError("qsub: no answer, but the job is there")
        return job

    def cancel(self, jobs: Collection[str]) -> None:
        self._begin("cancel")
        for job in jobs:
            if job in self.live_jobs:
                self.live_jobs[job].way = "cancelled"
                self.end(job)

    def log(self, script: Path, job: str | None) -> Path | None:
        return script.with_suffix(".log")


@dataclass
class Bench:
    """A world and the driver at work in it."""

    world: World
    said: list[str] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)
    tracker: Tracker = field(init=False)
    limits: Limits = field(default_factory=lambda: Limits(POLL, RETRIES, 3600.0, LATENCY))

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The driver dies, another one starts."""
        self.journals = Journals()
        self.tracker = Tracker(
            self.world, self.journals, self.limits, self.said.append, lambda: self.world.now, random.Random(1)
        )

    def add(self, *stems: str) -> None:
        for stem in stems:
            self.tracker.add(self.world.script(stem), self.world.output(stem))

    def run(self, seconds: float, until: int | None = None) -> None:
        """Let time pass; end early once there are `until` results."""
        end = self.world.now + seconds
        while self.world.now < end and (until is None or len(self.results) < until):
            for result in self.tracker.step().values():
                assert result.script.stem not in self.results, "reported twice"
                self.results[result.script.stem] = result
            self.world.advance(1.0)

    def events(self, *names: str) -> list[dict[str, object]]:
        journal = self.journals.of(self.world.script("x"))
        return [event for event in journal.events() if not names or event["event"] in names]

    def started(self, stem: str) -> int:
        jobs = [*self.world.live_jobs.values(), *self.world.ended_jobs.values()]
        return sum(fake.script.stem == stem for fake in jobs)


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


def test_a_new_driver_attaches(bench: Bench) -> None:
    bench.world.seconds = 100
    bench.add("a", "b")
    bench.run(20)
    bench.restart()
    bench.add("a", "b")
    bench.run(500, until=2)
    assert all(result.done for result in bench.results.values())
    assert (bench.started("a"), bench.started("b")) == (1, 1)
    assert len(bench.events("attached")) == 2


def test_a_driver_killed_while_it_submitted(bench: Bench) -> None:
    """No answer was written down: the job is found by its name, even if the first listings lack it."""
    script = bench.world.script("a")
    bench.journals.of(script).write("submitting", script=script, name=job_name(script), attempt=1)
    bench.world.seconds = 300
    bench.world.start(script, job_name(script))
    flaps = iter(["flap", "flap"])
    bench.world.fault = lambda command: next(flaps, "") if command == "live" else ""
    bench.restart()
    bench.add("a")
    bench.run(1000, until=1)
    assert bench.results["a"].done
    assert bench.started("a") == 1


def test_a_new_driver_is_not_misled_by_a_flapping_listing(bench: Bench) -> None:
    bench.world.seconds = 300
    bench.add("a")
    bench.run(20)
    bench.restart()
    flaps = iter(["flap"] * 4)
    bench.world.fault = lambda command: next(flaps, "")
    bench.add("a")
    bench.run(1000, until=1)
    assert bench.results["a"].done
    assert bench.started("a") == 1


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


def test_a_cancelled_job_that_takes_its_time_is_not_attached_to(bench: Bench) -> None:
    """Started again right after Ctrl-C: the old job must not be taken for a new one."""
    bench.world.seconds = 300
    bench.add("a")
    bench.run(2)
    job, fake = next(iter(bench.world.live_jobs.items()))
    bench.tracker.cancel(wait=lambda seconds: None)
    bench.world.ended_jobs.pop(job)
    bench.world.live_jobs[job] = fake
    fake.ends = bench.world.now + 50
    bench.world.cancel = lambda jobs: None  # type: ignore[method-assign] # it takes its time
    bench.restart()
    bench.results.clear()
    bench.add("a")
    bench.run(1000, until=1)
    assert bench.results["a"].done
    assert bench.started("a") == 2


def test_a_job_on_its_way_out_is_waited_for(bench: Bench) -> None:
    script = bench.world.script("a")
    job = bench.world.start(script, job_name(script))
    bench.world.live_jobs[job].state = State.ENDING
    bench.world.live_jobs[job].way = "exit 1"
    bench.add("a")
    bench.run(500, until=1)
    assert (bench.results["a"].reason, bench.results["a"].attempts, bench.started("a")) == ("done", 1, 2)


def test_a_job_of_another_content_of_its_script_is_waited_for(bench: Bench) -> None:
    """The script was written anew while its job was there: that job is named once, neither adopted nor cancelled."""
    script = bench.world.script("a")
    script.write_text("#!/bin/bash\n# of old settings\n")
    bench.world.seconds = 100
    bench.add("a")
    bench.run(20)
    [submitted] = bench.events("submitted")
    assert submitted["digest"] == hashlib.sha256(script.read_bytes()).hexdigest()[:16]
    script.write_text("#!/bin/bash\n# of new settings\n")
    bench.restart()
    bench.add("a")
    bench.run(60)
    assert (bench.started("a"), bench.events("attached")) == (1, [])
    bench.run(500, until=1)
    assert bench.results["a"].done
    assert bench.started("a") == 2, "what the old job made is not taken for the new one's"
    assert "cancel" not in bench.world.commands
    job = submitted["job"]
    assert [line for line in bench.said if f"job {job}" in line] == [
        f"a: waits until job {job} is gone, which was submitted with another content of {script}"
    ]


def test_a_job_of_another_content_is_not_adopted_by_its_name_either(bench: Bench) -> None:
    """The driver was killed before it learnt the job's id."""
    script = bench.world.script("a")
    script.write_text("new")
    old = {"script": script, "name": job_name(script), "attempt": 1, "digest": "0123456789abcdef"}
    bench.journals.of(script).write("submitting", **old)
    bench.world.seconds = 100
    bench.world.start(script, job_name(script))
    bench.restart()
    bench.add("a")
    bench.run(90)
    assert (bench.started("a"), bench.events("attached")) == (1, [])
    bench.run(500, until=1)
    assert (bench.results["a"].reason, bench.started("a")) == ("done", 2)


@pytest.mark.parametrize("known", [True, False])
def test_a_job_of_the_same_content_or_of_an_older_journal_is_adopted(bench: Bench, known: bool) -> None:
    script = bench.world.script("a")
    script.write_text("the same")
    bench.world.seconds = 100
    job = bench.world.start(script, job_name(script))
    digest = hashlib.sha256(b"the same").hexdigest()[:16] if known else None
    name = job_name(script)
    bench.journals.of(script).write("submitted", script=script, name=name, job=job, attempt=1, digest=digest)
    bench.restart()
    bench.add("a")
    bench.run(500, until=1)
    assert (bench.results["a"].reason, bench.started("a")) == ("done", 1)


def test_a_second_job_of_one_name_is_ended(bench: Bench) -> None:
    bench.world.seconds = 300
    bench.add("a")
    bench.run(2)
    first = next(iter(bench.world.live_jobs.values()))
    bench.world.live_jobs["999"] = FakeJob(first.name, first.script, "done", bench.world.now + 300)
    bench.add("b")  # has the names listed
    bench.run(20)
    assert "999" not in bench.world.live_jobs
    assert first in bench.world.live_jobs.values()


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


def test_held_jobs_are_told_once(bench: Bench) -> None:
    bench.world.seconds = 300
    bench.add("a")
    bench.run(2)
    next(iter(bench.world.live_jobs.values())).state = State.HELD
    bench.run(100)
    assert [line for line in bench.said if "is held (reason)" in line] == [bench.said[-1]]


def test_an_id_that_belongs_to_another_job(bench: Bench) -> None:
    """A scheduler that was set up anew counts from the start: the journal's id is somebody else's now."""
    script = bench.world.script("a")
    bench.journals.of(script).write("submitted", script=script, name=job_name(script), job="100", attempt=1)
    bench.world.seconds = 10_000
    bench.world.start(bench.world.script("other"), "another name")
    bench.restart()
    bench.add("a")
    bench.world.seconds = 25
    bench.run(500, until=1)
    assert bench.results["a"].done
    assert bench.results["a"].job != "100"


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
