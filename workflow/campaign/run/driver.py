"""What happens before any job: `look` reads and checks everything and writes nothing; `make_ready` writes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bnn.errors import UserError
from bnn.records.summary import Summary
from campaign.io.files import os_errors_named
from campaign.io.locking import Lock, holder
from campaign.io.unreadable import aside, is_damaged, set_aside
from campaign.jobs.job import Job
from campaign.jobs.train import TrainJob
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign, load_campaign
from campaign.plan.content import plan_content, plan_digest, write_plan
from campaign.render.scripts import Place, render_jobs, script_text
from campaign.run import live
from campaign.run.readiness import nccl_refusal, refusal, uncut
from campaign.site.machine import keep, limited, name_results
from campaign.site.site import Site, load_site


@dataclass(frozen=True)
class Files:
    """What was read: another look at the same says whether it has changed since."""

    site: Path
    campaign: Path
    results: Path


@dataclass
class Driver:
    """A campaign as it is at a moment. `busy` says which process runs it already, `lock` is held from `start` on.

    By name: `current` are jobs whose record is as the plan asks, `lingering` those of other settings that may still be
    running or queued, with what is known of them. `place` is where scripts run.
    """

    campaign: Campaign
    layout: Layout
    files: Files
    place: Place
    busy: str | None = None
    current: frozenset[str] = frozenset()
    lingering: dict[str, str] = field(default_factory=dict)
    lock: Lock | None = field(default=None, repr=False)
    elsewhere: str = ""  # why results are not where the site's name says

    @cached_property
    def plan(self) -> dict[str, Any]:
        return plan_content(self.campaign)

    @cached_property
    def digest(self) -> str:
        """Of the plan."""
        return plan_digest(self.campaign)

    @cached_property
    def outstanding(self) -> tuple[Job, ...]:
        """The jobs that have no such record, in the order in which they should run."""
        return tuple(job for job in self.campaign.jobs if job.name not in self.current)

    @cached_property
    def order(self) -> dict[str, int]:
        """Each job's place in the order in which they should run: repeats stay interleaved."""
        return {job.name: place for place, job in enumerate(self.campaign.jobs)}

    def script_digest(self, job: Job) -> str:
        """Of the script that the plan asks for: what is there may be another one, of a job that is still running."""
        return live.digest(script_text(job, self.campaign, self.layout, self.place))

    @property
    def notice(self) -> str:
        """A line or two for the user, if there is something to say."""
        if self.busy:
            return f"a run is going on ({self.busy}): its scripts and plan are left as they are"
        why = refusal(self.campaign)
        said = [
            self.elsewhere,
            uncut(self.campaign),
            live.told(self.lingering),
            f"no job will be submitted: {why}" if why else "",
        ]
        return "\n".join(line for line in said if line)

    def start(self) -> None:
        """Jobs are about to start: take the site's lock and make everything ready for them.

        Raises UserError when another process has or had it, when no job could run or be submitted, and as `make_ready`.
        """
        if why := refusal(self.campaign) or nccl_refusal(self.campaign):
            raise UserError(why)
        self.lock = self._take()
        if self.busy:
            raise UserError(f"{self._what} was being run by {self.busy} until now: start again")
        _write(self)
        if machine := self.campaign.site.machine:
            with os_errors_named(self.layout.root):
                keep(machine, self.layout.root)

    def make_ready(self) -> list[Path]:
        """Write scripts, the files that they read, and the plan, where they have changed; returns the former.

        Raises UserError when a driver is running the campaign, and when its files have changed since they were read.
        """
        lock_file = self.layout.driver_lock
        before = lock_file.stat() if lock_file.exists() else None
        lock = self._take()
        try:
            return _write(self)
        finally:
            lock.release()
            if before:  # its time is that of the last run's start
                os.utime(lock_file, ns=(before.st_atime_ns, before.st_mtime_ns))

    @property
    def _what(self) -> str:
        return f"the campaign in {self.layout.root}"

    def _take(self) -> Lock:
        return Lock(self.layout.driver_lock, self._what)


def look(site_file: Path, campaign_file: Path, results: Path) -> Driver:
    """Read and check everything. Writes nothing.

    Raises UserError with one line naming the file and the key.
    """
    site, elsewhere = site_here(site_file, results)
    layout = site.layout(results)
    place = Place.here(layout)
    campaign = load_campaign(campaign_file, site, place.data_dir)
    return Driver(
        campaign,
        layout,
        Files(site_file, campaign_file, results),
        place,
        busy=holder(layout.driver_lock),
        current=frozenset(job.name for job in campaign.jobs if job.is_current(layout)),
        lingering=live.of_other_settings(campaign, layout, place),
        elsewhere=elsewhere,
    )


def site_here(site_file: Path, results: Path) -> tuple[Site, str]:
    """The site under the name that its results have on this machine, and a line where that is not the file's.

    Raises UserError as `load_site` and `name_results`.
    """
    site = load_site(site_file)
    if site.machine is None:
        return site, ""
    name, said = name_results(site.name, site.machine, results)
    return replace(site, name=name), "; ".join(filter(None, (said, limited(site.machine) if said else "")))


def _write(driver: Driver) -> list[Path]:
    """`Driver.make_ready`, under the lock."""
    layout, files = driver.layout, driver.files
    site, _ = site_here(files.site, files.results)
    if plan_digest(load_campaign(files.campaign, site, driver.place.data_dir)) != driver.digest:
        raise UserError(f"{files.campaign} or {files.site} has changed since it was read: start again")
    with os_errors_named(layout.root):
        return _write_all(driver)


def _write_all(driver: Driver) -> list[Path]:
    """Scripts, files beside them, and the plan; records that cannot be read are set aside. Raises OSError."""
    campaign, layout = driver.campaign, driver.layout
    going_on = live.may_live(campaign, layout)
    written = render_jobs(campaign, layout, driver.place, keep=going_on)
    write_plan(campaign, layout)
    for job in campaign.jobs:
        if job.name not in going_on:
            _clear(job, layout)
    return written


def _clear(job: Job, layout: Layout) -> None:
    """Rename the job's record where it cannot be read, and forget one that has been made anew since."""
    record = job.record(layout)
    damaged = job.is_damaged(layout)
    if isinstance(job, TrainJob):
        _clear_kept(job, layout, damaged)
    if damaged:
        set_aside(record)
    elif record.exists():
        aside(record).unlink(missing_ok=True)


def _clear_kept(job: TrainJob, layout: Layout, damaged: bool) -> None:
    """Remove the second name of the cell's summary where it cannot be read: the job's script, which looks for hashes
    only, would bring it back."""
    kept = layout.finished(job.cell)
    if (damaged or not job.record(layout).exists()) and is_damaged(kept, Summary):
        kept.unlink()
