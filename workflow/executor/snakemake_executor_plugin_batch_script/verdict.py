"""How a job ended, and whether its script is submitted again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from snakemake_executor_plugin_batch_script.closing import duration
from snakemake_executor_plugin_batch_script.contact import Limits
from snakemake_executor_plugin_batch_script.ledger import Ledger
from snakemake_executor_plugin_batch_script.notes import Notes
from snakemake_executor_plugin_batch_script.packed import PackingScheduler
from snakemake_executor_plugin_batch_script.schedulers.base import Ended, Outcome
from snakemake_executor_plugin_batch_script.task import NOT_RETRIED, USER_ERROR, Result, Task, signature

LONGEST_DELAY = 300.0  # seconds before a retry, at most


def verdict(task: Task, told: Ended, waited: float, latency: float) -> Ended | None:
    """What the scheduler told, with an outcome for sure; None where the output may be on its way for `waited` seconds.

    A network file system may show an output up to `latency` seconds late.
    """
    if told.outcome is Outcome.POSTPONED and task.changed():
        return replace(told, outcome=Outcome.DONE, detail="")
    if told.outcome is None:  # nobody knows: a new output is as good as an exit code, an old one is not
        if task.changed():
            return replace(told, outcome=Outcome.DONE, detail="")
        return replace(told, outcome=Outcome.VANISHED, detail="no exit code and no new output")
    if told.outcome is Outcome.DONE and signature(task.output) is None:
        if waited < latency:
            return None
        detail = f"exit code 0, but {task.output} is not there after {waited:.0f} s"
        return replace(told, outcome=Outcome.FAILED, detail=detail)
    return told


class Verdicts:
    """Of the tasks in a ledger. `stopping` says whether nothing is submitted any more."""

    def __init__(
        self, scheduler: PackingScheduler, ledger: Ledger, notes: Notes, limits: Limits, say: Callable[[str], None],
        stopping: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._scheduler, self._ledger, self._notes = scheduler, ledger, notes
        self._limits, self._say, self._stopping = limits, say, stopping

    def judge(self, task: Task, told: Ended, now: float) -> None:
        """A task's job is gone: close it, or have it submitted again; or wait a little for its output to be seen."""
        waited = now - (task.left if task.left is not None else now)
        sure = verdict(task, told, waited, self._limits.latency)
        if sure is None or sure.outcome is None:
            task.told = told
            return
        queued, run = task.times(sure)
        log, code = self._scheduler.log(task.script, task.job), sure.exit_code
        result = Result(task.script, sure.outcome, task.attempt, task.job, code, queued, run, log, sure.detail)
        self._notes.event("ended", task, outcome=sure.outcome, exit_code=code, queued_seconds=_rounded(queued),
                   run_seconds=_rounded(run), log=log, detail=sure.detail or None)  # fmt: skip
        if self._limits.immediate:
            self._say(f"{task.script.stem}: ended after {duration(run)}, {sure.outcome}")
        if sure.outcome is Outcome.POSTPONED and not self._stopping():  # no attempt: it never began
            task.again(0.0)
            task.attempt -= 1
            task.postponed += 1
            self._notes.event("retry", task, outcome=sure.outcome, detail=sure.detail)
        elif result.done or self._is_final(result) or self._stopping():
            self._ledger.close(task, result)
        else:
            self._again(task, result, now)

    def _is_final(self, result: Result) -> bool:
        """Whether trying again is useless, or was done often enough."""
        return result.reason in NOT_RETRIED or result.exit_code == USER_ERROR or result.attempts > self._limits.retries

    def _again(self, task: Task, result: Result, now: float) -> None:
        """Another attempt: at once where only time ran out, else later and later."""
        delay = self._limits.poll * 2.0 ** (task.attempt - 1)
        task.again(0.0 if result.reason == Outcome.WALLTIME else now + min(delay, LONGEST_DELAY))
        self._notes.event("retry", task, outcome=result.reason, detail=result.detail or None)
        self._say(f"{result.sentence}; submitted again ({task.attempt} of {self._limits.retries + 1})")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
