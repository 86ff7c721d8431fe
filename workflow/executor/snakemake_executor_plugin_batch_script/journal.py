"""What happened to the jobs: a JSON object per line, appended, so that the next driver knows what this one did."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

NAME = ".journal.jsonl"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
LIVE = {"submitting", "submitted", "attached", "running"}  # a script whose last event is one of these may have a job
OVER = {"ended", "refused", "cancelled", "retry", "waits"}


@dataclass(frozen=True)
class Past:
    """What a journal knows of scripts, by job name.

    `may_live`: the id of a job that may still be there, None where its submission had no answer. `cancelled`: ids of
    jobs that a driver cancelled. `digests`: of what was submitted last, where the journal tells.
    """

    may_live: dict[str, str | None] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    digests: dict[str, str] = field(default_factory=dict)


class Journal:
    """One file, created with its first event."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, **fields: Any) -> None:
        """Append an event and bring it to the disk; fields that are None are left out. Raises OSError."""
        stamp = datetime.now().astimezone().isoformat(timespec="milliseconds")
        known = {key: value for key, value in fields.items() if value is not None}
        line = json.dumps({"time": stamp, "event": event, **known}, default=str) + "\n"
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                # Some parallel file systems have no locks: one write of one short line is whole there, too.
                if error.errno not in NO_LOCKS:
                    raise
            end = os.fstat(descriptor).st_size
            if end and os.pread(descriptor, 1, end - 1) != b"\n":  # a writer was killed within its line
                line = "\n" + line
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def events(self) -> Iterator[dict[str, Any]]:
        """All events in order; none without a file. Lines that are no event (torn, or strange) are left out."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            with suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and isinstance(event.get("event"), str):
                    yield event

    def past(self) -> Past:
        """What the events so far say of jobs. Raises OSError when there is a file that cannot be read."""
        past = Past()
        for event in self.events():
            name, job = event.get("name"), event.get("job")
            if not isinstance(name, str):
                continue
            if event["event"] in LIVE:
                past.may_live[name] = str(job) if job is not None else None
            elif event["event"] in OVER:
                past.may_live.pop(name, None)
            if event["event"] == "cancelled" and job is not None:
                past.cancelled.add(str(job))
            if event["event"] == "submitting":  # a driver of an older version notes no digest
                past.digests.pop(name, None)
            if isinstance(digest := event.get("digest"), str):
                past.digests[name] = digest
        return past


class Journals:
    """The journal of each script: one given file for all, or one beside the scripts of each folder."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._open: dict[Path, tuple[Journal, Past]] = {}

    def of(self, script: Path) -> Journal:
        return self._get(script)[0]

    def past(self, script: Path) -> Past:
        """What its journal said when this driver first opened it. Raises OSError when it cannot be read."""
        return self._get(script)[1]

    def all(self) -> list[Journal]:
        """Those opened so far."""
        return [journal for journal, _ in self._open.values()]

    def _get(self, script: Path) -> tuple[Journal, Past]:
        path = self._path or script.parent / NAME
        if path not in self._open:
            journal = Journal(path)
            self._open[path] = journal, journal.past()
        return self._open[path]
