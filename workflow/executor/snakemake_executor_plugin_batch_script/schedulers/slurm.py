"""Slurm: squeue for what lives, scontrol (then sacct, where it works) for what has ended, sbatch, scancel."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from snakemake_executor_plugin_batch_script.schedulers.base import (
    UNKNOWN,
    Ended,
    Live,
    Outcome,
    RefusedError,
    State,
    UnreachableError,
    exited,
    killed_by,
)
from snakemake_executor_plugin_batch_script.schedulers.commands import run, submitted, user
from snakemake_executor_plugin_batch_script.schedulers.directives import options, value

ALL = "all"  # clusters, for Slurm: no id says so, since scancel -M all would end jobs of that number elsewhere
CLUSTER = re.compile(r"[\w.-]+")
ARRAY_JOB = re.compile(r"\d+(?:_(?:\d+|\[.*\]))?(?:\+\d+)?")
NO_ARRAY = 0xFFFFFFFE  # what %a is for a job that is not part of an array
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
        self._clusters: set[str] = set()  # that scripts or the user's environment name
        self._names: dict[str, str] = {}

    def know(self, script: Path, log: Path | None = None) -> None:
        """A script may be at another cluster already: `--clusters` in it, or in the environment, says at which."""
        self._clusters |= {name for name in clusters_of(script) if name.lower() != ALL}

    def live(self, jobs: Collection[str], names: bool) -> list[Live]:
        clusters = {cluster_of(job) for job in jobs} | (self._clusters if names else set())
        found: list[Live] = []
        for cluster in sorted({*clusters, ""}):
            answer = run(["squeue", *where(cluster), "--me", "-h", "-o", COLUMNS])
            if answer.code != 0:
                raise answer.unreachable()
            found += parse_queue(answer.out, cluster)
        # our own cluster may be named as well: such a job is told once, by the id that it is known by
        named = {(live.job.partition(";")[0], live.name): live.job for live in found if cluster_of(live.job)}
        twins = {live.job: named.get((live.job, live.name)) for live in found}
        hidden = {other if job in jobs else job for job, other in twins.items() if other and other != job}
        return [live for live in found if live.job not in hidden]

    def ended(self, jobs: Mapping[str, Path]) -> dict[str, Ended | Live]:
        found: dict[str, Ended | Live] = {}
        for job in jobs:  # scontrol takes one job at a time
            number, _, cluster = job.partition(";")
            answer = run(["scontrol", *where(cluster), "--oneliner", "show", "job", number])
            if answer.code == 0:
                if told := parse_details(answer.out).get(number):
                    found[job] = replace(told, job=job) if isinstance(told, Live) else told
            elif "invalid job id" in answer.words.lower():
                found[job] = UNKNOWN
            else:
                raise answer.unreachable()
        forgotten = [job for job, told in found.items() if told == UNKNOWN]
        if self._accounting:
            for cluster in sorted({cluster_of(job) for job in forgotten}):
                found |= self._from_accounting([job for job in forgotten if cluster_of(job) == cluster], cluster)
        return found

    def _from_accounting(self, jobs: list[str], cluster: str) -> dict[str, Ended | Live]:
        """Of jobs that the controller has forgotten; empty where there is no accounting."""
        try:
            numbers = [job.partition(";")[0] for job in jobs]
            answer = run(["sacct", *where(cluster), "-X", "-n", "-P", "-o", SACCT, "-j", ",".join(numbers)])
        except UnreachableError:
            return {}
        if answer.code != 0:
            self._accounting = answer.transient
            return {}
        told = {f"{job};{cluster}" if cluster else job: end for job, end in parse_accounting(answer.out).items()}
        # the database lags behind: what it takes for alive, the controller no longer knows
        return {job: told[job] for job in jobs if isinstance(told.get(job), Ended)}

    def submit(self, script: Path, name: str) -> str:
        if any(name.lower() == ALL for name in clusters_of(script)):
            raise RefusedError(
                "--clusters (or SBATCH_CLUSTERS, SLURM_CLUSTERS) is all: a job is followed at clusters by name"
            )
        self.know(script)
        command = ["sbatch", "--parsable", "-J", name, str(script)]
        job = submitted(command, r"^[ \t]*(\d+(?:;[\w.-]+)?)[ \t\r]*$", lambda: self._named(name))
        self._names[job] = name
        return job

    def _named(self, name: str) -> list[str]:
        return [live.job for live in self.live([], names=True) if live.name == name]

    def cancel(self, jobs: Collection[str]) -> None:
        for cluster in sorted({cluster_of(job) for job in jobs}):
            numbers = [job.partition(";")[0] for job in jobs if cluster_of(job) == cluster]
            answer = run(["scancel", *where(cluster), *numbers])
            if answer.code != 0 and "invalid job id" not in answer.words.lower():
                raise answer.unreachable()

    def log(self, script: Path, job: str | None) -> Path | None:
        given = value(options(script, "#SBATCH"), "-o", "--output") or "slurm-%j.out"
        return file_name(given, (job or "").partition(";")[0], self._names.get(job or "", ""))


def clusters_of(script: Path) -> list[str]:
    """The clusters that sbatch chooses from for a script: the environment's, else the script's."""
    named = value(options(script, "#SBATCH"), "-M", "--clusters") or ""
    named = os.environ.get("SBATCH_CLUSTERS") or os.environ.get("SLURM_CLUSTERS") or named
    return [name for name in re.split(r"[,\s]+", named) if CLUSTER.fullmatch(name)]


def cluster_of(job: str) -> str:
    """The cluster in an id as `sbatch --parsable` prints it, `123;beta`; empty for the own one."""
    return job.partition(";")[2]


def where(cluster: str) -> list[str]:
    return ["-M", cluster] if cluster else []


def file_name(given: str, job: str, name: str) -> Path | None:
    """A file name as Slurm expands it for a batch job (sbatch(1), filename pattern; slurmstepd/fname.c).

    None where it depends on what is not known (yet). A backslash stands for "as it is", and is dropped.
    """
    if "\\" in given:
        return Path(given.replace("\\", ""))
    symbols = {"j": job, "J": job, "A": job, "x": name, "u": user(), "n": "0", "t": "0", "a": str(NO_ARRAY)}
    known = True

    def expanded(found: re.Match[str]) -> str:
        nonlocal known
        text = symbols.get(found[2], "")
        known &= bool(text)
        return text.zfill(min(int(found[1] or 0), 10)) if found[2] in "jJAnta" else text

    path = re.sub(r"%(\d*)([jJAxuntaNs])|%(%)", lambda m: "%" if m[3] else expanded(m), given)
    return Path(path) if known else None


def parse_queue(text: str, cluster: str = "") -> list[Live]:
    """The lines of squeue, by COLUMNS, of a cluster, or of those that it names in lines of their own.

    Lines of another form (messages) and jobs that have ended are left out.
    """
    jobs = []
    for line in text.splitlines():
        if found := re.fullmatch(r"CLUSTER: *(\S+)", line.strip()):
            cluster = found[1]
        parts = line.strip().split("|")
        if len(parts) >= 5 and ARRAY_JOB.fullmatch(parts[0]):
            # a name may contain the separator: count from both ends
            job, name, state, reason = parts[0], "|".join(parts[1:-3]), parts[-3], parts[-1]
            if state not in ENDED:
                job = f"{job};{cluster}" if cluster else job
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
