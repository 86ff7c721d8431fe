"""One poll: which jobs are there, which have gone, and which scripts go now."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from snakemake_executor_plugin_batch_script.attaching import Attaching, by_name
from snakemake_executor_plugin_batch_script.contact import Contact, Limits
from snakemake_executor_plugin_batch_script.ledger import Ledger
from snakemake_executor_plugin_batch_script.notes import Notes
from snakemake_executor_plugin_batch_script.packed import PackingScheduler
from snakemake_executor_plugin_batch_script.schedulers.base import UNKNOWN, Ended, Live, Outcome, UnreachableError
from snakemake_executor_plugin_batch_script.silence import Silence
from snakemake_executor_plugin_batch_script.submitting import CONFIRMATIONS, Submissions
from snakemake_executor_plugin_batch_script.task import Phase, Result, Task
from snakemake_executor_plugin_batch_script.verdict import Verdicts

UNWANTED = "the script is not the one that is wanted: a job that has ended by now kept it; start again"
DETAILS = 50  # jobs that are asked about in one poll after they left the queue


class Polls:
    """Of the tasks in a ledger. `contact` is the way by which the scheduler is asked, `stopping` says whether nothing
    is submitted any more."""

    def __init__(
        self, scheduler: PackingScheduler, ledger: Ledger, notes: Notes, limits: Limits, say: Callable[[str], None],
        stopping: Callable[[], bool], contact: Contact, silence: Silence, attaching: Attaching, verdicts: Verdicts,
        submissions: Submissions,
    ) -> None:  # fmt: skip
        self._scheduler, self._ledger, self._notes, self._limits, self._say = scheduler, ledger, notes, limits, say
        self._stopping, self._contact, self._silence = stopping, contact, silence
        self._attaching, self._verdicts, self._submissions = attaching, verdicts, submissions
        self._other = ""  # what is waited for, as was said last

    def poll(self, now: float) -> None:
        """Ask for all jobs with one command, and do what follows from the answer. Raises SilenceError."""
        self._submissions.look(now)
        ids = [task.job for task in self._ledger.of(Phase.RECALLED, Phase.LIVE, Phase.LEFT) if task.job]
        due = [task for task in self._ledger.of(Phase.WAITING) if task.due <= now]
        # without room, nothing but submissions that had no answer is looked for by name
        with_room = set(map(id, self._submissions.with_room(due, now)))
        waiting = [task for task in due if task.in_doubt() or id(task) in with_room]
        if not ids and not waiting:
            return
        try:
            doubtful = any(task.doubtful for task in self._ledger.open.values())
            listed = self._scheduler.live(ids, names=bool(waiting or doubtful or self._ledger.of(Phase.RECALLED)))
            self._compare(listed, now)
            self._ask_details(now)
        except UnreachableError as error:
            self._silence.no_answer(self._contact, "does not answer", error, now)
            return
        self._silence.answer(self._contact, now)
        if not self._stopping():
            self._start(waiting, listed, now)

    def _compare(self, listed: Iterable[Live], now: float) -> None:
        """Bring tasks up to date with a listing."""
        by_id, named = {live.job: live for live in listed}, by_name(listed)
        for task in self._ledger.of(Phase.RECALLED, Phase.LIVE, Phase.LEFT):
            live, same = by_id.get(task.job or ""), named[task.name]
            if live and live.name == task.name:
                if task.phase is Phase.RECALLED and not self._attaching.takes(task, [live]):
                    if not self._attaching.is_going(live):
                        self._attaching.wait_for(task, [live], now)
                    continue  # not worth attaching to, but it is there
                self._attaching.seen(task, live, now)
                self._attaching.end_twins(task, same)
            elif task.phase is Phase.RECALLED and self._attaching.takes(task, same):
                task.phase, task.job = Phase.WAITING, None  # another job of this name is there: `_start` attaches to it
            else:
                task.leaves(now)

    def _ask_details(self, now: float) -> None:
        """Ask about jobs that no listing shows."""
        missing = [task for task in self._ledger.of(Phase.RECALLED, Phase.LEFT) if task.job and not task.told]
        if not missing:
            return
        answers = self._scheduler.ended({str(task.job): task.script for task in missing[:DETAILS]})
        for task in missing:
            told = answers.get(str(task.job))
            if isinstance(told, Live) and told.name != task.name:
                told = UNKNOWN  # the scheduler counts anew, and the id is another job's by now
            if isinstance(told, Live):
                if task.phase is not Phase.RECALLED or self._attaching.takes(task, [told]):
                    self._attaching.seen(task, told, now)
            elif told is not None:
                task.gone += 1
                waited = task.left is None or now - task.left >= self._limits.latency
                if told.final or (task.gone >= CONFIRMATIONS and waited):
                    self._gone(task, told, now)

    def _gone(self, task: Task, told: Ended, now: float) -> None:
        """The scheduler does not have the job any more."""
        ended_just_now = told.outcome is Outcome.DONE and task.changed() and not task.of_other_bytes()
        if task.phase is not Phase.RECALLED or ended_just_now:
            self._verdicts.judge(task, told, now)
        else:
            task.phase, task.job, task.gone = Phase.WAITING, None, 0
            task.due, task.delayed = 0.0, False

    def _start(self, waiting: Iterable[Task], listed: Iterable[Live], now: float) -> None:
        """Attach to jobs that are there already, submit the others."""
        named = by_name(listed)
        ready = []
        for task in waiting:
            same = named[task.name]
            if taken := self._attaching.takes(task, same):
                self._attaching.attach_to_first(task, taken, now)
            elif same:
                self._attaching.wait_for(task, same, now)
            elif task.looks > 1:
                task.looks -= 1
            elif task.unsure and task.changed() and not task.of_other_bytes():
                # it had come through after all, and its job has run meanwhile
                self._notes.event("ended", task, outcome=Outcome.DONE)
                self._ledger.close(task, Result(task.script, Outcome.DONE, task.attempt))
            elif task.is_unwanted():
                self._submissions.refuse([task], UNWANTED)
            else:
                ready.append(task)
        if ready and (other := self._scheduler.busy()):
            for task in ready:
                task.due = now  # no haste any more
            if other != self._other:
                self._other = other
                self._say(f"{other} still runs, of an earlier driver: what is left waits until it has ended")
            return
        self._submissions.submit_ready(ready, now)
