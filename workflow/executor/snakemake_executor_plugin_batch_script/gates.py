"""How many jobs a scheduler takes at once, learnt from its refusals: one gate for each queue, and one for all of them.

A limit counts more than our jobs: other jobs of the user, of the group, of everybody. So what was learnt is what we had
there when no more was taken; there is room again when one of ours has ended, and now and then one more is tried.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_plugin_batch_script.contact import FACTOR, Contact
from snakemake_executor_plugin_batch_script.schedulers.directives import options, value

ALL = ""  # the gate of all queues
ANY = 1 << 30  # jobs: more than will ever be submitted at once
QUEUE_OPTIONS = {"#SBATCH": ("-p", "--partition"), "#PBS": ("-q", ""), "#COBALT": ("-q", "--queue")}
OWN_QUEUE = "(default)"  # of a script that names none


def queue_of(script: Path) -> str:
    """The queue (or partition) that a script's directives name."""
    for mark, names in QUEUE_OPTIONS.items():
        if found := value(options(script, mark), *names):
            return re.sub(r"\s+", " ", found)
    return OWN_QUEUE


@dataclass(frozen=True)
class Held:
    """Our jobs in a queue: those that wait there, and all of them."""

    waiting: int = 0
    all: int = 0


@dataclass
class Gate:
    """One queue. `most` is how many jobs it takes from us at once, None if that is not known; `waiting_only` says that
    running ones do not count, and `words` are the scheduler's. While it is `paused`, one job is tried at a time: its
    refusals do not tell why, or it took less than was known (which is believed the second time: `doubted`)."""

    contact: Contact
    most: int | None = None
    waiting_only: bool = False
    words: str = ""
    paused: bool = False
    doubted: bool = False

    def count(self, held: Held) -> int:
        return held.waiting if self.waiting_only else held.all

    def room(self, held: Held, now: float) -> int:
        """How many more jobs it may be given now."""
        one_more = 1 if self.contact.due(now) else 0
        if self.paused:
            return one_more
        return ANY if self.most is None else max(self.most - self.count(held), one_more)

    def limited(self, held: Held, words: str, waiting_only: bool, now: float) -> bool:
        """It took no more than we have there. Returns whether that is news."""
        before = self.most
        self.waiting_only, self.words = waiting_only, words
        self.contact.failed(now)
        # a job that has ended for us may be there for the scheduler a little longer
        self.paused = self.doubted = before is not None and self.count(held) < before and not self.doubted
        if self.paused:
            self.contact.rest(now, 1)
            return False
        self.most = self.count(held)
        self.contact.rest(now, FACTOR)  # one more is tried rarely
        return self.most != before

    def unclear(self, now: float) -> None:
        """It took a job not, or perhaps."""
        self.paused = True
        self.contact.failed(now)

    def taken(self, held: Held, now: float) -> bool:
        """It took a job, which is among those held. Returns whether it takes more than was known."""
        self.paused = self.doubted = False
        again = self.contact.again
        self.contact.worked(now)
        if self.most is None:
            return False
        if self.count(held) <= self.most:
            self.contact.again = again
            return False
        self.most = self.count(held)
        self.contact.rest(now, 1)  # there may be room for many
        return True


class Gates:
    """All queues. `held` tells our jobs in each, and under ALL in total."""

    def __init__(self, poll: float, patience: float, chance: random.Random) -> None:
        self._new: Callable[[], Gate] = lambda: Gate(Contact(poll, patience, chance))
        self._gates: dict[str, Gate] = {}
        self._patience = patience

    def room(self, queue: str, held: Mapping[str, Held], now: float) -> int:
        """How many more jobs may be submitted to a queue now."""
        gates = ((name, self._gates.get(name)) for name in (ALL, queue))
        return min((gate.room(held.get(name, Held()), now) for name, gate in gates if gate), default=ANY)

    def gate(self, queue: str) -> Gate:
        return self._gates.setdefault(queue, self._new())

    def taken(self, queue: str, held: Mapping[str, Held], now: float) -> list[str]:
        """A job was taken. Returns the gates that turned out to be wider than was known."""
        known = [(name, self._gates[name]) for name in (ALL, queue) if name in self._gates]
        return [name for name, gate in known if gate.taken(held.get(name, Held()), now)]

    def silent(self, seconds: float, now: float) -> None:
        """Nobody answered for so long: the gates were not closed in that time, as far as anybody knows."""
        for gate in self._gates.values():
            if gate.contact.since is not None:
                gate.contact.since = min(now, gate.contact.since + seconds)

    def hopeless(self, queue: str, alone: float | None, now: float) -> bool:
        """Whether a queue has refused everything for longer than patience, with none of our jobs anywhere, which is so
        since `alone`."""
        refused = [gate.contact.since for name in (ALL, queue) if (gate := self._gates.get(name))]
        begins = [max(since, alone) for since in refused if since is not None and alone is not None]
        return any(now - begin > self._patience for begin in begins)
