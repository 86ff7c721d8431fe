"""heartbeat/watchdog.json: why the watchdog ended the last attempt of a run; gone as soon as the next one starts."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from bnn.records.files import HEARTBEAT, WATCHDOG
from bnn.records.reading import read_record


class WatchdogRecord(BaseModel):
    """What the watchdog saw."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(description="what was missing for how long, and the late ranks with host, process and step")
    ended_at: float = Field(description="when it began to end the job, s since 1970")


def watchdog_path(folder: Path) -> Path:
    """Where it is in a run's folder."""
    return folder / HEARTBEAT / WATCHDOG


def read_watchdog(folder: Path) -> WatchdogRecord | None:
    """Of a run's folder; None where the last attempt was not ended by the watchdog."""
    return read_record(watchdog_path(folder), WatchdogRecord)
