"""The tasks of one driver: those that are open, and what became of the others."""

from __future__ import annotations

from snakemake_executor_plugin_batch_script.task import Phase, Result, Task

OPEN = (Phase.RECALLED, Phase.WAITING, Phase.LIVE, Phase.LEFT)


class Ledger:
    """`open` has the tasks by their jobs' names, in the order in which they came; `results` those that have ended."""

    def __init__(self) -> None:
        self.open: dict[str, Task] = {}
        self.results: list[Result] = []
        self._news: dict[str, Result] = {}

    def of(self, *phases: Phase) -> list[Task]:
        """Open tasks in some phases."""
        return [task for task in self.open.values() if task.phase in phases]

    def close(self, task: Task, result: Result) -> None:
        """A task has come to its end."""
        task.phase, task.result = Phase.OVER, result
        self.results.append(result)
        self._news[task.name] = result
        del self.open[task.name]

    def news(self) -> dict[str, Result]:
        """What has ended since this was last asked, by name."""
        news, self._news = self._news, {}
        return news
