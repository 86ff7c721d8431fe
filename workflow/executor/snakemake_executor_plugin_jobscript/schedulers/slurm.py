"""Slurm: squeue for what lives, scontrol (then sacct, where it works) for what has ended, sbatch, scancel."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from snakemake_executor_plugin_jobscript.schedulers.base import (
    UNKNOWN,
    Ended,
    Live,
    Outcome,
    State,
    UnreachableError,
    exited,
    killed_by,
)
from snakemake_executor_plugin_jobscript.schedulers.commands import run, submitted
from snakemake_executor_plugin_jobscript.schedulers.directives import options, value

COLUMNS = "%i|%j|%T|%S|%r"
RUNNING = {"RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "CONFIGURING"}
ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
}  # fmt: skip
OUTCOMES = {
    "BOOT_FAIL": Outcome.LAUNCH_FAILED,
    "CANCELLED": Outcome.CANCELLED,
    "DEADLINE": Outcome.WALLTIME,
    "NODE_FAIL": Outcome.NODE_FAILURE,
    "OUT_OF_MEMORY": Outcome.OUT_OF_MEMORY,
    "PREEMPTED": Outcome.KILLED,
    "REVOKED": Outcome.CANCELLED,
    "TIMEOUT": Outcome.WALLTIME,
}
LAUNCH_REASONS = ("launch", "prolog", "badconstraints")
LAUNCH_SIGNAL = 53  # Slurm's own, for a script that could not be started, as where its output file cannot be opened
# A script may ask for SIGTERM some time before its limit (sbatch --signal) and then ends by itself. Slurm sends it up
# to a minute earlier than asked.
LAST_SECONDS = 150
SACCT = "JobIDRaw,JobName,State,ExitCode,Submit,Start,End,Timelimit,Reason"


class Slurm:
    """The commands. Which accounting there is turns out at the first question that needs it."""

    programs: tuple[str, ...] = ("sbatch", "squeue", "scontrol", "scancel")

    def __init__(self) -> None:
        self._accounting = True

    def live(self, jobs: Collection[str], names: bool) -> list[Live]:
        answer = run(["squeue", "--me", "-h", "-o", COLUMNS])
        if answer.code != 0:
            raise answer.unreachable()
        return parse_queue(answer.out)

    def ended(self, jobs: Mapping[str, Path]) -> dict[str, Ended | Live]:
        found: dict[str, Ended | Live] = {}
        for job in jobs:  # scontrol takes one job at a time
            answer = run(["scontrol", "--oneliner", "show", "job", job])
            if answer.code == 0:
                found |= {seen: told for seen, told in parse_details(answer.out).items() if seen == job}
            elif "invalid job id" in answer.words.lower():
                found[job] = UNKNOWN
            else:
                raise answer.unreachable()
        forgotten = [job for job, told in found.items() if told == UNKNOWN]
        return found | (self._from_accounting(forgotten) if forgotten and self._accounting else {})

    def _from_accounting(self, jobs: list[str]) -> dict[str, Ended | Live]:
        """Of jobs that the controller has forgotten; empty where there is no accounting."""
        try:
            answer = run(["sacct", "-X", "-n", "-P", "-o", SACCT, "-j", ",".join(jobs)])
        except UnreachableError:
            return {}
        if answer.code != 0:
            self._accounting = answer.transient
            return {}
        told = parse_accounting(answer.out)
        # the database lags behind: what it takes for alive, the controller no longer knows
        return {job: told[job] for job in jobs if isinstance(told.get(job), Ended)}

    def submit(self, script: Path, name: str) -> str:
        return submitted(["sbatch", "--parsable", "-J", name, str(script)], r"^(\d+)(?:;\S+)?$")

    def cancel(self, jobs: Collection[str]) -> None:
        answer = run(["scancel", *jobs])
        if answer.code != 0 and "invalid job id" not in answer.words.lower():
            raise answer.unreachable()

    def log(self, script: Path, job: str | None) -> Path | None:
        given = value(options(script, "#SBATCH"), "-o", "--output") or "slurm-%j.out"
        return Path(re.sub(r"%[jA]", job, given)) if job else None if "%" in given else Path(given)


def parse_queue(text: str) -> list[Live]:
    """The lines of squeue, by COLUMNS. Lines of another form (messages) and jobs that have ended are left out."""
    jobs = []
    for line in text.splitlines():
        parts = line.strip().split("|")
        if len(parts) >= 5 and parts[0].split("_")[0].isdigit():
            # a name may contain the separator: count from both ends
            job, name, state, reason = parts[0], "|".join(parts[1:-3]), parts[-3], parts[-1]
            if state not in ENDED:
                jobs.append(Live(job, name, state_of(state, reason), reason))
    return jobs


def state_of(state: str, reason: str) -> State:
    """Slurm's state and reason in our words."""
    if state == "COMPLETING":
        return State.ENDING
    if state in RUNNING:
        return State.RUNNING
    held = "held" in reason.lower() or reason == "DependencyNeverSatisfied"
    return State.HELD if held else State.QUEUED


def parse_details(text: str) -> dict[str, Ended | Live]:
    """The jobs of `scontrol show job`, a line or a paragraph each. One without a state is left out: no answer."""
    found: dict[str, Ended | Live] = {}
    for part in re.split(r"^(?=JobId=)", text, flags=re.MULTILINE):
        # a value ends where the next KEY= begins: some contain blanks
        fields = dict(re.findall(r"(?:^|\s)([A-Za-z][\w/:]*)=(.*?)(?=\s+[A-Za-z][\w/:]*=|\s*$)", part, re.DOTALL))
        if (job := fields.get("JobId")) and fields.get("JobState"):
            found[job] = judge(job, fields)
    return found


def parse_accounting(text: str) -> dict[str, Ended | Live]:
    """The lines of sacct, by SACCT."""
    keys = ("JobId", "JobName", "JobState", "ExitCode", "SubmitTime", "StartTime", "EndTime", "TimeLimit", "Reason")
    lines = [line.split("|") for line in text.splitlines()]
    return {
        parts[0]: judge(parts[0], dict(zip(keys, parts, strict=True))) for parts in lines if len(parts) == len(keys)
    }


def judge(job: str, fields: Mapping[str, str]) -> Ended | Live:
    """One job by its fields, named as scontrol names them."""
    state = (fields.get("JobState") or "UNKNOWN").split()[0].rstrip("+")  # "CANCELLED by 1000"
    reason = fields.get("Reason", "")
    if state not in ENDED:
        return Live(job, fields.get("JobName", ""), state_of(state, reason), reason)
    run_seconds = between(fields.get("StartTime"), fields.get("EndTime"))
    queued = between(fields.get("SubmitTime"), fields.get("StartTime"))
    code, _, signal = fields.get("ExitCode", "").partition(":")
    limit = seconds_of(fields.get("TimeLimit", ""))
    if state in OUTCOMES:
        told = Ended(OUTCOMES[state], detail=state if reason in ("", "None") else f"{state}, {reason}")
    elif not code.isdigit():
        told = UNKNOWN
    elif signal == str(LAUNCH_SIGNAL):
        told = Ended(Outcome.LAUNCH_FAILED, None, "Slurm could not start the script (signal 53): see its log's folder")
    elif signal.isdigit() and int(signal) > 0:
        told = killed_by(int(signal))
    elif int(code) and any(word in reason.lower() for word in LAUNCH_REASONS):
        told = Ended(Outcome.LAUNCH_FAILED, int(code), reason)
    elif state == "FAILED" and int(code) == 0:
        told = Ended(Outcome.LAUNCH_FAILED, None, f"{state}, {reason}")
    else:
        told = exited(int(code))
        if int(code) > 2 and limit and run_seconds and run_seconds > max(limit - LAST_SECONDS, limit / 2):
            told = Ended(Outcome.WALLTIME, int(code), f"exit code {code} just before the limit of {limit:.0f} s")
    return replace(told, queued=queued, run=run_seconds)


def between(begin: str | None, end: str | None) -> float | None:
    """Seconds between two of Slurm's times; None if one of them never came ("Unknown")."""
    try:
        return max(0.0, (datetime.fromisoformat(end or "") - datetime.fromisoformat(begin or "")).total_seconds())
    except ValueError:
        return None


def seconds_of(limit: str) -> float | None:
    """A limit as [days-]hours:minutes:seconds in seconds; None for UNLIMITED and the like."""
    if not (match := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", limit)):
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds
