"""All that is done with jobs, without Snakemake: what is due, and when.

`step` is called often; it asks the scheduler when that is due. Jobs go wrong in their own ways, but the scheduler's
silence is never held against them.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_batch_script.attaching import Attaching
from snakemake_executor_plugin_batch_script.contact import Contact, Limits
from snakemake_executor_plugin_batch_script.journal import Journals
from snakemake_executor_plugin_batch_script.ledger import OPEN, Ledger
from snakemake_executor_plugin_batch_script.notes import Notes
from snakemake_executor_plugin_batch_script.packed import PackingScheduler
from snakemake_executor_plugin_batch_script.polling import Polls
from snakemake_executor_plugin_batch_script.schedulers.base import Outcome, Scheduler, UnreachableError
from snakemake_executor_plugin_batch_script.silence import Silence
from snakemake_executor_plugin_batch_script.submitting import CONFIRMATIONS, Submissions
from snakemake_executor_plugin_batch_script.task import Phase, Result, Task, job_name, signature
from snakemake_executor_plugin_batch_script.verdict import Verdicts

CONFIRM_INTERVAL = 10.0  # seconds between polls that confirm what one of them told, at most
SOONEST = 2.0  # seconds between two polls, at least, where new jobs ask for one ahead of time
# The same two on this machine, where asking is reading a few lines of /proc, and what ends is to be followed at once
CONFIRM_INTERVAL_HERE = 1.0
SOONEST_HERE = 0.1
TICK = 0.5  # seconds between two looks at what is due; the scheduler is asked far less often
SHORTEST_IDLE, LONGEST_IDLE = 0.02, 60.0  # the same on this machine, where the end of a script is told
CANCEL_TRIES = 4


class Tracker:
    """All tasks of one driver. `add` and `stop` may be called from any thread; the rest from one at a time.

    `say` is given lines for the user. `since` is when the driver began, in seconds since 1970 (default: now): an output
    that was made later may have been missed.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        journals: Journals,
        limits: Limits,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
        since: float | None = None,
    ) -> None:
        self._scheduler = PackingScheduler(scheduler)
        self._notes = Notes(journals, say)
        self._limits, self._say, self._clock = limits, say, clock
        self._since = time.time() if since is None else since
        chance = chance or random.Random()
        self._asking = Contact(limits.poll, limits.patience, chance)
        self._new: deque[Task] = deque()
        self._ledger = Ledger()
        self._stopped = threading.Event()
        self._polled = -float("inf")
        self._silence = Silence(self._notes, say, limits.patience)
        self._attaching = Attaching(self._scheduler, self._notes, say)
        stopping = self._stopped.is_set
        self._verdicts = Verdicts(self._scheduler, self._ledger, self._notes, limits, say, stopping)
        self._submissions = Submissions(
            self._scheduler, self._ledger, self._notes, limits, say, stopping, self._silence, chance
        )
        self._polls = Polls(
            self._scheduler, self._ledger, self._notes, limits, say, stopping, self._asking, self._silence,
            self._attaching, self._verdicts, self._submissions,
        )  # fmt: skip

    # What the executor calls

    def add(
        self,
        script: Path,
        output: Path,
        order: float | None = None,
        log: Path | None = None,
        wanted: str | None = None,
    ) -> str:
        """A script is to be run until `output` is there; returns its job's name, by which `step` reports it.

        Of those that are ready, the ones of the lowest `order` are submitted first, those without any last, in the
        order in which they were added. `log` is where the output of a script goes that does not say so itself, `wanted`
        the digest that it has to have: another one is what a job was submitted with that may still be there.
        """
        task = Task(script, output, job_name(script), math.inf if order is None else order, log, wanted)
        self._new.append(task)
        return task.name

    def stop(self) -> None:
        """Nothing is submitted from now on."""
        self._stopped.set()

    @property
    def results(self) -> list[Result]:
        """All results so far, in the order of their ends."""
        return list(self._ledger.results)

    def step(self) -> dict[str, Result]:
        """Do what is due; returns what has ended since the last step, by name. Raises SilenceError."""
        now = self._clock()
        self._take_new()
        for task in self._ledger.of(Phase.LEFT):
            if task.told:
                self._verdicts.judge(task, task.told, now)
        if self._ledger.open and self._asking.due(now) and now >= self._next_poll(now):
            self._polled = now
            self._polls.poll(now)
        return self._ledger.news()

    def idle(self) -> float:
        """Seconds until a step may have something to do, if nothing is added and nothing watched ends until then.

        On this machine nothing is looked at in passing: what wakes the driver disturbs what is measured.
        """
        if not self._limits.immediate or any(task.told for task in self._ledger.of(Phase.LEFT)):
            return TICK
        if self._new or not self._ledger.open:
            return 0.0 if self._new else LONGEST_IDLE
        now = self._clock()
        return min(max(SHORTEST_IDLE, self._next_poll(now) - now, self._asking.again - now), LONGEST_IDLE)

    def hasten(self, ended: Collection[int]) -> None:
        """Of what is watched, some has ended, by its descriptors: the next step polls."""
        self._scheduler.watch_no_more(ended)
        self._polled = -float("inf")

    def watched(self) -> list[int]:
        """Descriptors that become readable when a job ends; none where nothing but polls tells of that."""
        return self._scheduler.watched()

    def cancel(self, wait: Callable[[float], Any] = time.sleep) -> None:
        """End all jobs with one command, also those whose submission has had no answer yet; but none that was only
        waited for, being of another content of its script."""
        self.stop()
        self._take_new()
        for task in self._ledger.of(Phase.RECALLED, Phase.WAITING):
            if (task.job or task.unsure) and task.of_other_bytes():  # the journal goes on telling of it
                detail = "not submitted: a job of another content is there"
                self._ledger.close(task, Result(task.script, Outcome.CANCELLED, task.attempt, detail=detail))
        tasks = self._ledger.of(*OPEN)
        error = ""
        for attempt in range(CANCEL_TRIES):
            try:
                self._attaching.find_unsure(tasks)
                if jobs := [task.job for task in tasks if task.job]:
                    self._scheduler.cancel(jobs)
                error = ""
                break
            except UnreachableError as unreachable:
                error = str(unreachable)
                if attempt + 1 < CANCEL_TRIES:
                    wait(2.0**attempt)
        if error:
            self._say(f"jobs could not be cancelled, the next run attaches to those that are still there: {error}")
        for task in tasks:
            if error and (task.job or task.unsure):
                detail = "could not be cancelled"
            else:
                detail = "cancelled by the user"
                self._notes.event("cancelled", task, outcome=Outcome.CANCELLED)
            result = Result(task.script, Outcome.CANCELLED, task.attempt, task.job, detail=detail)
            self._ledger.close(task, result)

    # What is due

    def _take_new(self) -> None:
        """Take in what was added, with what the journal remembers."""
        while self._new:
            task = self._new.popleft()
            seen = signature(task.output)
            # made while Snakemake looked at what there is: by a job of an earlier driver, which has ended since
            task.before = None if seen and seen.time > self._since * 1e9 else seen
            self._scheduler.know(task.script, task.log)
            past = self._notes.past(task.script)
            self._attaching.doomed |= past.cancelled
            task.digest = past.digests.get(task.name)
            if task.name in past.may_live:
                task.job = past.may_live[task.name]
                if task.job:
                    task.phase = Phase.RECALLED
                else:  # a driver was killed while it submitted
                    task.unsure, task.doubtful, task.looks = True, True, CONFIRMATIONS
            self._ledger.open[task.name] = task

    def _next_poll(self, now: float) -> float:
        poll, immediate = self._limits.poll, self._limits.immediate
        fresh = [task for task in self._ledger.of(Phase.WAITING) if task.due == 0.0 and not task.unsure]
        if not self._submissions.silenced() and self._submissions.with_room(fresh, now):
            return self._polled + min(poll, SOONEST_HERE if immediate else SOONEST)
        unsure = [task for task in self._ledger.of(Phase.WAITING) if task.unsure]
        urgent = any(task.in_doubt() for task in unsure) or self._submissions.with_room(unsure, now)
        left = [task for task in self._ledger.of(Phase.RECALLED, Phase.LEFT) if not task.is_waited_for()]
        if urgent or left:
            return self._polled + min(poll, CONFIRM_INTERVAL_HERE if immediate else CONFIRM_INTERVAL)
        return self._polled + poll
