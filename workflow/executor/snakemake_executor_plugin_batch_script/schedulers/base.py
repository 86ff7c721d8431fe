"""What every scheduler can be asked, and the words in which it answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol


class State(StrEnum):
    """Where a job is that the scheduler still has. A state that is not known to us counts as QUEUED: never as ended."""

    QUEUED = "queued"
    HELD = "held"
    RUNNING = "running"
    ENDING = "ending"  # on its way out: no reason to wait for it to do any work


class Outcome(StrEnum):
    """How a job ended."""

    DONE = "done"
    FAILED = "failed"
    WALLTIME = "walltime"
    NODE_FAILURE = "node-failure"
    OUT_OF_MEMORY = "out-of-memory"
    LAUNCH_FAILED = "launch-failed"
    KILLED = "killed"
    VANISHED = "vanished"
    CANCELLED = "cancelled"
    POSTPONED = "postponed"  # of a packed job that ended before this script's turn: it never ran


@dataclass(frozen=True)
class Live:
    """A job in a listing; `reason` is the scheduler's, for a job that waits or is held."""

    job: str
    name: str
    state: State
    reason: str = ""


@dataclass(frozen=True)
class Ended:
    """What a scheduler knows of a job that it no longer has; `outcome` is None where it does not know how it ended.

    `queued` and `run` are seconds in the queue and running. What is not `final` may be a moment of confusion, or a job
    that is about to end: it has to be told several times before it is believed.
    """

    outcome: Outcome | None = None
    exit_code: int | None = None
    detail: str = ""
    queued: float | None = None
    run: float | None = None
    final: bool = True


UNKNOWN = Ended(final=False)


class UnreachableError(Exception):
    """The scheduler did not answer, or not sensibly: nothing is known, ask again later."""


class UnclearError(UnreachableError):
    """A submission failed with words that do not tell for sure: waiting is right, but not for ever."""


class RefusedError(Exception):
    """The scheduler refused a submission for good; its own words, in one line."""


class LimitError(Exception):
    """The scheduler took no job because there are too many of them at the moment; its own words, in one line.

    `everywhere`: the limit is of all queues. `waiting_only`: jobs that run do not count.
    """

    def __init__(self, words: str, everywhere: bool = False, waiting_only: bool = False) -> None:
        super().__init__(words)
        self.everywhere, self.waiting_only = everywhere, waiting_only


class Scheduler(Protocol):
    """Every method runs a few short commands and raises UnreachableError when they bring no answer.

    A scheduler may have more, which not all need: `know(script, log)` tells it of a script ahead of time, and where its
    output is to go; `busy()` says why no job may be submitted now; `watched()` gives descriptors that are readable when
    a job has ended, and is told of those that were by `watch_no_more(descriptors)`.
    """

    programs: tuple[str, ...]  # that have to be on the PATH

    def live(self, jobs: Collection[str], names: bool) -> list[Live]:
        """This user's live jobs in one command: at least those of `jobs`, and with `names` all of them."""
        ...

    def ended(self, jobs: Mapping[str, Path]) -> dict[str, Ended | Live]:
        """What is known of `jobs` (with their scripts) that a listing lacked. A job left out: no answer this time."""
        ...

    def submit(self, script: Path, name: str) -> str:
        """Submit a script under a name; returns the job's id.

        Raises RefusedError or LimitError when it was not taken, UnreachableError when that is not known.
        """
        ...

    def cancel(self, jobs: Collection[str]) -> None:
        """Cancel jobs in one command; no error if some have ended."""
        ...

    def log(self, script: Path, job: str | None) -> Path | None:
        """Where the job's output goes by the script's directives; None where they do not say."""
        ...


def killed_by(signal: int) -> Ended:
    """A job that was ended by a signal which nothing else explains."""
    return Ended(Outcome.KILLED, 128 + signal, f"killed by signal {signal}")


def exited(code: int) -> Ended:
    """A job by its script's exit code; 128 + N says, as in a shell, that what the script ran was ended by signal N."""
    if code == 0:
        return Ended(Outcome.DONE, 0)
    return killed_by(code - 128) if 128 < code <= 128 + 64 else Ended(Outcome.FAILED, code, f"exit code {code}")
