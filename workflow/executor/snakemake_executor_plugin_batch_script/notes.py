"""What happens to tasks, written into their journals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_batch_script.journal import Journals, Past
from snakemake_executor_plugin_batch_script.task import Task


class Notes:
    """Jobs are found again by their names, too: a journal that fails is said once and ends nothing."""

    def __init__(self, journals: Journals, say: Callable[[str], None]) -> None:
        self._journals, self._say = journals, say
        self._fails = False

    def past(self, script: Path) -> Past:
        """What was known of the script's folder before this driver."""
        try:
            return self._journals.past(script)
        except OSError as error:
            self._complain(error)
            return Past()

    def event(self, event: str, task: Task, **fields: Any) -> None:
        """Write an event of a task into its journal."""
        try:
            self._journals.of(task.script).write(
                event, script=task.script, name=task.name, job=task.job, attempt=task.attempt, **fields
            )
        except OSError as error:
            self._complain(error)

    def everywhere(self, event: str, **fields: Any) -> None:
        """Write an event of the scheduler into all journals."""
        for journal in self._journals.all():
            try:
                journal.write(event, **fields)
            except OSError as error:
                self._complain(error)

    def _complain(self, error: OSError) -> None:
        if not self._fails:
            self._fails = True
            self._say(f"the journal {error.filename or ''} cannot be kept ({error.strerror or error})")
