"""Cobalt: qstat's table for what lives, the .cobaltlog beside the output for what has ended; qsub, qdel."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from snakemake_executor_plugin_batch_script.schedulers.base import (
    UNKNOWN,
    Ended,
    Live,
    Outcome,
    State,
    exited,
)
from snakemake_executor_plugin_batch_script.schedulers.commands import run, submitted, user
from snakemake_executor_plugin_batch_script.schedulers.directives import options, value
from snakemake_executor_plugin_batch_script.schedulers.evidence import (
    MEMORY_WORDS,
    NODE_WORDS,
    NOTHING,
    Mark,
    mark,
    says,
    tail,
)

HEADER = "--header=JobID:JobName:State"
ENDING = {"exiting", "killing"}
RUNNING = {"starting", "running", "preempted", "preempting"}
OF_JOB = re.compile(r"\bjob ?id:? (\d+)", re.IGNORECASE)
CODE = re.compile(r"exit code of (-?\d+)")
# The last line of a job that Cobalt kills, written as that begins: no exit code follows (src/lib/Components/cqm.py).
WALLTIME_WORDS = ("maximum execution time exceeded",)
DELETED_WORDS = ("user delete", "deleted by user")
FAILURE_WORDS = ("execution failure",)  # of Cobalt itself: it gave up starting the script


class Cobalt:
    """The commands. `_marks` holds what a job's error file was when it was submitted."""

    programs: tuple[str, ...] = ("qsub", "qstat", "qdel")

    def __init__(self) -> None:
        self._marks: dict[str, Mark] = {}

    def live(self, jobs: Collection[str], names: bool) -> list[Live]:
        answer = run(["qstat", "-u", user(), HEADER])
        if answer.code != 0 and (answer.err.strip() or answer.transient):
            raise answer.unreachable()
        return parse_table(answer.out)

    def ended(self, jobs: Mapping[str, Path]) -> dict[str, Ended | Live]:
        answer = run(["qstat", HEADER, *jobs])
        # exit code 1 and no word: none of them is live
        if answer.code != 0 and (answer.err.strip() or answer.transient):
            raise answer.unreachable()
        found: dict[str, Ended | Live] = {told.job: told for told in parse_table(answer.out) if told.job in jobs}
        for job, script in jobs.items():
            if job not in found:
                error = tail(self._file(script, job, ".error"), self._marks.get(job, NOTHING))
                found[job] = judge(tail(self._file(script, job, ".cobaltlog")), job, error)
        return found

    def submit(self, script: Path, name: str) -> str:
        before = mark(self._file(script, "", ".error"))
        job = submitted(["qsub", "--jobname", name, str(script)], r"^(\d+)\s*$", lambda: self._named(name))
        self._marks[job] = before
        return job

    def _named(self, name: str) -> list[str]:
        return [live.job for live in self.live([], names=True) if live.name == name]

    def cancel(self, jobs: Collection[str]) -> None:
        answer = run(["qdel", *jobs])
        if answer.code != 0 and not says(answer.words, ("not found", "unknown job")):
            raise answer.unreachable()

    def log(self, script: Path, job: str | None) -> Path | None:
        return self._file(script, job, ".output")

    @staticmethod
    def _file(script: Path, job: str | None, suffix: str) -> Path | None:
        """One of the files that Cobalt writes for a job."""
        words = options(script, "#COBALT")
        own = {".output": ("-o", "--output"), ".error": ("-e", "--error"), ".cobaltlog": ("--debuglog", "--debuglog")}
        given = value(words, *own[suffix])
        if not given:
            given = (value(words, "-O", "--outputprefix") or "$jobid") + suffix
        if "$jobid" in given and not job:
            return None
        return Path(value(words, "--cwd", "--cwd") or "", given.replace("$jobid", job or ""))


def parse_table(text: str) -> list[Live]:
    """The rows of a table with the columns of HEADER: the id comes first, the state last."""
    jobs = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 3 and words[0].isdigit():
            jobs.append(Live(words[0], " ".join(words[1:-1]), state_of(words[-1]), words[-1]))
    return jobs


def state_of(state: str) -> State:
    """Cobalt's state in our words. (maxrun_hold: the user's limit of running jobs, it goes by itself.)"""
    if state in ENDING:
        return State.ENDING
    if state in RUNNING:
        return State.RUNNING
    return State.HELD if state.endswith("_hold") and state != "maxrun_hold" else State.QUEUED


def own_part(log: str, job: str) -> str:
    """The part of a .cobaltlog that is about one job: those submitted with the same prefix write into one file."""
    marks = list(OF_JOB.finditer(log))
    if not marks:
        return log
    mine = [mark for mark in marks if mark[1] == job]
    if not mine:
        return ""
    end = next((mark.start() for mark in marks if mark.start() > mine[0].start() and mark[1] != job), len(log))
    return log[mine[0].start() : end]


def judge(log: str, job: str, error: str) -> Ended:
    """A job that is no longer in the queue, by the log's verdict; UNKNOWN where the log has none yet."""
    part = own_part(log, job)
    codes = CODE.findall(part)
    told = exited(int(codes[-1])) if codes else UNKNOWN
    if says(part, DELETED_WORDS):
        return replace(told, outcome=Outcome.CANCELLED, detail="deleted")
    if says(part, WALLTIME_WORDS):
        return replace(told, outcome=Outcome.WALLTIME, detail="maximum execution time exceeded")
    if told.exit_code is None and says(part, FAILURE_WORDS):
        return replace(told, outcome=Outcome.LAUNCH_FAILED, detail="execution failure")
    if told.exit_code in (None, 0):
        return told
    if says(error, MEMORY_WORDS):
        return replace(told, outcome=Outcome.OUT_OF_MEMORY, detail=f"out of memory, {told.detail}")
    if says(error, NODE_WORDS):
        return replace(told, outcome=Outcome.NODE_FAILURE, detail=f"a node failed, {told.detail}")
    return told
