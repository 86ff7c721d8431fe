"""checkpoint.json: written last into a checkpoint's folder, it says that the folder is complete and of which run."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

MARKER = "checkpoint.json"


class CheckpointMarker(BaseModel):
    """The state after `step` steps on `ranks` ranks, of settings with fingerprint `hash`; `baseline` is what ran."""

    model_config = ConfigDict(extra="forbid")

    step: int
    ranks: int
    hash: str
    baseline: str


def read_marker(folder: Path) -> CheckpointMarker | None:
    """Of a checkpoint's folder; None when it cannot be read as one."""
    try:
        return CheckpointMarker.model_validate_json((folder / MARKER).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
