"""The jobs after cells as a table for people: one row per point and sweep, which the script's name tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from campaign.jobs.after import AfterJob
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign

if TYPE_CHECKING:
    from rich.table import Table


def after_table(campaign: Campaign, layout: Layout) -> Table | None:
    """Inferences and pruning sweeps that the campaign asks for, None where it asks for none."""
    from rich.table import Table

    if not campaign.after:
        return None
    table = Table(title="after training: predictions and pruning sweeps", title_justify="left")
    table.add_column("study")
    table.add_column("job")
    for heading in ("draws", "repeats", "done"):
        table.add_column(heading, justify="right")
    table.add_column("script", overflow="fold")
    rows: dict[str, list[AfterJob]] = {}
    for job in campaign.after:
        rows.setdefault(_script(job, layout, "*"), []).append(job)
    for group in rows.values():
        job = group[0]
        study = f"{job.study} (target {job.target})" if job.target else job.study
        done = sum(each.is_current(layout) for each in group)
        numbers = [job.section.draws, len(group), done]
        table.add_row(study, job.command, *map(str, numbers), _script(job, layout, _repeats(group)))
    return table


def _repeats(group: Sequence[AfterJob]) -> str:
    """The numbers of their (first) repeats, as a shell would take them."""
    numbers = [job.cell.repeat for job in group]
    if len(numbers) == 1:
        return str(numbers[0])
    return (
        f"{{1..{len(numbers)}}}" if numbers == [*range(1, len(numbers) + 1)] else f"{{{','.join(map(str, numbers))}}}"
    )


def _script(job: AfterJob, layout: Layout, repeat: str) -> str:
    """Name of its script with `repeat` in place of its repeat's number."""
    name = job.script(layout).name
    before, after = name.split(job.cell.name)
    return before + job.cell.name.removesuffix(str(job.cell.repeat)) + repeat + after
