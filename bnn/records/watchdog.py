"""heartbeat/watchdog.json: why the watchdog ended the last attempt of a run; gone as soon as the next one starts."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bnn.records.files import HEARTBEAT, WATCHDOG


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
    try:
        return WatchdogRecord.model_validate_json(watchdog_path(folder).read_bytes())
    except (OSError, ValidationError):
        return None
