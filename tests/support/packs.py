"""What became of scripts that share jobs, told as if each had been a job: for what is checked of a scheduler's log.

The scheduler knows the whole job only; when a script started and ended in it, the runner has noted in the job's folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Event = dict[str, Any]


def apart(events: list[Event], scripts: Path) -> list[Event]:
    """An emulator's events, with those of the scripts (in the folder `scripts`) in place of packed jobs'."""
    found = []
    for event in events:
        folder = scripts / ".packs" / str(event["name"])
        if not folder.name.startswith("p-"):
            found.append(event)
        elif event["event"] in ("submitted", "ended"):
            members = json.loads((folder / "pack.json").read_text())["members"]
            for member in members:
                common = {"name": member["name"], "id": f"{event['id']}:{member['label']}", "script": member["script"]}
                if event["event"] == "submitted":
                    found.append(common | {"event": "submitted", "time": event["time"]})
                else:
                    found += _run(folder, member["label"], common, event["time"])
    return sorted(found, key=lambda event: event["time"])


def _run(folder: Path, label: str, common: Event, whole: float) -> list[Event]:
    """Start, if there was one, and end: with the exit code that the runner noted, or with the whole job."""
    started, ended = (_read(folder / f"{label}.{what}") for what in ("started", "ended"))
    events = [common | {"event": "started", "time": started["time"]}] if started else []
    if ended:
        return [*events, common | {"event": "ended", "time": ended["time"], "exit_code": ended["code"]}]
    return [*events, common | {"event": "ended", "time": whole, "exit_code": None}]


def _read(path: Path) -> Event | None:
    try:
        found: Event = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return found
