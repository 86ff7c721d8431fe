"""Submitting, attaching, polling, judging and retrying: all that is done with jobs, without Snakemake.

`step` is called often; it asks the scheduler when that is due. Jobs go wrong in their own ways, but the scheduler's
silence is never held against them.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_batch_script.contact import Contact, Limits, SilenceError
from snakemake_executor_plugin_batch_script.journal import Journals
from snakemake_executor_plugin_batch_script.notes import Notes
from snakemake_executor_plugin_batch_script.packed import PackingScheduler
from snakemake_executor_plugin_batch_script.schedulers.base import (
    UNKNOWN,
    Ended,
    Live,
    Outcome,
    Scheduler,
    State,
    UnreachableError,
)
from snakemake_executor_plugin_batch_script.submitting import CONFIRMATIONS, Submissions
from snakemake_executor_plugin_batch_script.task import (
    NOT_RETRIED,
    USER_ERROR,
    Phase,
    Result,
    Task,
    job_name,
    signature,
)

CONFIRM_INTERVAL = 10.0  # seconds between such polls, at most
DETAILS = 50  # jobs that are asked about in one poll after they left the queue
SOONEST = 2.0  # seconds between two polls, at least, where new jobs ask for one ahead of time
LONGEST_DELAY = 300.0  # seconds before a retry, at most
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
        self._tasks: dict[str, Task] = {}
        self._finished: list[Task] = []
        self._results: list[Result] = []
        self._doomed: set[str] = set()  # ids of jobs that were cancelled and may take a moment to go
        self._stopped = threading.Event()
        self._polled = -float("inf")
        self._submissions = Submissions(
            self._scheduler, self._notes, limits, say, self._tasks, self._stopped, chance,
            close=self._close, silent=self._silent, answered=self._answered,
        )  # fmt: skip

    # What the executor calls

    def add(self, script: Path, output: Path, priority: int = 0) -> str:
        """A script is to be run until `output` is there; returns its job's name, by which `step` reports it.

        Of those that are ready, the ones of the highest priority are submitted first.
        """
        task = Task(script, output, job_name(script), priority)
        self._new.append(task)
        return task.name

    def stop(self) -> None:
        """Nothing is submitted from now on."""
        self._stopped.set()

    @property
    def results(self) -> list[Result]:
        """All results so far, in the order of their ends."""
        return list(self._results)

    def step(self) -> dict[str, Result]:
        """Do what is due; returns what has ended since the last step, by name. Raises SilenceError."""
        now = self._clock()
        self._take_new()
        for task in self._in(Phase.LEFT):
            if task.told:
                self._judge(task, task.told, now)
        open_tasks = self._in(Phase.RECALLED, Phase.WAITING, Phase.LIVE, Phase.LEFT)
        if open_tasks and self._asking.due(now) and now >= self._next_poll(now):
            self._polled = now
            self._poll(now)
        finished, self._finished = self._finished, []
        return {task.name: task.result for task in finished if task.result}

    def cancel(self, wait: Callable[[float], Any] = time.sleep) -> None:
        """End all jobs with one command, also those whose submission has had no answer yet."""
        self.stop()
        self._take_new()
        tasks = self._in(Phase.RECALLED, Phase.WAITING, Phase.LIVE, Phase.LEFT)
        error = ""
        for attempt in range(CANCEL_TRIES):
            try:
                self._find_unsure(tasks)
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
            self._close(task, Result(task.script, Outcome.CANCELLED, task.attempt, task.job, detail=detail))

    # A poll

    def _take_new(self) -> None:
        """Take in what was added, with what the journal remembers."""
        while self._new:
            task = self._new.popleft()
            seen = signature(task.output)
            # made while Snakemake looked at what there is: by a job of an earlier driver, which has ended since
            task.before = None if seen and seen.time > self._since * 1e9 else seen
            self._scheduler.know(task.script)
            past = self._notes.past(task.script)
            self._doomed |= past.cancelled
            if task.name in past.may_live:
                task.job = past.may_live[task.name]
                if task.job:
                    task.phase = Phase.RECALLED
                else:  # a driver was killed while it submitted
                    task.unsure, task.doubtful, task.looks = True, True, CONFIRMATIONS
            self._tasks[task.name] = task

    def _next_poll(self, now: float) -> float:
        poll = self._limits.poll
        fresh = [task for task in self._in(Phase.WAITING) if task.due == 0.0 and not task.unsure]
        if not self._submissions.silenced() and self._with_room(fresh, now):
            return self._polled + min(poll, SOONEST)
        unsure = [task for task in self._in(Phase.WAITING) if task.unsure]
        urgent = any(task.in_doubt() for task in unsure) or self._with_room(unsure, now)
        if urgent or self._in(Phase.RECALLED, Phase.LEFT):
            return self._polled + min(poll, CONFIRM_INTERVAL)
        return self._polled + poll

    def _poll(self, now: float) -> None:
        self._submissions.look(now)
        ids = [task.job for task in self._in(Phase.RECALLED, Phase.LIVE, Phase.LEFT) if task.job]
        due = [task for task in self._in(Phase.WAITING) if task.due <= now]
        # without room, nothing but submissions that had no answer is looked for by name
        with_room = set(map(id, self._with_room(due, now)))
        waiting = [task for task in due if task.in_doubt() or id(task) in with_room]
        if not ids and not waiting:
            return
        try:
            doubtful = any(task.doubtful for task in self._tasks.values())
            listed = self._scheduler.live(ids, names=bool(waiting or doubtful or self._in(Phase.RECALLED)))
            self._compare(listed, now)
            self._ask_details(now)
        except UnreachableError as error:
            self._silent(self._asking, "does not answer", error, now)
            return
        self._answered(self._asking, now)
        if not self._stopped.is_set():
            self._start(waiting, listed, now)

    def _compare(self, listed: Iterable[Live], now: float) -> None:
        """Bring tasks up to date with a listing."""
        by_id = {live.job: live for live in listed}
        by_name = _by_name(listed)
        for task in self._in(Phase.RECALLED, Phase.LIVE, Phase.LEFT):
            live = by_id.get(task.job or "")
            if live and live.name == task.name:
                if task.phase is Phase.RECALLED and self._is_going(live):
                    continue  # not worth attaching to, but it is there
                self._seen(task, live, now)
                self._end_twins(task, by_name[task.name])
            elif task.phase is Phase.RECALLED and self._lively(by_name[task.name]):
                task.phase, task.job = Phase.WAITING, None  # another job of this name is there: `_start` attaches to it
            else:
                task.leaves(now)

    def _seen(self, task: Task, live: Live, now: float) -> None:
        """The task's job is there."""
        if task.phase is Phase.RECALLED:
            self._attach(task, live.job, now)
        task.phase, task.gone, task.told = Phase.LIVE, 0, None
        if live.state is State.RUNNING and task.running is None:
            task.running = now
            self._notes.event("running", task)
        if live.state is State.HELD and not task.held:
            task.held = True
            self._say(f"{task.script.stem}: job {task.job} is held" + (f" ({live.reason})" if live.reason else ""))

    def _end_twins(self, task: Task, same: Iterable[Live]) -> None:
        """A submission that was taken for lost can turn up later: only one job of a name may stay."""
        twins = [live.job for live in self._lively(same) if live.job != task.job]
        if twins:
            self._say(f"{task.script.stem}: a second job {', '.join(twins)} beside {task.job} turned up: cancelled")
            self._scheduler.cancel(twins)
            self._doomed.update(twins)

    def _ask_details(self, now: float) -> None:
        """Ask about jobs that no listing shows."""
        missing = [task for task in self._in(Phase.RECALLED, Phase.LEFT) if task.job and not task.told][:DETAILS]
        if not missing:
            return
        answers = self._scheduler.ended({str(task.job): task.script for task in missing})
        for task in missing:
            told = answers.get(str(task.job))
            if isinstance(told, Live) and told.name != task.name:
                told = UNKNOWN  # the scheduler counts anew, and the id is another job's by now
            if isinstance(told, Live):
                if not (task.phase is Phase.RECALLED and self._is_going(told)):
                    self._seen(task, told, now)
            elif told is not None:
                task.gone += 1
                waited = task.left is None or now - task.left >= self._limits.latency
                if told.final or (task.gone >= CONFIRMATIONS and waited):
                    self._gone(task, told, now)

    def _gone(self, task: Task, told: Ended, now: float) -> None:
        """The scheduler does not have the job any more."""
        ended_just_now = told.outcome is Outcome.DONE and task.changed()
        if task.phase is not Phase.RECALLED or ended_just_now:
            self._judge(task, told, now)
        else:
            task.phase, task.job, task.gone = Phase.WAITING, None, 0

    # Ends

    def _judge(self, task: Task, told: Ended, now: float) -> None:
        """Decide how a job ended, or wait a little for its output to be seen."""
        outcome = told.outcome
        if outcome is Outcome.POSTPONED and task.changed():
            outcome, told = Outcome.DONE, replace(told, detail="")
        if outcome is None:  # nobody knows: a new output is as good as an exit code, an old one is not
            outcome = Outcome.DONE if task.changed() else Outcome.VANISHED
            told = replace(told, detail="" if outcome is Outcome.DONE else "no exit code and no new output")
        elif outcome is Outcome.DONE and signature(task.output) is None:
            waited = now - (task.left if task.left is not None else now)
            if waited < self._limits.latency:
                task.told = told
                return
            outcome = Outcome.FAILED
            told = replace(told, detail=f"exit code 0, but {task.output} is not there after {waited:.0f} s")
        queued, run = task.times(told)
        log = self._scheduler.log(task.script, task.job)
        code = told.exit_code
        result = Result(task.script, outcome, task.attempt, task.job, code, queued, run, log, told.detail)
        self._notes.event("ended", task, outcome=outcome, exit_code=code, queued_seconds=_rounded(queued),
                   run_seconds=_rounded(run), log=log, detail=told.detail or None)  # fmt: skip
        final = outcome in NOT_RETRIED or code == USER_ERROR or task.attempt > self._limits.retries
        if outcome is Outcome.POSTPONED and not self._stopped.is_set():  # no attempt: it never began
            task.again(0.0)
            task.attempt -= 1
            task.postponed += 1
            self._notes.event("retry", task, outcome=outcome, detail=told.detail)
            return
        if result.done or final or self._stopped.is_set():
            self._close(task, result)
            return
        delay = self._limits.poll * 2.0 ** (task.attempt - 1)
        due = 0.0 if outcome is Outcome.WALLTIME else now + min(delay, LONGEST_DELAY)
        task.again(due)
        self._notes.event("retry", task, outcome=outcome, detail=told.detail or None)
        self._say(f"{result.sentence}; submitted again ({task.attempt} of {self._limits.retries + 1})")

    def _close(self, task: Task, result: Result) -> None:
        task.phase, task.result = Phase.OVER, result
        self._finished.append(task)
        self._results.append(result)
        del self._tasks[task.name]

    # Submissions

    def _start(self, waiting: Iterable[Task], listed: Iterable[Live], now: float) -> None:
        """Attach to jobs that are there already, submit the others."""
        by_name = _by_name(listed)
        ready = []
        for task in waiting:
            same = by_name[task.name]
            if lively := self._lively(same):
                first = min(lively, key=lambda live: (live.state is not State.RUNNING, len(live.job), live.job))
                self._attach(task, first.job, now)
                self._seen(task, first, now)
            elif same:
                self._wait_for(task, same)
            elif task.looks > 1:
                task.looks -= 1
            elif task.unsure and task.changed():  # it had come through after all, and its job has run meanwhile
                self._notes.event("ended", task, outcome=Outcome.DONE)
                self._close(task, Result(task.script, Outcome.DONE, task.attempt))
            else:
                ready.append(task)
        self._submissions.submit_ready(ready, now)

    def _attach(self, task: Task, job: str, now: float) -> None:
        task.phase, task.job, task.submitted, task.unsure = Phase.LIVE, job, now, False
        self._notes.event("attached", task)
        self._say(f"{task.script.stem}: attached to job {job}, which is there already")

    def _wait_for(self, task: Task, going: list[Live]) -> None:
        """Jobs of this name are on their way out: the script is submitted when they are gone."""
        task.due = self._polled  # no haste any more
        if not task.delayed:
            task.delayed = True
            jobs = [live.job for live in going]
            self._say(f"{task.script.stem}: waits until job {', '.join(jobs)}, which was cancelled or ends, is gone")
            try:
                self._scheduler.cancel(jobs)
            except UnreachableError:
                task.delayed = False  # once more with the next poll

    def _find_unsure(self, tasks: Iterable[Task]) -> None:
        """The jobs of submissions that had no answer, by their names."""
        unsure = [task for task in tasks if task.unsure and not task.job]
        if unsure:
            by_name = _by_name(self._scheduler.live([], names=True))
            for task in unsure:
                task.job = next((live.job for live in by_name[task.name]), None)

    # Helpers

    def _in(self, *phases: Phase) -> list[Task]:
        return [task for task in self._tasks.values() if task.phase in phases]

    def _with_room(self, tasks: list[Task], now: float) -> list[Task]:
        """Those that could be submitted now."""
        room = self._submissions.room_by_queue(tasks, now)
        return [task for task in tasks if room[self._submissions.queue(task.script)] > 0]

    def _is_going(self, live: Live) -> bool:
        return live.state is State.ENDING or live.job in self._doomed

    def _lively(self, same: Iterable[Live]) -> list[Live]:
        return [live for live in same if not self._is_going(live)]

    def _silent(self, contact: Contact, what: str, error: Exception, now: float, may_end: bool = True) -> None:
        """The scheduler did not answer: say so once, try later. Raises SilenceError at the end of patience."""
        if contact.failed(now):
            self._say(f"the scheduler {what} ({error}): jobs are left alone, it will be asked again")
            self._notes.everywhere("unreachable", detail=f"{what}: {error}")
        if may_end and contact.exhausted(now):
            minutes = self._limits.patience / 60
            raise SilenceError(
                f"the scheduler {what} for more than {minutes:g} minutes ({error}); jobs go on: start again"
            )

    def _answered(self, contact: Contact, now: float) -> None:
        silence = contact.worked(now)
        if silence is not None:
            self._submissions.silence_ended(silence, now)
            self._say(f"the scheduler is back after {silence:.0f} s")
            self._notes.everywhere("reachable", detail=f"after {silence:.0f} s")


def _by_name(listed: Iterable[Live]) -> dict[str, list[Live]]:
    found: dict[str, list[Live]] = defaultdict(list)
    for live in listed:
        found[live.name].append(live)
    return found


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
