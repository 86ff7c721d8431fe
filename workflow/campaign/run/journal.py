"""What the executor wrote down of its jobs: a JSON object per line beside the scripts (see workflow/executor)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from bnn.records.watchdog import read_watchdog
from campaign.names.layout import Layout

Event = dict[str, Any]
# A script may have a job while one of the first is the last event that says so, until one of the second (as the
# executor itself reads its journal).
LIVE = {"submitting", "submitted", "attached", "running"}
OVER = {"ended", "refused", "cancelled", "retry", "waits"}
NOT_TAKEN = ("waits", "unclear")  # submissions that failed and are tried again
WATCHDOG_CODE = 70  # exit code of a cell's script whose ranks the watchdog has ended


def read_journal(layout: Layout) -> Iterator[Event]:
    """Its events in order; none where no job was ever submitted. A line that is being written is left out."""
    try:
        lines = layout.journal.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            yield event


def last_of_scripts(layout: Layout) -> dict[str, Event]:
    """The last event of each script, by the script's name without its suffix."""
    return {Path(str(event["script"])).stem: event for event in read_journal(layout) if event.get("script")}


def live_scripts(layout: Layout) -> dict[str, Event]:
    """Scripts that may have a job, by name as above, with the last event that says so.

    Its key `digest`, of the script as it was submitted, is that of the event `submitted`.
    """
    live: dict[str, Event] = {}
    for event in read_journal(layout):
        if not event.get("script"):
            continue
        name = Path(str(event["script"])).stem
        if event["event"] in LIVE:
            known = live.get(name, {}) if event["event"] != "submitting" else {}
            live[name] = {key: known[key] for key in ("digest", "job") if key in known} | event
        elif event["event"] in OVER:
            live.pop(name, None)
    return live


def limits_learnt(layout: Layout, since: float) -> list[str]:
    """What the executor learnt since a moment (seconds since 1970) of how many jobs are taken at once, by queue."""
    found: dict[str, Event] = {}
    for event in read_journal(layout):
        if event["event"] == "limit" and _moment(event) >= since:
            found[str(event.get("queue", ""))] = event
    return [_limit(queue, event) for queue, event in found.items()]


def _limit(queue: str, event: Event) -> str:
    slots = event.get("slots")
    takes = f"at most {slots} jobs at once" if slots else "no jobs at the moment"
    where = f" in queue {queue}" if queue else ""
    waiting = " (those that wait)" if event.get("waiting_only") else ""
    return f"the scheduler takes {takes}{waiting}{where}: {event.get('detail', '')}"


def _moment(event: Event) -> float:
    try:
        return datetime.fromisoformat(str(event.get("time"))).timestamp()
    except ValueError:
        return 0.0


def told(event: Event) -> str:
    """An event in words: what happened to which job, why, and where its output is."""
    if event["event"] in NOT_TAKEN:
        return f"not taken by the scheduler so far: {event.get('detail', '')}"
    what = event.get("outcome") or event["event"]
    job = f"job {event['job']}" if event.get("job") else ""
    return ", ".join(str(word) for word in (what, job, event.get("detail"), event.get("log")) if word)


def how_it_ended(event: Event | None, folder: Path) -> str:
    """How a cell's last job ended in words, with what the watchdog said of its ranks; empty if nothing is known.

    `event` is the last one of the cell's script, None where no executor submits it.
    """
    words = [told(event)] if event else []
    # a job that failed before its watchdog started leaves the word of an earlier one
    ended = event is None or (event["event"] == "ended" and event.get("exit_code") in (WATCHDOG_CODE, None))
    if ended and (record := read_watchdog(folder)):
        words.append(f"ended by the watchdog: {record.reason}")
    return "; ".join(words)
