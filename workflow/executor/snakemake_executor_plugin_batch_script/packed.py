"""A scheduler whose jobs may hold several scripts: to the tracker each script is a job, with the id `<job>:<label>`.

Of each packed job there is a folder `.packs/<name>` beside its scripts: what it holds, its own script and output, and
what the runner notes of each of its scripts. So any driver finds them again by the job's name in a listing.
"""

from __future__ import annotations

import secrets
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from snakemake_executor_plugin_batch_script import runner
from snakemake_executor_plugin_batch_script.pack_folder import FOLDER, JOB, SCRIPT, jobs_in, write_pack
from snakemake_executor_plugin_batch_script.pack_record import SEPARATOR, Packed
from snakemake_executor_plugin_batch_script.schedulers.base import (
    UNKNOWN,
    Ended,
    LimitError,
    Live,
    RefusedError,
    Scheduler,
    UnreachableError,
)


class PackingScheduler:
    """The scheduler `inner`, and `submit` for several scripts at once. Scripts have to be made known by `know`."""

    def __init__(self, inner: Scheduler) -> None:
        self._inner = inner
        self._places: set[Path] = set()  # folders that hold the folders of packed jobs
        self._packs: dict[str, Packed] = {}  # by the job's name
        self._names: dict[str, str] = {}  # of packed jobs by id

    def know(self, script: Path, log: Path | None = None) -> None:
        """There may be packed jobs of an earlier driver beside this script, or it may be at another cluster."""
        if know := getattr(self._inner, "know", None):
            know(script, log)
        place = script.parent / FOLDER
        if place not in self._places:
            self._places.add(place)
            for job, name in jobs_in(place):
                self._names[job] = name

    def busy(self) -> str:
        """Why nothing may be submitted now; empty: nothing speaks against it."""
        busy = getattr(self._inner, "busy", None)
        return busy() if busy else ""

    def watched(self) -> list[int]:
        """Descriptors that become readable when a job ends; none where nothing but polls tells of that."""
        watched = getattr(self._inner, "watched", None)
        return watched() if watched else []

    def watch_no_more(self, descriptors: Collection[int]) -> None:
        """Some of those have told that something has ended."""
        if watch_no_more := getattr(self._inner, "watch_no_more", None):
            watch_no_more(descriptors)

    def live(self, jobs: Collection[str], names: bool) -> list[Live]:
        """As `Scheduler.live`, with the scripts of a packed job in its place."""
        listed: list[Live] = []
        for job in self._inner.live({job.partition(SEPARATOR)[0] for job in jobs}, names):
            if pack := self._pack(job.name):
                self._names[job.job] = job.name
                listed += [pack.live(job, member) for member in pack.members if not pack.has(member, runner.ENDED)]
            else:
                listed.append(job)
        return listed

    def ended(self, jobs: Mapping[str, Path]) -> dict[str, Ended | Live]:
        """As `Scheduler.ended`."""
        alone = {job: script for job, script in jobs.items() if SEPARATOR not in job}
        found = self._inner.ended(alone) if alone else {}
        for whole, labels in _by_job(jobs).items():
            pack = self._pack(self._names.get(whole, ""))
            members = {label: member for label in labels if pack and (member := pack.member(label))}
            judged = {label: pack.judge(member, None) for label, member in members.items()} if pack else {}
            job = None
            if pack is None or None in judged.values():
                script = pack.folder / SCRIPT if pack else jobs[whole + SEPARATOR + labels[0]]
                job = self._inner.ended({whole: script}).get(whole)
            if pack is None:
                # what it holds cannot be read (now): nothing is known of its scripts as long as it lives
                if isinstance(job, Ended):
                    found |= {whole + SEPARATOR + label: UNKNOWN for label in labels}
                continue
            if isinstance(job, Live) and job.name != pack.folder.name:
                job = UNKNOWN  # the scheduler counts anew, and the id is another job's by now
            found |= {whole + SEPARATOR + label: UNKNOWN for label in labels if label not in members}
            for label, member in members.items():
                if isinstance(job, Live) and judged[label] is None:
                    found[whole + SEPARATOR + label] = pack.live(job, member)
                elif told := judged[label] or pack.judge(member, job if isinstance(job, Ended) else None):
                    found[whole + SEPARATOR + label] = told
        return found

    def submit(self, scripts: Sequence[tuple[Path, str]]) -> list[str]:
        """Submit scripts (each with the name of its job) as one job; returns the id of each. Raises as
        `Scheduler.submit`."""
        if len(scripts) == 1:
            return [self._inner.submit(*scripts[0])]
        name = f"p-{secrets.token_hex(6)}"
        folder = scripts[0][0].parent / FOLDER / name
        try:
            write_pack(folder, scripts, lambda script: self._inner.log(script, None))
            self._places.add(folder.parent)
        except OSError as error:
            raise UnreachableError(f"{error.filename or folder}: {error.strerror or error}") from None
        try:
            job = self._inner.submit(folder / SCRIPT, name)
        except (RefusedError, LimitError):
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._names[job] = name
        self._pack(name)
        with suppress(OSError):  # it is found by its name, too, as long as it lives
            (folder / JOB).write_text(job)
        return [job + SEPARATOR + script.stem for script, _ in scripts]

    def cancel(self, jobs: Collection[str]) -> None:
        """As `Scheduler.cancel`: a packed job as a whole when all that is left of it is to go, else its scripts."""
        whole = [job for job in jobs if SEPARATOR not in job]
        marks: list[Path] = []
        for job, labels in _by_job(jobs).items():
            pack = self._pack(self._names.get(job, ""))
            if pack is None or all(pack.is_over(member) or member.label in labels for member in pack.members):
                whole.append(job)
            else:
                marks += [pack.folder / (label + runner.CANCEL) for label in labels]
        if whole:
            self._inner.cancel(whole)
        problem = ""
        for mark in marks:
            try:
                mark.touch()
            except FileNotFoundError:
                pass  # the folder is gone, and with it what could be told
            except OSError as error:
                problem = f"{error.filename or mark}: {error.strerror}"
        if problem:
            raise UnreachableError(problem)

    def log(self, script: Path, job: str | None) -> Path | None:
        """As `Scheduler.log`."""
        whole, separator, label = (job or "").partition(SEPARATOR)
        pack = self._pack(self._names.get(whole, "")) if separator else None
        member = pack.member(label) if pack else None
        return member.log if member else self._inner.log(script, whole or None)

    def _pack(self, name: str) -> Packed | None:
        """A packed job by its name, if it is one of those beside the known scripts."""
        if name not in self._packs and name.startswith("p-"):
            for place in self._places:
                if pack := Packed.read(place / name):
                    self._packs[name] = pack
        return self._packs.get(name)


def _by_job(jobs: Iterable[str]) -> dict[str, list[str]]:
    """The labels of packed jobs' scripts by the job."""
    found: dict[str, list[str]] = defaultdict(list)
    for job in jobs:
        whole, separator, label = job.partition(SEPARATOR)
        if separator:
            found[whole].append(label)
    return found
