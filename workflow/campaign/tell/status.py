"""A campaign at a moment: which cells are done, run, wait or failed. Read from files alone; no scheduler is asked."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from bnn.records.heartbeat import HeartbeatRecord, read_heartbeats
from campaign.io.locking import holder
from campaign.io.unreadable import SAID, damaged_record
from campaign.jobs.train import TrainJob, read_summary
from campaign.names.cell import Cell
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign
from campaign.run.journal import NOT_TAKEN, Event, how_it_ended, last_of_scripts, limits_learnt, told

if TYPE_CHECKING:
    from rich.table import Table

FINISHED, RUNNING, QUEUED, FAILED, WAITING = "finished", "running", "queued", "failed", "waiting"
STATES = (FINISHED, RUNNING, QUEUED, FAILED, WAITING)
# What the last event of a job in the executor's journal makes of its cell.
OF_EVENT = {
    "submitting": QUEUED, "submitted": QUEUED, "attached": QUEUED, "retry": QUEUED, "running": RUNNING,
    "ended": FAILED, "refused": FAILED, "cancelled": WAITING, "waits": WAITING, "unclear": QUEUED,
}  # fmt: skip
PACE_NEEDS = 3  # cells finished by this driver before an end is estimated


@dataclass(frozen=True)
class CellStatus:
    """One cell; `detail` says what is known of a job that runs or failed, or what its record lacks."""

    cell: Cell
    state: str
    detail: str = ""


@dataclass(frozen=True)
class Status:
    """The campaign. `driver` says who runs it, empty for nobody; `per_hour` and `end` need some finished cells.
    `limits` are those that the last driver learnt of the scheduler, in words."""

    cells: tuple[CellStatus, ...]
    driver: str
    per_hour: float | None
    end: datetime | None
    limits: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        found = Counter(cell.state for cell in self.cells)
        return {state: found[state] for state in STATES}


def status(campaign: Campaign, layout: Layout, now: float | None = None) -> Status:
    """The state of every cell and the pace of the driver that runs; `now` in seconds since 1970."""
    now = time.time() if now is None else now
    events = last_of_scripts(layout)
    here = campaign.site.scheduler.kind == "none"
    cells = tuple(_cell(planned, layout, events.get(planned.cell.name), now, here) for planned in campaign.cells)
    driver = holder(layout.driver_lock) or ""
    pace = _pace(cells, layout, now) if driver else None
    left = sum(cell.state != FINISHED for cell in cells)
    end = datetime.fromtimestamp(now) + timedelta(hours=left / pace) if pace else None
    return Status(cells, driver, pace, end, tuple(limits_learnt(layout, _begin(layout))))


def _cell(planned: TrainJob, layout: Layout, event: Event | None, now: float, here: bool) -> CellStatus:
    """`here`: jobs run on this machine, where one that runs holds its cell's lock."""
    cell = planned.cell
    if planned.is_current(layout):
        return CellStatus(cell, FINISHED)
    state = OF_EVENT.get(str(event["event"]), WAITING) if event else WAITING
    locked = holder(layout.lock(cell))  # of another machine it may not be seen here
    if state == RUNNING and here and not locked:
        return CellStatus(cell, WAITING)  # it ended, with the machine or when it was killed, and no driver was there
    if state == RUNNING or locked:
        return CellStatus(cell, RUNNING, _progress(read_heartbeats(layout.folder(cell)), now))
    if event is not None and event["event"] in NOT_TAKEN:
        return CellStatus(cell, state, told(event))
    if state == QUEUED:
        return CellStatus(cell, QUEUED, f"job {event['job']}" if event and event.get("job") else "")
    done = event is not None and event.get("outcome") == "done"
    if (done or state == WAITING) and (lacking := _lacking(layout.summary(cell), done)):
        return CellStatus(cell, WAITING, lacking)
    if state == FAILED or event is None:
        ended = how_it_ended(event, layout.folder(cell))
        return CellStatus(cell, FAILED if ended else state, ended)
    return CellStatus(cell, state)


def _lacking(summary: Path, done: bool) -> str:
    """What is wrong with the record of a cell, of which a job may be `done`; empty: nothing."""
    current = read_summary(summary)
    if current is None and damaged_record(summary):
        return SAID
    if not done:
        return ""
    return f"its record is {'of other settings' if current else 'gone'} and will be made anew"


def _progress(ranks: list[HeartbeatRecord], now: float) -> str:
    """The slowest rank's step, all ranks' images per second, and how old the oldest sign of life is."""
    if not ranks:
        return "no sign of life yet"
    slowest = min(ranks, key=lambda rank: rank.step)
    of = f" of {slowest.steps}" if slowest.steps else ""
    rates = [rank.samples_per_second for rank in ranks]
    rate = f", {sum(rate or 0 for rate in rates):.4g} images/s" if all(rates) else ""
    age = now - min(rank.beat for rank in ranks)
    late = f", last heard of {age:.0f} s ago" if age > 60 else ""
    return f"step {slowest.step}{of}{rate}, {slowest.part}{late}"


def _begin(layout: Layout) -> float:
    """When the last driver started, in seconds since 1970; 0 if there was none."""
    try:
        return layout.driver_lock.stat().st_mtime
    except OSError:
        return 0.0


def _pace(cells: tuple[CellStatus, ...], layout: Layout, now: float) -> float | None:
    """Cells per hour since the driver started; None until a few have finished."""
    start = _begin(layout)
    times = [layout.summary(cell.cell).stat().st_mtime for cell in cells if cell.state == FINISHED]
    done = sum(moment >= start for moment in times)
    return done / (now - start) * 3600 if done >= PACE_NEEDS and now > start else None


def status_table(found: Status) -> tuple[Table, str]:
    """Cells that run, are queued or failed, or whose record is to be made anew; a line of totals, and limits below."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for heading in ("cell", "state", ""):
        table.add_column(heading, overflow="fold")
    for cell in found.cells:
        if cell.state != FINISHED and (cell.state != WAITING or cell.detail):
            table.add_row(cell.cell.name, cell.state, Text(cell.detail))
    words = [f"{count} {state}" for state, count in found.counts.items() if count]
    totals = f"{len(found.cells)} cells: {', '.join(words)}"
    limits = "".join(f"\n{limit}" for limit in found.limits)
    if not found.driver:
        return table, totals + "; no driver is running: states are as the last one left them" + limits
    totals += f"; run by {found.driver}"
    if found.per_hour and found.end:
        totals += f"; {found.per_hour:.3g} cells an hour, at this pace done on {found.end:%Y-%m-%d at %H:%M}"
    return table, totals + limits
