"""A packed job by its folder: what it holds, and what the runner noted of each of its scripts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_batch_script import runner
from snakemake_executor_plugin_batch_script.schedulers.base import UNKNOWN, Ended, Live, Outcome, State, exited
from snakemake_executor_plugin_batch_script.schedulers.evidence import MEMORY_WORDS, NODE_WORDS, says, tail

SEPARATOR = ":"  # between the id of a packed job and a script's label


@dataclass(frozen=True)
class Member:
    """One script of a packed job; `label` is its file's name without suffix, `name` that of its job if it had one."""

    label: str
    name: str
    log: Path


@dataclass(frozen=True)
class Packed:
    """A packed job by its folder, whose name is the job's."""

    folder: Path
    submitted: float
    members: tuple[Member, ...]

    @classmethod
    def read(cls, folder: Path) -> Packed | None:
        """None where there is no readable manifest."""
        try:
            values = json.loads((folder / runner.MANIFEST).read_text())
            members = tuple(Member(entry["label"], entry["name"], Path(entry["log"])) for entry in values["members"])
            return cls(folder, float(values["submitted"]), members)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def member(self, label: str) -> Member | None:
        return next((member for member in self.members if member.label == label), None)

    def noted(self, member: Member, suffix: str) -> dict[str, Any] | None:
        """What the runner noted of a script; None if nothing (yet)."""
        with suppress(OSError, ValueError):
            record = json.loads((self.folder / (member.label + suffix)).read_text())
            return record if isinstance(record, dict) else None
        return None

    def has(self, member: Member, suffix: str) -> bool:
        """Whether a script has such a file; a file system that fails shows none."""
        return os.path.exists(self.folder / (member.label + suffix))  # noqa: PTH110 (Path's may raise)

    def is_over(self, member: Member) -> bool:
        """Whether a script has ended or is to end."""
        return self.has(member, runner.ENDED) or self.has(member, runner.CANCEL)

    def live(self, job: Live, member: Member) -> Live:
        """A script that has not ended, of a job that lives."""
        state = job.state
        if state is State.RUNNING and not self.has(member, runner.STARTED):
            state = State.QUEUED
        return Live(job.job + SEPARATOR + member.label, member.name, state, job.reason)

    def judge(self, member: Member, job: Ended | None) -> Ended | None:
        """How a script ended, by the runner's word; else as the whole `job` did (None: not known this time)."""
        started, ended = self.noted(member, runner.STARTED), self.noted(member, runner.ENDED)
        begin = started.get("time") if started else None
        queued = max(0.0, begin - self.submitted) if isinstance(begin, float) else None
        if ended and (told := self._told(member, ended)):
            end = ended.get("time")
            run = max(0.0, end - begin) if isinstance(end, float) and isinstance(begin, float) else None
            return replace(told, queued=queued, run=run)
        if job is None:
            return None
        # Without the runner's word, that may still be on its way through the file system.
        final = job.final and ended is not None
        never_began = not started and not ended and any(self.has(other, runner.STARTED) for other in self.members)
        if never_began and job.outcome is not Outcome.CANCELLED:
            return Ended(Outcome.POSTPONED, detail="the job ended before its turn", final=False)
        if job.outcome is Outcome.DONE:
            return replace(UNKNOWN, queued=queued)
        return replace(job, queued=queued, final=final)

    def _told(self, member: Member, record: Mapping[str, Any]) -> Ended | None:
        """The runner's record in our words; None where the whole job was ended, and its own verdict counts."""
        code, reason = record.get("code"), str(record.get("reason"))
        if code == 0:
            return exited(0)
        told = exited(code) if isinstance(code, int) else Ended(Outcome.LAUNCH_FAILED, None, reason)
        if reason == "stopped":
            return None
        if reason == "walltime":
            return replace(told, outcome=Outcome.WALLTIME, detail="its share of the job's walltime is over")
        if reason == "cancelled":
            return replace(told, outcome=Outcome.CANCELLED, detail="cancelled")
        text = tail(member.log)
        if says(text, MEMORY_WORDS):
            return replace(told, outcome=Outcome.OUT_OF_MEMORY, detail=f"out of memory, {told.detail}")
        if says(text, NODE_WORDS):
            return replace(told, outcome=Outcome.NODE_FAILURE, detail=f"a node failed, {told.detail}")
        return told
