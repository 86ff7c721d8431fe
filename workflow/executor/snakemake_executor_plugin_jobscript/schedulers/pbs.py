"""PBS Pro: qstat in JSON for what lives and, with -x, for what has ended; qsub, qdel."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

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
from snakemake_executor_plugin_jobscript.schedulers.commands import Answer, run, submitted, user
from snakemake_executor_plugin_jobscript.schedulers.directives import options, value
from snakemake_executor_plugin_jobscript.schedulers.evidence import NOTHING, Mark, mark, says, tail

STATES = {"R": State.RUNNING, "B": State.RUNNING, "S": State.RUNNING, "U": State.RUNNING, "E": State.ENDING,
          "H": State.HELD}  # fmt: skip
ENDED = {"F", "X", "M"}  # finished, also a subjob; moved to another server, which is not ours to ask
DELETED = 91  # the substate of a job that qdel ended
# Statuses below 0 are the server's: a limit or a node ended the job. (All others: it could not be started.)
SERVER_OUTCOMES = {
    -4: Outcome.NODE_FAILURE, -5: Outcome.NODE_FAILURE, -6: Outcome.NODE_FAILURE,
    -26: Outcome.OUT_OF_MEMORY, -27: Outcome.OUT_OF_MEMORY, -29: Outcome.WALLTIME,
}  # fmt: skip
WALLTIME_WORDS = ("job killed: walltime",)
MEMORY_WORDS = ("oom-kill", "cgroup mem limit exceeded", "job killed: mem ", "job killed: vmem ")
UNKNOWN_JOB = re.compile(r"Unknown Job Id:? *(\S+)", re.IGNORECASE)


class Pbs:
    """The commands. `_marks` holds what a job's log was when it was submitted."""

    programs: tuple[str, ...] = ("qsub", "qstat", "qdel")

    def __init__(self) -> None:
        self._marks: dict[str, Mark] = {}

    def live(self, jobs: Collection[str], names: bool) -> list[Live]:
        # Everybody's jobs in full are a burden to a big server, so they are asked for only to find a job by its name.
        answer = run(["qstat", "-f", "-F", "json", *([] if names else jobs)])
        return parse_live(records(answer), user())

    def ended(self, jobs: Mapping[str, Path]) -> dict[str, Ended | Live]:
        answer = run(["qstat", "-x", "-f", "-F", "json", *jobs])
        unknown = unknown_jobs(answer.err)
        if "not configured to maintain job history" in answer.words:
            answer = run(["qstat", "-f", "-F", "json", *jobs])
            unknown = unknown_jobs(answer.err)
        told = records(answer)
        found: dict[str, Ended | Live] = {job: UNKNOWN for job in jobs if job in unknown}
        for job, script in jobs.items():
            if (record := told.get(job)) is not None:
                # written where it stays (-k), not copied there at the end
                kept = (value(options(script, "#PBS"), "-k") or "n") != "n"
                text = tail(self.log(script, job), self._marks.get(job, NOTHING), appended=kept)
                found[job] = judge(job, record, text)
        return found

    def submit(self, script: Path, name: str) -> str:
        before = mark(self.log(script, None))
        job = submitted(["qsub", "-N", name, str(script)], r"^(\d+(?:\[\])?(?:\.\S+)?)\s*$")
        self._marks[job] = before
        return job

    def cancel(self, jobs: Collection[str]) -> None:
        answer = run(["qdel", *jobs])
        if answer.code != 0 and not says(answer.words, ("unknown job id", "has finished")):
            raise answer.unreachable()

    def log(self, script: Path, job: str | None) -> Path | None:
        words = options(script, "#PBS")
        given = value(words, "-o")
        if not given:
            return None
        path = re.sub(r"^[\w.-]+:", "", given)  # host:path
        path = path.replace("^array_index^", "").replace("$PBS_JOBID", job or "$PBS_JOBID")
        return Path(path) / f"{job}.OU" if given.endswith("/") else Path(path)


def unknown_jobs(text: str) -> set[str]:
    """The ids that qstat says it does not know."""
    return set(UNKNOWN_JOB.findall(text))


def records(answer: Answer) -> dict[str, dict[str, Any]]:
    """The jobs of `qstat -f -F json` by id; it prints those it knows even if it ends with an error for others.

    Raises UnreachableError if there is no answer in it.
    """
    if answer.code != 0 and (answer.transient or not says(answer.err, ("unknown job id", "job has finished"))):
        raise answer.unreachable()
    if not answer.out.strip():
        if answer.code != 0:  # not one of the jobs is known
            return {}
        raise UnreachableError("qstat: an empty answer")
    try:
        content = parse_json(answer.out)
    except ValueError as error:
        raise UnreachableError(f"qstat: not JSON ({error})") from None
    jobs = content.get("Jobs", {}) if isinstance(content, dict) else {}
    return {str(job): record for job, record in jobs.items() if isinstance(record, dict)}


def parse_json(text: str) -> Any:
    """JSON as qstat writes it: control characters in strings, bare numbers with leading zeros, stray backslashes."""
    with suppress(ValueError):
        return json.loads(text, strict=False)
    text = re.sub(r"(:\s*)(-?0\d+(?:\.\d*)?)(\s*[,}\n])", r'\1"\2"\3', text)
    text = re.sub(r'\\(?!["\\/bfnrtu])', r"\\\\", text)
    return json.loads(text, strict=False)


def parse_live(jobs: Mapping[str, Mapping[str, Any]], owner: str) -> list[Live]:
    """The live jobs of a user."""
    return [
        live_of(job, record)
        for job, record in jobs.items()
        if str(record.get("Job_Owner", "")).split("@")[0] == owner and record.get("job_state") not in ENDED
    ]


def live_of(job: str, record: Mapping[str, Any]) -> Live:
    state = STATES.get(str(record.get("job_state")), State.QUEUED)
    return Live(job, str(record.get("Job_Name", "")), state, str(record.get("comment", "")))


def judge(job: str, record: Mapping[str, Any], log: str) -> Ended | Live:
    """One job by its record and by what it wrote."""
    if record.get("job_state") not in ENDED:
        return live_of(job, record)
    used, limit = _walltime(record, "resources_used"), _walltime(record, "Resource_List")
    told = _verdict(record, log, used, limit)
    return replace(told, queued=between(record.get("ctime"), record.get("stime")), run=used)


def _verdict(record: Mapping[str, Any], log: str, used: float | None, limit: float | None) -> Ended:
    comment = str(record.get("comment", ""))
    try:
        status = int(record["Exit_status"])
    except (KeyError, TypeError, ValueError):
        # it never ran: deleted in the queue, or aborted by the server
        deleted = str(record.get("substate")) == str(DELETED) or says(comment, ("deleted",)) or "stime" not in record
        return Ended(Outcome.CANCELLED, detail=comment or "deleted while queued") if deleted else UNKNOWN
    if status < 0:
        return Ended(SERVER_OUTCOMES.get(status, Outcome.LAUNCH_FAILED), None, f"Exit_status {status}, {comment}")
    if status == 0:
        return exited(0)
    signal = status - 256 if status > 256 else None
    told = killed_by(signal) if signal else exited(status)
    if says(log, WALLTIME_WORDS) or (signal and used is not None and limit and used >= limit):
        return replace(told, outcome=Outcome.WALLTIME, detail=f"walltime exceeded, {told.detail}")
    if says(log, MEMORY_WORDS):
        return replace(told, outcome=Outcome.OUT_OF_MEMORY, detail=f"out of memory, {told.detail}")
    if str(record.get("substate")) == str(DELETED):
        return replace(told, outcome=Outcome.CANCELLED, detail=f"deleted, {told.detail}")
    return told


def _walltime(record: Mapping[str, Any], key: str) -> float | None:
    """A walltime in seconds, from [[hours:]minutes:]seconds; None where there is none."""
    resources = record.get(key)
    text = str(resources.get("walltime", "")) if isinstance(resources, dict) else ""
    if not re.fullmatch(r"\d+(:\d+){0,2}", text):
        return None
    seconds = 0
    for part in text.split(":"):
        seconds = seconds * 60 + int(part)
    return float(seconds)


def between(begin: Any, end: Any) -> float | None:
    """Seconds between two times in the form of ctime(3); None if one is missing."""
    form = "%a %b %d %H:%M:%S %Y"
    try:
        return max(0.0, (datetime.strptime(str(end), form) - datetime.strptime(str(begin), form)).total_seconds())
    except ValueError:
        return None
