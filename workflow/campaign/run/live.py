"""Which jobs may be running or waiting: what they were started with is not rewritten."""

from __future__ import annotations

import hashlib
from pathlib import Path

from campaign.io.locking import holder
from campaign.names.layout import Layout
from campaign.plan.campaign import Campaign
from campaign.render.scripts import Place, script_text
from campaign.run.journal import Event, live_scripts

TOLD = 3  # jobs that a line names


def may_live(campaign: Campaign, layout: Layout) -> dict[str, Event | None]:
    """By the names of their scripts, jobs that may be there: those that hold a lock here, and with a scheduler those
    that a driver submitted and has not seen the end of, with what the journal says last. (On one machine a job that
    runs holds a lock, and none waits without its driver.)"""
    found: dict[str, Event | None] = {path.stem: None for path in layout.cell_locks if holder(path)}
    if measuring := holder(layout.measuring_lock):
        found[measuring.removeprefix("cell ").partition(", process ")[0]] = None
    return found if campaign.site.scheduler.kind == "none" else {**found, **live_scripts(layout)}


def of_other_settings(campaign: Campaign, layout: Layout, place: Place) -> dict[str, str]:
    """Of those that may be there, jobs whose script is not the one that the plan asks for: what is known of each."""
    live = may_live(campaign, layout)
    found = {}
    for job in campaign.jobs:
        if job.name not in live or job.is_current(layout):
            continue
        event = live[job.name] or {}
        started_with = event.get("digest") or file_digest(job.script(layout))
        if started_with not in (None, digest(script_text(job, campaign, layout, place))):
            found[job.name] = _known_of(event)
    planned = {job.name for job in campaign.jobs}
    if campaign.site.scheduler.kind != "none":  # what the campaign has no more still uses the machine's time
        found |= {name: _known_of(event) for name, event in live_scripts(layout).items() if name not in planned}
    return found


def _known_of(event: Event) -> str:
    return f"job {event['job']}" if event.get("job") else "its end is not known"


def told(found: dict[str, str]) -> str:
    """A line for people; empty where there is none."""
    if not found:
        return ""
    names = ", ".join(f"{name} ({what})" for name, what in list(found.items())[:TOLD])
    more = f" and {len(found) - TOLD} more" if len(found) > TOLD else ""
    one = len(found) == 1
    return (
        f"{'a job' if one else 'jobs'} of other settings may still be running or queued: {names}{more}; "
        f"{'its script is' if one else 'their scripts are'} left as {'it is' if one else 'they are'}: "
        f"cancel {'it' if one else 'them'}, or wait"
    )


def digest(text: str) -> str:
    """Of a script, as the executor notes it when it submits one."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(script: Path) -> str | None:
    """None without the file."""
    try:
        return hashlib.sha256(script.read_bytes()).hexdigest()[:16]
    except OSError:
        return None
