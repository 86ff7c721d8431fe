"""The table at the end of a run: each job, how it ended and what it took; for many jobs failures and totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from snakemake_executor_plugin_batch_script.task import Result

ALL_UP_TO = 40  # jobs: above that number those that are done are only counted
HEAD = ("script", "job", "outcome", "attempts", "queued", "ran")


def closing_table(results: Sequence[Result]) -> str:
    """Plain text of several lines; empty without results."""
    if not results:
        return ""
    shown = [result for result in results if not result.done or len(results) <= ALL_UP_TO]
    rows = [HEAD, *(row(result) for result in sorted(shown, key=lambda result: (not result.done, result.script)))]
    widths = [max(len(line[i]) for line in rows) for i in range(len(HEAD))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in rows]
    text = [f"Jobs: {totals(results)}"]
    if shown:
        text += lines
    for result in shown:
        if not result.done:
            text.append(f"{result.sentence}" + (f"; log: {result.log}" if result.log else ""))
    return "\n".join(text)


def row(result: Result) -> tuple[str, ...]:
    """One job's entries under HEAD."""
    return (
        result.script.stem, result.job or "-", result.reason, str(result.attempts), duration(result.queued),
        duration(result.run),
    )  # fmt: skip


def totals(results: Sequence[Result]) -> str:
    """Counts by outcome, attempts, and the time that jobs ran (last attempts only)."""
    counts = Counter(result.reason for result in results)
    parts = [
        f"{count} {reason}" for reason, count in sorted(counts.items(), key=lambda item: (item[0] != "done", item))
    ]
    again = sum(result.attempts - 1 for result in results)
    ran = sum(result.run or 0 for result in results)
    return ", ".join(parts) + f"; {again} submitted again; ran {duration(ran)} in all"


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds; "-" where it is not known."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
