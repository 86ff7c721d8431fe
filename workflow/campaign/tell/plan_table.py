"""The plan as a table for people, with what its jobs took or may cost."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from campaign.jobs.train import TrainJob
from campaign.names.cell import Cell
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign
from campaign.site.allocation import Allocation

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Estimate:
    """State of a planned cell; `node_hours` is measured if `finished`, else of its finished repeats, else None."""

    finished: bool
    node_hours: float | None


def estimate(campaign: Campaign, layout: Layout) -> dict[Cell, Estimate]:
    """What each cell took, or will take as far as a finished repeat of it tells; nothing is extrapolated."""
    taken: dict[Cell, float] = {}
    points: dict[tuple[Any, ...], list[float]] = {}
    for planned in campaign.cells:
        if (seconds := planned.seconds(layout)) is not None:
            taken[planned.cell] = planned.cell.nodes * seconds / 3600
            points.setdefault(_point(planned.cell), []).append(taken[planned.cell])
    result = {}
    for planned in campaign.cells:
        repeats = points.get(_point(planned.cell))
        hours = taken.get(planned.cell, fmean(repeats) if repeats else None)
        result[planned.cell] = Estimate(planned.cell in taken, hours)
    return result


def _point(cell: Cell) -> tuple[Any, ...]:
    return (cell.dataset, cell.model, cell.kind, cell.nodes, cell.batch_size, cell.variant)


def plan_table(campaign: Campaign, layout: Layout) -> tuple[Table, str]:
    """The plan for people: one row per point, and one line of totals."""
    from rich.table import Table

    estimates = estimate(campaign, layout)
    table = Table(title=f"campaign {campaign.name} on {campaign.site.name}, {layout.jobs}/", title_justify="left")
    for heading in ("study", "data set", "model", "kind", "variant"):
        table.add_column(heading)
    for heading in ("nodes", "ranks", "batch", "repeats", "done", "node-hours"):
        table.add_column(heading, justify="right")
    queued = campaign.site.scheduler.kind != "none"
    if queued:
        table.add_column("queue")
        for heading in ("asked", "limit", "at most"):  # nodes, minutes, node-hours
            table.add_column(heading, justify="right")
    table.add_column("script", overflow="fold")
    rows: dict[tuple[Any, ...], list[TrainJob]] = {}
    for planned in campaign.cells:
        rows.setdefault(_point(planned.cell), []).append(planned)
    for group in rows.values():
        first = group[0]
        cell = first.cell
        states = [estimates[planned.cell] for planned in group]
        study = " + ".join(first.studies) + (f" (target {first.target})" if first.target else "")
        words = [study, cell.dataset, cell.model, cell.kind, cell.variant]
        numbers = [cell.nodes, first.ranks, cell.batch_size, len(group), sum(state.finished for state in states)]
        script = layout.script(cell).name
        if len(group) > 1:
            script = script.replace(f"_r{cell.repeat}.sh", f"_r{{1..{len(group)}}}.sh")
        asked = _asked(first.allocation, len(group)) if queued else []
        table.add_row(*words, *map(str, numbers), _hours([state.node_hours for state in states]), *asked, script)
    done = sum(state.finished for state in estimates.values())
    total = _hours([state.node_hours for state in estimates.values()])
    left = _hours([state.node_hours for state in estimates.values() if not state.finished])
    totals = f"{len(estimates)} cells, {done} finished; node-hours: {total} in all, {left} to go"
    if queued:
        totals += "\n" + spending(campaign, layout)
    if campaign.site.node_label != "nodes":
        totals += f" (a node here: {campaign.site.node_label})"
    return table, totals


def _asked(allocation: Allocation | None, repeats: int) -> list[str]:
    """Queue, nodes, limit in minutes, and node-hours of all repeats if each runs until its limit.

    Of those that share jobs, nodes and node-hours are their parts of full ones.
    """
    assert allocation is not None, "every job of a scheduler has an allocation"
    nodes = f"{allocation.machines} of {allocation.pack.nodes}" if allocation.pack else str(allocation.nodes)
    return [allocation.queue, nodes, f"{allocation.minutes} min", f"{allocation.share * repeats:.4g}"]


def spending(campaign: Campaign, layout: Layout) -> str:
    """What the jobs that are to run may cost at most: one attempt each, until its limit, on all nodes asked for.

    Where jobs are shared, that is if each had one to itself; the least is if all shared ones are full.
    """
    allocations = [job.allocation for job in campaign.jobs if not job.is_current(layout)]
    hours = sum(allocation.node_hours for allocation in allocations if allocation is not None)
    least = sum(allocation.share for allocation in allocations if allocation is not None)
    power = campaign.site.watts
    energy = f"{hours * power / 1000:,.0f} kWh at {power:g} W a node" if power else "kWh unknown (site.watts)"
    shared = f"; {least:,.0f} node-hours if all shared jobs are full" if least < hours else ""
    return f"at most, if every job runs once until its limit: {hours:,.0f} node-hours, {energy}{shared}"


def _hours(values: list[float | None]) -> str:
    """A sum in words: cells of which no repeat has finished are counted as unknown, never guessed."""
    known = [value for value in values if value is not None]
    unknown = len(values) - len(known)
    if not known and unknown:
        return "unknown"
    return f"{sum(known):.3g}" + (f" + unknown ({unknown} cells)" if unknown else "")
