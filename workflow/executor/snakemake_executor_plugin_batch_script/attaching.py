"""Jobs that are there already: which of them a task takes for its own, and which ones it waits for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from snakemake_executor_plugin_batch_script.notes import Notes
from snakemake_executor_plugin_batch_script.packed import PackingScheduler
from snakemake_executor_plugin_batch_script.schedulers.base import Live, State, UnreachableError
from snakemake_executor_plugin_batch_script.task import Phase, Task


def by_name(listed: Iterable[Live]) -> dict[str, list[Live]]:
    """A listing by the jobs' names."""
    found: dict[str, list[Live]] = defaultdict(list)
    for live in listed:
        found[live.name].append(live)
    return found


class Attaching:
    """`doomed` are ids of jobs that were cancelled and may take a moment to go."""

    def __init__(self, scheduler: PackingScheduler, notes: Notes, say: Callable[[str], None]) -> None:
        self._scheduler, self._notes, self._say = scheduler, notes, say
        self.doomed: set[str] = set()

    def takes(self, task: Task, same: Iterable[Live]) -> list[Live]:
        """Jobs of a task's name that it may take for its own: none that is on its way out, none of another script
        that was there under the same path when it was submitted."""
        lively = [live for live in same if not self.is_going(live)]
        return lively if lively and not task.of_other_bytes() else []

    def is_going(self, live: Live) -> bool:
        return live.state is State.ENDING or live.job in self.doomed

    def attach(self, task: Task, job: str, now: float) -> None:
        """The task's job is this one, of an earlier driver or of a submission that had no answer."""
        task.phase, task.job, task.submitted, task.unsure = Phase.LIVE, job, now, False
        self._notes.event("attached", task, digest=task.digest)
        self._say(f"{task.script.stem}: attached to job {job}, which is there already")

    def attach_to_first(self, task: Task, same: Iterable[Live], now: float) -> None:
        """Of several jobs the one that runs, else the oldest."""
        first = min(same, key=lambda live: (live.state is not State.RUNNING, len(live.job), live.job))
        self.attach(task, first.job, now)
        self.seen(task, first, now)

    def seen(self, task: Task, live: Live, now: float) -> None:
        """The task's job is there."""
        if task.phase is Phase.RECALLED:
            self.attach(task, live.job, now)
        task.phase, task.gone, task.told = Phase.LIVE, 0, None
        if live.state is State.RUNNING and task.running is None:
            task.running = now
            self._notes.event("running", task)
        if live.state is State.HELD and not task.held:
            task.held = True
            self._say(f"{task.script.stem}: job {task.job} is held" + (f" ({live.reason})" if live.reason else ""))

    def wait_for(self, task: Task, same: Iterable[Live], polled: float) -> None:
        """Jobs of this name are not the task's: its script is submitted when they are gone. Those that were cancelled
        are told again to go; one of other bytes may do good work, and is left alone."""
        task.due = polled  # no haste any more
        if task.delayed:
            return
        task.delayed = True
        going = [live.job for live in same if self.is_going(live)]
        if going:
            self._say(f"{task.script.stem}: waits until job {', '.join(going)}, which was cancelled or ends, is gone")
            try:
                self._scheduler.cancel(going)
            except UnreachableError:
                task.delayed = False  # once more with the next poll
        if others := [live.job for live in same if not self.is_going(live)]:
            self._say(
                f"{task.script.stem}: waits until job {', '.join(others)} is gone, which was submitted with another"
                f" content of {task.script}"
            )

    def end_twins(self, task: Task, same: Iterable[Live]) -> None:
        """A submission that was taken for lost can turn up later: only one job of a name may stay."""
        twins = [live.job for live in same if live.job != task.job and not self.is_going(live)]
        if twins:
            self._say(f"{task.script.stem}: a second job {', '.join(twins)} beside {task.job} turned up: cancelled")
            self._scheduler.cancel(twins)
            self.doomed.update(twins)

    def find_unsure(self, tasks: Iterable[Task]) -> None:
        """The jobs of submissions that had no answer, by their names."""
        unsure = [task for task in tasks if task.unsure and not task.job]
        if unsure:
            named = by_name(self._scheduler.live([], names=True))
            for task in unsure:
                task.job = next((live.job for live in named[task.name]), None)
