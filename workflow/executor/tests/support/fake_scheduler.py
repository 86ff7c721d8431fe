"""A scheduler in memory with a clock of its own and faults, and the driver at work on it."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_executor_plugin_batch_script.contact import Limits
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
from snakemake_executor_plugin_batch_script.task import Result
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
