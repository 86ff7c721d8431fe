"""PBS Pro: qselect and qstat in JSON for what lives and, with -x, for what has ended; qsub, qdel."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_batch_script.schedulers.base import (
    UNKNOWN,
    Ended,
    Live,
    Outcome,
    State,
    UnreachableError,
    exited,
    killed_by,
)
from snakemake_executor_plugin_batch_script.schedulers.commands import Answer, run, submitted, user
from snakemake_executor_plugin_batch_script.schedulers.directives import options, value
from snakemake_executor_plugin_batch_script.schedulers.evidence import NOTHING, Mark, mark, says, tail
from snakemake_executor_plugin_batch_script.schedulers.qstat_json import Listing, read

STATES = {"R": State.RUNNING, "B": State.RUNNING, "S": State.RUNNING, "U": State.RUNNING, "E": State.ENDING,
          "H": State.HELD}  # fmt: skip
ENDED = {"F", "X"}  # finished, also a subjob
MOVED = "M"  # to another server, which is to be asked: <id>@<server>
DELETED = 91  # the substate of a job that qdel ended
FINISHED = 92
# Statuses below 0 are the server's: a limit or a node ended the job. (All others: it could not be started.)
SERVER_OUTCOMES = {
    -4: Outcome.NODE_FAILURE, -5: Outcome.NODE_FAILURE, -6: Outcome.NODE_FAILURE,
    -26: Outcome.OUT_OF_MEMORY, -27: Outcome.OUT_OF_MEMORY, -29: Outcome.WALLTIME,
}  # fmt: skip
WALLTIME_WORDS = ("job killed: walltime",)
MEMORY_WORDS = ("oom-kill", "cgroup mem limit exceeded", "job killed: mem ", "job killed: vmem ")
UNKNOWN_JOB = re.compile(r"Unknown Job Id:? *(\S+)", re.IGNORECASE)
FINISHED_JOB = re.compile(r"qstat: *(\S+) Job has finished", re.IGNORECASE)
OWN_NAME = re.compile(r"[cp]-[0-9a-f]{12}")
CHUNK = 200  # ids in one command line
MOVED_AGAIN = 600.0  # seconds until a server is asked again that told nothing of a job that was moved to it


class Pbs:
    """The commands. `_marks` holds what a job's log was when it was submitted."""

    programs: tuple[str, ...] = ("qsub", "qstat", "qdel")

    def __init__(self) -> None:
        self._marks: dict[str, Mark] = {}
        self._moved: dict[str, Moved] = {}
        self._silent: dict[str, tuple[float, str]] = {}  # when a moved job's server told nothing of it, in s, and why
        self._selects = self._selects_moved = True  # whether qselect works here, and finds moved jobs

    def live(self, jobs: Collection[str], names: bool) -> list[Live]:
        """Everybody's jobs in full are a burden to a big server and hold texts of others: ours are asked for by id.

        Where there is no working qselect, jobs are looked for by name in the list of all.
        """
        wanted = set(jobs)
        if names:
            mine = self._own()
            if mine is None:
                return [*self._all(wanted), *self._followed(wanted)]
            for job in mine & set(self._moved):  # it is back
                del self._moved[job]
            wanted |= mine
            wanted |= self._own_moved()
        here = sorted(wanted - set(self._moved))
        told, silent = self._ask(here, history=False)
        # of several jobs some versions print the first one only
        found = self._all(here) if silent else parse_live(told, user())
        return [*found, *self._followed(wanted)]

    def _own(self) -> set[str] | None:
        """The ids of this user's live jobs; None where qselect cannot tell. Raises UnreachableError."""
        if not self._selects:
            return None
        try:
            answer = run(["qselect", "-u", user()])
        except UnreachableError as error:
            if "No such file" not in str(error) and "Permission denied" not in str(error):
                raise
            self._selects = False
            return None
        if answer.transient:
            raise answer.unreachable()
        if answer.code != 0:
            return None
        return set(re.findall(r"^\s*(\d+(?:\[\d*\])?\.\S+|\d+)\s*$", answer.out, re.MULTILINE))

    def _own_moved(self) -> set[str]:
        """The ids of jobs with names of ours that were moved to other servers, as far as the server keeps a history."""
        if not self._selects_moved:
            return set()
        answer = run(["qselect", "-x", "-s", MOVED, "-u", user()])
        if answer.code != 0:
            if answer.transient:
                raise answer.unreachable()
            self._selects_moved = False
            return set()
        ids = set(re.findall(r"^\s*(\d+\S*)\s*$", answer.out, re.MULTILINE))
        if fresh := sorted(ids - set(self._moved)):
            for job, record in self._ask(fresh, history=True)[0].items():
                if record.get("job_state") == MOVED and not ended_elsewhere(record):
                    self._moved[job] = Moved.of(record)
        return {job for job in ids if job in self._moved and OWN_NAME.fullmatch(self._moved[job].name)}

    def _all(self, jobs: Iterable[str]) -> list[Live]:
        """This user's live jobs in the list of everybody's. Raises UnreachableError if one of ours may be missing."""
        owner = user()
        answer = run(["qstat", "-f", "-F", "json"])
        return parse_live(records(answer, (f"{owner}@", f'"{owner}"', *(f'"{job}"' for job in jobs))), owner)

    def _ask(self, jobs: Sequence[str], history: bool) -> tuple[dict[str, dict[str, Any]], set[str]]:
        """The records of `jobs`, and those of which nothing was said at all. Raises UnreachableError."""
        told: dict[str, dict[str, Any]] = {}
        silent: set[str] = set()
        for start in range(0, len(jobs), CHUNK):
            chunk = jobs[start : start + CHUNK]
            answer = qstat(chunk, history)
            listing = listed(answer, chunk)
            if damaged := sorted(listing.damaged & set(chunk)):
                raise UnreachableError(f"qstat: what it says of job {damaged[0]} cannot be read")
            known = {job: record for job, record in listing.jobs.items() if job in chunk}
            told |= known
            gone = unknown_jobs(answer.err) | set(FINISHED_JOB.findall(answer.err))
            silent |= {
                job for job in chunk if job not in known and job not in gone and job.partition(".")[0] not in gone
            }
        return told, silent

    def ended(self, jobs: Mapping[str, Path]) -> dict[str, Ended | Live]:
        told, silent = self._ask(list(jobs), history=True)
        if len(jobs) > 1:
            for job in sorted(silent):
                alone, nothing = self._ask([job], history=True)
                told |= alone
                silent -= set(alone) if nothing else {job}
        found: dict[str, Ended | Live] = {job: UNKNOWN for job in jobs if job not in told and job not in silent}
        for job, script in jobs.items():
            if (record := told.get(job)) is None:
                continue
            if record.get("job_state") == MOVED:
                found[job] = self._moved_to(job, script, record)
            else:
                found[job] = self._judged(job, script, record)
        return found

    def _judged(self, job: str, script: Path | None, record: Mapping[str, Any]) -> Ended | Live:
        if script is None:
            return judge(job, record, "")
        # written where it stays (-k), not copied there at the end
        kept = (value(options(script, "#PBS"), "-k") or "n") != "n"
        return judge(job, record, tail(self.log(script, job), self._marks.get(job, NOTHING), appended=kept))

    def _followed(self, jobs: Iterable[str]) -> list[Live]:
        """Those of `jobs` that were moved, and that live at their servers (or may do so)."""
        told = {job: self._follow(job, None) for job in sorted(set(jobs) & set(self._moved))}
        return [live for live in told.values() if isinstance(live, Live)]

    def _moved_to(self, job: str, script: Path | None, record: Mapping[str, Any]) -> Ended | Live:
        """A job by the record that the server keeps from which it was moved."""
        if ended_elsewhere(record):
            self._moved.pop(job, None)
            return UNKNOWN
        if self._moved.get(job) != Moved.of(record):
            self._silent.pop(job, None)
        self._moved[job] = Moved.of(record)
        return self._follow(job, script)

    def _follow(self, job: str, script: Path | None) -> Ended | Live:
        """What the server that a job was moved to tells of it. As long as it tells nothing, the job counts as there.

        One such server must not keep the others' jobs waiting: it is asked again after MOVED_AGAIN, and where the job
        was moved from is asked whether it has been moved on, or back.
        """
        moved = self._moved[job]
        asked, reason = self._silent.get(job, (-MOVED_AGAIN, ""))
        if time.monotonic() - asked < MOVED_AGAIN:
            return Live(job, moved.name, State.HELD, reason)
        problem = "does not say where"
        if moved.server:
            try:
                answer = qstat([f"{job}@{moved.server}"], history=True)
                listing = listed(answer, [job])
                record = listing.jobs.get(job)
                if record is not None and record.get("job_state") != MOVED:
                    self._silent.pop(job, None)
                    return self._judged(job, script, record)
                if record is None and {job, job.partition(".")[0]} & unknown_jobs(answer.err.replace("@", " ")):
                    self._silent.pop(job, None)
                    return UNKNOWN
                problem = f"was moved on to {Moved.of(record).destination}" if record else "gives no answer about it"
            except UnreachableError as error:
                problem = f"gives no answer: {error}"
        reason = f"it was moved to {moved.destination}, which {problem}"
        self._silent[job] = time.monotonic(), reason
        home = self._ask([job], history=True)[0].get(job)
        if home is not None and (home.get("job_state") != MOVED or ended_elsewhere(home)):
            del self._moved[job], self._silent[job]
            if home.get("job_state") == MOVED:
                return UNKNOWN
            return self._judged(job, script, home)
        if home is not None and Moved.of(home) != moved:  # the next question goes there
            self._moved[job] = Moved.of(home)
            del self._silent[job]
        return Live(job, moved.name, State.HELD, reason)

    def submit(self, script: Path, name: str) -> str:
        before = mark(self.log(script, None))
        job = submitted(
            ["qsub", "-N", name, str(script)],
            r"^[ \t]*(\d+(?:\[\])?(?:\.[A-Za-z0-9][\w.-]*)?)[ \t\r]*$",
            lambda: self._named(name),
        )
        self._marks[job] = before
        return job

    def _named(self, name: str) -> list[str]:
        return [live.job for live in self.live([], names=True) if live.name == name]

    def cancel(self, jobs: Collection[str]) -> None:
        answer = run(["qdel", *(f"{job}@{self._moved[job].server}" if job in self._moved else job for job in jobs)])
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


def qstat(jobs: Sequence[str], history: bool) -> Answer:
    """The records of `jobs`; with `history` those of ended ones, too, where the server keeps them."""
    asked = ["-f", "-F", "json", *jobs]
    if not history:
        return run(["qstat", *asked])
    answer = run(["qstat", "-x", *asked])
    return run(["qstat", *asked]) if "not configured to maintain job history" in answer.words else answer


def unknown_jobs(text: str) -> set[str]:
    """The ids that qstat says it does not know."""
    return set(UNKNOWN_JOB.findall(text))


def listed(answer: Answer, marks: Collection[str] | None = None) -> Listing:
    """The listing of `qstat -f -F json`; it prints jobs that it knows even if it ends with an error for others.

    `marks` as for `read`. Raises UnreachableError if there is no answer in it.
    """
    if answer.code != 0 and (answer.transient or not says(answer.err, ("unknown job id", "job has finished"))):
        raise answer.unreachable()
    if not answer.out.strip():
        if answer.code != 0:  # not one of the jobs is known
            return Listing()
        raise UnreachableError("qstat: an empty answer")
    try:
        return read(answer.out, marks)
    except ValueError as error:
        raise UnreachableError(f"qstat: its answer cannot be read ({error})") from None


def records(answer: Answer, marks: Collection[str] | None = None) -> dict[str, dict[str, Any]]:
    """The jobs of a listing by id. Raises UnreachableError if one that has a mark may be missing."""
    listing = listed(answer, marks)
    if listing.doubt or listing.damaged:
        jobs = ", ".join(sorted(listing.damaged)[:3])
        raise UnreachableError(f"qstat: its answer cannot be read ({listing.doubt or f'job {jobs} is damaged'})")
    return listing.jobs


@dataclass(frozen=True)
class Moved:
    """A job that is at another server by now; the old one keeps the destination, `queue@server`, as its queue."""

    name: str
    destination: str

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Moved:
        told = re.search(r'moved to \\?"?([^"\\\s]+)', str(record.get("comment", "")))  # (svr_jobfunc.c of openpbs)
        queue = str(record.get("queue", ""))
        return cls(str(record.get("Job_Name", "")), queue if "@" in queue or not told else told[1])

    @property
    def server(self) -> str:
        server = self.destination.rpartition("@")[2] if "@" in self.destination else ""
        return server if re.fullmatch(r"[A-Za-z0-9][\w.:-]*", server) else ""


def ended_elsewhere(record: Mapping[str, Any]) -> bool:
    """Whether a moved job's record says that it has ended where it was moved to (openpbs, track_history_job)."""
    return str(record.get("substate")) == str(FINISHED) or says(str(record.get("comment", "")), ("job finished at",))


def parse_live(jobs: Mapping[str, Mapping[str, Any]], owner: str) -> list[Live]:
    """The live jobs of a user."""
    return [
        live_of(job, record)
        for job, record in jobs.items()
        if str(record.get("Job_Owner", "")).split("@")[0] == owner and record.get("job_state") not in {*ENDED, MOVED}
    ]


def live_of(job: str, record: Mapping[str, Any]) -> Live:
    state = STATES.get(str(record.get("job_state")), State.HELD if record.get("job_state") == MOVED else State.QUEUED)
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
