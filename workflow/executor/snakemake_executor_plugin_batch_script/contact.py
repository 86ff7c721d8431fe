"""Whether a scheduler answers, and when to ask it again: exponential back-off with jitter, until patience ends."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

LONGEST = 300.0  # seconds between two attempts, at most
FACTOR = 10  # and at most this many polling intervals


class SilenceError(Exception):
    """The scheduler was silent for longer than patience allows."""


@dataclass(frozen=True)
class Limits:
    """Seconds between polls, attempts after the first, seconds of silence that are borne, seconds until a file that
    was written on another machine is seen here, seconds that a job which has room for more scripts waits for another
    one, jobs that the scheduler may have at once (None: any number), whether what is submitted runs at once, on this
    machine."""

    poll: float = 30.0
    retries: int = 2
    patience: float = 3600.0
    latency: float = 5.0
    gather: float = 10.0
    slots: int | None = None
    immediate: bool = False


@dataclass
class Contact:
    """One way to the scheduler (asking, or submitting). Times are seconds of the caller's clock.

    `poll` is the usual interval, `patience` how long a silence is borne.
    """

    poll: float
    patience: float
    random: random.Random
    since: float | None = field(default=None, init=False)  # begin of the silence
    again: float = field(default=0.0, init=False)  # not to be tried before
    _tries: int = field(default=0, init=False)

    def due(self, now: float) -> bool:
        return now >= self.again

    def failed(self, now: float) -> bool:
        """No answer. Returns whether it is the first time of this silence."""
        first = self.since is None
        self.since = now if self.since is None else self.since
        delay = min(self.poll * 2.0 ** min(self._tries, 10), self.poll * FACTOR, LONGEST)
        self._tries += 1
        self.again = now + delay * self.random.uniform(0.5, 1.0)
        return first

    def worked(self, now: float) -> float | None:
        """An answer. Returns how long there was none, in seconds; None where there was no silence."""
        silence = None if self.since is None else now - self.since
        self.since, self.again, self._tries = None, 0.0, 0
        return silence

    def rest(self, now: float, polls: int) -> None:
        """Not to be tried for some polling intervals, though there was an answer."""
        self.again = now + min(self.poll * polls, LONGEST) * self.random.uniform(0.5, 1.0)

    def exhausted(self, now: float) -> bool:
        """Whether the silence has lasted for longer than patience allows."""
        return self.since is not None and now - self.since > self.patience
