"""What happens before any job: read and check everything, bring scripts and plan up to date, take the site's lock."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bnn.errors import UserError
from bnn.records.summary import Summary
from campaign.io.locking import Lock, holder
from campaign.io.unreadable import aside, is_damaged, set_aside
from campaign.jobs import after, bench
from campaign.jobs.after import AfterJob
from campaign.jobs.bench import BenchPoint
from campaign.jobs.train import PlannedCell
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign, load_campaign
from campaign.plan.content import plan_content, tells_of, write_plan
from campaign.render.scripts import Place, render_jobs
from campaign.run.readiness import nccl_refusal, refusal, uncut
from campaign.site.machine import keep, limited, name_results
from campaign.site.site import Site, load_site


@dataclass
class Driver:
    """A campaign made ready. `busy` says which process runs it already, `lock` is held from `start` on.

    By name: `stale` are cells whose summary is of other settings, `measured` and `made` are benchmarks and jobs after
    cells whose record is as the plan asks.
    """

    campaign: Campaign
    layout: Layout
    busy: str | None = None
    stale: frozenset[str] = frozenset()
    measured: frozenset[str] = frozenset()
    made: frozenset[str] = frozenset()
    lock: Lock | None = field(default=None, repr=False)
    elsewhere: str = ""  # why results are not where the site's name says

    @property
    def plan(self) -> dict[str, Any]:
        return plan_content(self.campaign)

    @property
    def notice(self) -> str:
        """A line or two for the user, if there is something to say."""
        if self.busy:
            return f"a run is going on ({self.busy}): its scripts and plan are left as they are"
        why = refusal(self.campaign)
        said = [self.elsewhere, uncut(self.campaign), f"no job will be submitted: {why}" if why else ""]
        return "\n".join(line for line in said if line)

    def start(self) -> None:
        """Take the site's lock: jobs are about to start.

        Raises UserError when another process has or had it, and when no job could run or be submitted.
        """
        if why := refusal(self.campaign) or nccl_refusal(self.campaign):
            raise UserError(why)
        what = f"the campaign in {self.layout.root}"
        self.lock = Lock(self.layout.driver_lock, what)
        if self.busy:
            raise UserError(f"{what} was being run by {self.busy} until now: start again")
        if machine := self.campaign.site.machine:
            keep(machine, self.layout.root)


def prepare(site_file: Path, campaign_file: Path, results: Path) -> Driver:
    """Read and check everything, then render what has changed; nothing is changed under a run that is going on.

    Raises UserError with one line naming the file and the key.
    """
    site, elsewhere = site_here(site_file, results)
    campaign = load_campaign(campaign_file, site)
    layout = site.layout(results)
    busy = holder(layout.driver_lock)
    render_jobs(campaign, layout, Place.here(layout), keep=busy is not None)
    if not busy or not layout.plan.exists():
        write_plan(campaign, layout)
    if not busy:
        _set_aside(campaign, layout)
    stale = frozenset(planned.cell.name for planned in campaign.cells if _is_stale(planned, layout))
    measured = frozenset(point.name for point in campaign.bench if _is_measured(point, layout))
    made = frozenset(job.name for job in campaign.after if _is_made(job, layout))
    return Driver(campaign, layout, busy, stale, measured, made, elsewhere=elsewhere)


def site_here(site_file: Path, results: Path) -> tuple[Site, str]:
    """The site under the name that its results have on this machine, and a line where that is not the file's.

    Raises UserError as `load_site` and `name_results`.
    """
    site = load_site(site_file)
    if site.machine is None:
        return site, ""
    name, said = name_results(site.name, site.machine, results)
    return replace(site, name=name), "; ".join(filter(None, (said, limited(site.machine) if said else "")))


def _set_aside(campaign: Campaign, layout: Layout) -> None:
    """Rename the records that cannot be read, and forget those that have been made anew since."""
    found: dict[Path, bool] = {}
    for planned in campaign.cells:
        summary, kept = layout.summary(planned.cell), layout.finished(planned.cell)
        found[summary] = is_damaged(summary, Summary)
        if (found[summary] or not summary.exists()) and is_damaged(kept, Summary):
            kept.unlink()  # the job's script, which looks for hashes only, would bring it back
    found |= {layout.bench(point.word, point.batch): bench.is_damaged(point, layout) for point in campaign.bench}
    found |= {job.record(layout): after.is_damaged(job, layout) for job in campaign.after}
    for record, damaged in found.items():
        if damaged:
            set_aside(record)
        elif record.exists():
            aside(record).unlink(missing_ok=True)


def _is_measured(point: BenchPoint, layout: Layout) -> bool:
    """Whether the benchmark's record is as the plan asks; if it is of other options, its script is the newer one."""
    return bench.is_current(point, layout) or _outdate(layout.bench(point.word, point.batch), layout.job(point.name))


def _is_made(job: AfterJob, layout: Layout) -> bool:
    """The same of a job after a cell."""
    return after.is_current(job, layout) or _outdate(job.record(layout), layout.job(job.name))


def _outdate(record: Path, script: Path) -> bool:
    """Make the script newer than the record: a reason to run it, whatever Snakemake remembers. Returns False."""
    if record.exists() and script.stat().st_mtime <= record.stat().st_mtime:
        os.utime(script)
    return False


def _is_stale(planned: PlannedCell, layout: Layout) -> bool:
    """Whether the cell's summary is of other settings than the plan's; its settings file is then the newer one."""
    summary, settings = layout.summary(planned.cell), layout.settings(planned.cell)
    if not summary.exists() or tells_of(summary, planned):
        return False
    if not tells_of(layout.finished(planned.cell), planned):
        # also one that this version cannot read: the job's script, which knows hashes only, must not bring it back
        layout.finished(planned.cell).unlink(missing_ok=True)
    if settings.stat().st_mtime <= summary.stat().st_mtime:
        os.utime(settings)
    return True
