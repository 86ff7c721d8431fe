"""One script on its way through the scheduler, and what became of it."""

from __future__ import annotations

import hashlib
import math
import os
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from snakemake_executor_plugin_batch_script.schedulers.base import Ended, Outcome

NOT_RETRIED = {Outcome.OUT_OF_MEMORY, Outcome.CANCELLED}
USER_ERROR = 2  # exit code of a script that says: trying again is useless
REFUSED = "refused"


def job_name(script: Path) -> str:
    """The name under which a script's job can be found again: "c-" and 12 hexadecimal digits of its absolute path."""
    return "c-" + hashlib.sha256(os.path.abspath(script).encode()).hexdigest()[:12]  # noqa: PTH100 (no links resolved)


def digest_of(script: Path) -> str | None:
    """What tells a script from another of the same path: 16 hexadecimal digits of the SHA-256 of its bytes.

    None if it cannot be read.
    """
    try:
        return hashlib.sha256(script.read_bytes()).hexdigest()[:16]
    except OSError:
        return None


class Signature(NamedTuple):
    """A file's number, time of its last change in ns, and length."""

    inode: int
    time: int
    length: int


def signature(output: Path) -> Signature | None:
    """Something that changes when the output is written anew; None while it is not there (or cannot be seen)."""
    for listed in (False, True):
        if listed:  # on network file systems, listing the folder brings news of files that were looked for in vain
            with suppress(OSError), os.scandir(output.parent) as entries:
                next(entries, None)
        with suppress(OSError):
            stat = output.stat()
            return Signature(stat.st_ino, stat.st_mtime_ns, stat.st_size)
    return None


class Phase(StrEnum):
    """Where a task is."""

    RECALLED = "recalled"  # an earlier driver's job: still there?
    WAITING = "waiting"  # to be submitted
    LIVE = "live"  # in the queue or running
    LEFT = "left"  # no longer listed: why?
    OVER = "over"


@dataclass(frozen=True)
class Result:
    """What became of a task: `reason` is an outcome, or "refused". Times in seconds, of the last attempt."""

    script: Path
    reason: str
    attempts: int
    job: str | None = None
    exit_code: int | None = None
    queued: float | None = None
    run: float | None = None
    log: Path | None = None
    detail: str = ""

    @property
    def done(self) -> bool:
        return self.reason == Outcome.DONE

    @property
    def sentence(self) -> str:
        """Script, job and reason in one line."""
        job = f" (job {self.job})" if self.job else ""
        detail = f": {self.detail}" if self.detail and self.detail != self.reason else ""
        tries = f", attempt {self.attempts}" if self.attempts > 1 else ""
        return f"{self.script.stem}{job} {self.reason}{detail}{tries}"


class Limit(NamedTuple):
    """A limit that a script met: whose it is (a queue, or all), how many of our jobs counted, and how many submissions
    have to be taken before the script goes first again, where that number has not become smaller."""

    name: str
    held: int
    until: int


@dataclass
class Task:
    """Times are seconds of the tracker's clock.

    Of all that is ready, what has the lowest `order` is submitted first; `ready` says since when nothing but room has
    been missing. `digest` is that of the script as it was submitted last, by this driver or an earlier one.
    `wanted` is the digest that it has to have, None for any.
    `words` are the scheduler's when it did not take the script, and `turned_away` is how often they did not tell why,
    the last time at `tried`; `limited` is how often they told of a limit, the last one being `limit`.
    `before` is the output as it was when the current attempt began. `looks` is how many listings without a job of this
    name are needed before one is submitted: several after a submission that had no answer, whose job may turn up at any
    time (`doubtful`). `gone` counts the polls that the scheduler has known nothing of the job, `postponed` the jobs
    shared with others that ended before this script's turn.
    """

    script: Path
    output: Path
    name: str
    order: float = math.inf
    log: Path | None = None
    wanted: str | None = None
    digest: str | None = None
    phase: Phase = Phase.WAITING
    job: str | None = None
    attempt: int = 1
    due: float = 0.0
    ready: float | None = None
    looks: int = 1
    unsure: bool = False
    before: Signature | None = None
    submitted: float | None = None
    running: float | None = None
    left: float | None = None
    gone: int = 0
    postponed: int = 0
    doubtful: bool = False
    words: str = ""
    turned_away: int = 0
    tried: float = 0.0
    limited: int = 0
    limit: Limit | None = None
    held: bool = False
    delayed: bool = False
    told: Ended | None = None
    result: Result | None = field(default=None)

    def changed(self) -> bool:
        """Whether the output is there and is not the one that was there when the attempt began."""
        now = signature(self.output)
        return now is not None and now != self.before

    def of_other_bytes(self) -> bool:
        """Whether the script is known to have changed since it was submitted, or not to be the one that is wanted."""
        changed = self.digest is not None and self.digest != digest_of(self.script)
        return changed or self.is_unwanted()

    def is_unwanted(self) -> bool:
        """Whether the script is another one than what is wanted."""
        return self.wanted is not None and digest_of(self.script) not in (self.wanted, None)

    def is_waited_for(self) -> bool:
        """Whether its earlier job, of another content, is there and has to end before there is anything to do."""
        return self.phase is Phase.RECALLED and self.delayed

    def in_doubt(self) -> bool:
        """Whether a submission that had no answer may still turn up as a job."""
        return self.unsure and not self.job and self.looks > 1

    def leaves(self, now: float) -> None:
        """It is missing in a listing."""
        if self.phase is Phase.LIVE:
            self.phase, self.left, self.gone, self.told = Phase.LEFT, now, 0, None

    def times(self, told: Ended) -> tuple[float | None, float | None]:
        """Seconds queued and run: the scheduler's, else as seen by polling."""
        begin, start, end = self.submitted, self.running, self.left
        queued = told.queued if told.queued is not None else start - begin if begin and start else None
        run = told.run if told.run is not None else end - start if start and end else None
        return queued, run

    def again(self, due: float) -> None:
        """The next attempt, not before `due`."""
        self.attempt += 1
        self.phase, self.job, self.due, self.looks = Phase.WAITING, None, due, 1
        self.submitted = self.running = self.left = self.told = self.ready = None
        self.unsure = self.held = self.delayed = False
        self.gone = self.turned_away = self.limited = 0
        self.limit = None
        self.words = ""
