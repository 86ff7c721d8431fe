"""A scheduler that does not answer: it is said when that begins and when it ends, and patience ends at some time."""

from __future__ import annotations

from collections.abc import Callable

from snakemake_executor_plugin_batch_script.contact import Contact, SilenceError
from snakemake_executor_plugin_batch_script.notes import Notes


class Silence:
    """`after` is told how long a silence was, in seconds, and when it ended."""

    def __init__(self, notes: Notes, say: Callable[[str], None], patience: float) -> None:
        self._notes, self._say, self._patience = notes, say, patience
        self.after: Callable[[float, float], None] = lambda seconds, now: None

    def no_answer(self, contact: Contact, what: str, error: Exception, now: float, may_end: bool = True) -> None:
        """Say so once, try later. Raises SilenceError at the end of patience."""
        if contact.failed(now):
            self._say(f"the scheduler {what} ({error}): jobs are left alone, it will be asked again")
            self._notes.everywhere("unreachable", detail=f"{what}: {error}")
        if may_end and contact.exhausted(now):
            minutes = self._patience / 60
            raise SilenceError(
                f"the scheduler {what} for more than {minutes:g} minutes ({error}); jobs go on: start again"
            )

    def answer(self, contact: Contact, now: float) -> None:
        """There is an answer: say how long there was none."""
        silence = contact.worked(now)
        if silence is not None:
            self.after(silence, now)
            self._say(f"the scheduler is back after {silence:.0f} s")
            self._notes.everywhere("reachable", detail=f"after {silence:.0f} s")
