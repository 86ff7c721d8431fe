"""Submissions: which of the scripts that are ready go now, as which jobs, and what an answer means for them."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from snakemake_executor_plugin_batch_script.contact import Contact, Limits
from snakemake_executor_plugin_batch_script.gates import ALL, ANY, Gates, Held, queue_of
from snakemake_executor_plugin_batch_script.ledger import Ledger
from snakemake_executor_plugin_batch_script.notes import Notes
from snakemake_executor_plugin_batch_script.pack_record import SEPARATOR
from snakemake_executor_plugin_batch_script.packed import PackingScheduler
from snakemake_executor_plugin_batch_script.packing import request, shares
from snakemake_executor_plugin_batch_script.schedulers.base import (
    LimitError,
    RefusedError,
    UnclearError,
    UnreachableError,
)
from snakemake_executor_plugin_batch_script.silence import Silence
from snakemake_executor_plugin_batch_script.task import REFUSED, Limit, Phase, Result, Task, digest_of, signature

BATCH = 20  # submissions between two polls
CONFIRMATIONS = 4  # polls in a row that know nothing of a job before that is believed
POSTPONED_TRIES = 3  # jobs shared with others that a script waits for in vain, before it gets one to itself


class Submissions:
    """Of the tasks in a ledger. `stopping` says whether nothing is submitted any more."""

    def __init__(
        self, scheduler: PackingScheduler, ledger: Ledger, notes: Notes, limits: Limits, say: Callable[[str], None],
        stopping: Callable[[], bool], silence: Silence, chance: random.Random,
    ) -> None:  # fmt: skip
        self._scheduler, self._ledger, self._notes, self._limits, self._say = scheduler, ledger, notes, limits, say
        self._stopping, self._silence = stopping, silence
        silence.after = self._silence_ended
        self._contact = Contact(limits.poll, limits.patience, chance)
        self._gates = Gates(limits.poll, limits.patience, chance)
        self._queues: dict[Path, str] = {}
        self._alone: float | None = None  # since when no job of ours is there (times of silence left out)
        self._taken = 0  # submissions
        self._told: set[tuple[str, str]] = set()

    # What may be submitted

    def _room_by_queue(self, tasks: Iterable[Task], now: float) -> dict[str, int]:
        """How many jobs each queue of some tasks may be given now."""
        held = self._held()
        return {queue: self._room(queue, held, now) for queue in {self.queue(task.script) for task in tasks}}

    def with_room(self, tasks: list[Task], now: float) -> list[Task]:
        """Those that could be submitted now."""
        room = self._room_by_queue(tasks, now)
        return [task for task in tasks if room[self.queue(task.script)] > 0]

    def silenced(self) -> bool:
        """Whether the last submission had no answer."""
        return self._contact.since is not None

    def look(self, now: float) -> None:
        """To be called now and then: are jobs of ours there?"""
        there = any(task.job for task in self._ledger.open.values())
        self._alone = None if there else now if self._alone is None else self._alone

    def _silence_ended(self, seconds: float, now: float) -> None:
        """The scheduler, which was silent for so long, answers: patience with its refusals goes on where it was."""
        self._alone = None if self._alone is None else min(now, self._alone + seconds)
        self._gates.silent(seconds, now)

    def queue(self, script: Path) -> str:
        """The queue of a script's job, which is that of packed jobs where it may share one."""
        if script not in self._queues:
            wanted = request(script)
            self._queues[script] = queue_of(wanted.head if wanted else script)
        return self._queues[script]

    def _room(self, queue: str, held: Mapping[str, Held], now: float) -> int:
        slots = ANY if self._limits.slots is None else self._limits.slots - held[ALL].all
        hopeless = self._gates.hopeless(queue, self._alone, now)  # what is left is tried once, and given up
        return max(0, slots if hopeless else min(slots, self._gates.room(queue, held, now)))

    def _held(self) -> dict[str, Held]:
        """Our jobs by queue, and under ALL in total."""
        jobs: dict[str, tuple[str, bool]] = {}
        for task in self._ledger.open.values():
            if task.job:
                whole = task.job.partition(SEPARATOR)[0]
                waits = task.running is None and jobs.get(whole, ("", True))[1]
                jobs[whole] = (self.queue(task.script), waits)
        # submissions without an answer may have come through: counted as one job, though it may be packed
        doubts = {self.queue(task.script) for task in self._ledger.open.values() if task.in_doubt()}
        counts = Counter(queue for queue, _ in jobs.values()) + Counter(doubts)
        waiting = Counter(queue for queue, waits in jobs.values() if waits) + Counter(doubts)
        held = {queue: Held(waiting[queue], count) for queue, count in counts.items()}
        return held | {ALL: Held(sum(waiting.values()), sum(counts.values()))}

    # Submitting

    def submit_ready(self, ready: Iterable[Task], now: float) -> None:
        """Submit what there is room for, several scripts as one job where they ask for that."""
        left = [task for task in ready if not self._given_up(task, now)]
        held = self._held()
        order = sorted(left, key=lambda task: (task.turned_away, self._stands_back(task, held), task.order))
        in_order = {task.script: task for task in order}
        for task in in_order.values():
            task.ready = now if task.ready is None else task.ready
        alone = [script for script, task in in_order.items() if task.postponed >= POSTPONED_TRIES]
        jobs, open_jobs = shares([script for script in in_order if script not in alone])
        jobs += [[script] for script in alone]
        for scripts in open_jobs:  # the last to come may bring others
            if now - max(in_order[script].ready or now for script in scripts) >= self._limits.gather:
                jobs.append(scripts)
        positions = {script: position for position, script in enumerate(in_order)}
        jobs.sort(key=lambda scripts: positions[scripts[0]])
        submitted, full = 0, set[str]()
        for scripts in jobs:
            if submitted >= BATCH or not self._contact.due(now) or self._stopping():
                break
            queue = self.queue(scripts[0])
            if queue in full:
                continue
            if self._room(queue, self._held(), now) < 1:
                full.add(queue)
                continue
            submitted += 1
            self._submit([in_order[script] for script in scripts], queue, now)

    def _stands_back(self, task: Task, held: Mapping[str, Held]) -> int:
        """How far behind others that are ready: the limit that a script met may be one of what it asks for (processors,
        nodes), and others fit. It is not for good, as limits of jobs are the same for all."""
        if task.limit is None or self._taken >= task.limit.until:
            return 0
        fewer = self._gates.gate(task.limit.name).count(held.get(task.limit.name, Held())) < task.limit.held
        return 0 if fewer else task.limited

    def _submit(self, tasks: list[Task], queue: str, now: float) -> None:
        """Submit the tasks as one job."""
        for task in tasks:
            task.before, task.digest = signature(task.output), digest_of(task.script)
            self._notes.event("submitting", task, digest=task.digest)
        jobs: list[str] = []
        answer: Exception | None = None
        try:
            jobs = self._scheduler.submit([(task.script, task.name) for task in tasks])
        except (RefusedError, LimitError, UnclearError) as error:
            answer = error
        except UnreachableError as error:
            self._doubt(tasks, now)
            there = any(task.job for task in self._ledger.open.values())
            self._silence.no_answer(self._contact, "takes no jobs", error, now, not there)
            return
        self._silence.answer(self._contact, now)  # first: an end of silence counts in what the answer means
        if isinstance(answer, RefusedError):
            self.refuse(tasks, str(answer))
        elif isinstance(answer, LimitError):
            self._limited(tasks, queue, answer, now)
        elif answer:
            self._doubt(tasks, now)
            self._unclear(tasks, queue, str(answer), now)
        else:
            self._taken += 1
            for task, job in zip(tasks, jobs, strict=True):
                task.phase, task.job, task.submitted, task.unsure = Phase.LIVE, job, now, False
                task.words, task.turned_away, task.limited, task.limit = "", 0, 0, None
                self._notes.event("submitted", task, digest=task.digest)
                if self._limits.immediate:
                    task.running = now
                    self._notes.event("running", task)
                    self._say(f"{task.script.stem}: started; output: {self._scheduler.log(task.script, job)}")
            for name in self._gates.taken(queue, self._held(), now):
                self._note_limit(name)

    def refuse(self, tasks: Iterable[Task], words: str) -> None:
        """They end here, with these words."""
        for task in tasks:
            self._notes.event("refused", task, detail=words)
            self._ledger.close(task, Result(task.script, REFUSED, task.attempt, detail=words))

    def _doubt(self, tasks: Iterable[Task], now: float) -> None:
        """The submission may have come through: listings have to tell several times that it has not."""
        for task in tasks:
            task.unsure, task.doubtful, task.looks, task.due = True, True, CONFIRMATIONS, now

    def _limited(self, tasks: list[Task], queue: str, error: LimitError, now: float) -> None:
        """There are too many jobs: the tasks wait until one of ours has ended, or there is room for other reasons."""
        words, name = str(error), ALL if error.everywhere else queue
        for task in tasks:
            task.unsure, task.looks, task.words = False, 1, words
            self._notes.event("waits", task, detail=words)
        held = self._held()
        if self._gates.gate(name).limited(held.get(name, Held()), words, error.waiting_only, now):
            self._note_limit(name)
        for task in tasks:
            task.limited += 1
            until = self._taken + 2 ** min(task.limited, 10)
            task.limit = Limit(name, self._gates.gate(name).count(held.get(name, Held())), until)
        if self._tell(name, ""):
            most = self._gates.gate(name).most
            takes = f"at most {most} jobs{_waiting(error.waiting_only)} at once" if most else "no jobs at the moment"
            self._say(f"the scheduler takes {takes}{_in(name)} ({words}): what is left waits for room")
        if self._gates.hopeless(queue, self._alone, now):
            self.refuse(tasks, f"{words} ({self._for_how_long()})")

    def _unclear(self, tasks: list[Task], queue: str, words: str, now: float) -> None:
        """Words that do not tell: others are tried before the same again, and the queue is given some rest."""
        for task in tasks:
            task.words = words
            task.turned_away += 1
            task.tried = now
            self._notes.event("unclear", task, detail=words)
        self._gates.gate(queue).unclear(now)
        if self._tell(queue, words):
            self._say(f"{tasks[0].script.stem}: not taken{_in(queue)} ({words}): tried again later")

    def _given_up(self, task: Task, now: float) -> bool:
        """Whether a task that was turned away, and is not there after all, has nothing to wait for: it was so when
        patience had ended already."""
        if not (task.turned_away and self._gates.hopeless(self.queue(task.script), self._alone, task.tried)):
            return False
        self.refuse([task], f"{task.words} ({self._for_how_long()})")
        return True

    def _for_how_long(self) -> str:
        return f"for more than {self._limits.patience / 60:g} minutes, with no other job of this run there"

    def _note_limit(self, name: str) -> None:
        gate = self._gates.gate(name)
        self._notes.everywhere(
            "limit", slots=gate.most, queue=name or None, waiting_only=gate.waiting_only or None, detail=gate.words
        )

    def _tell(self, name: str, words: str) -> bool:
        """Whether it is the first time (numbers apart: those of jobs differ)."""
        said = (name, re.sub(r"\d+", "0", words))
        first = said not in self._told
        self._told.add(said)
        return first


def _in(queue: str) -> str:
    return f" in queue {queue}" if queue else ""


def _waiting(only: bool) -> str:
    return " that wait" if only else ""
