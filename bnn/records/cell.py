"""cell.json: the resolved settings of a run and their hash."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from bnn.settings import TrainSettings


class CellRecord(BaseModel):
    """What was asked for. `hash` is TrainSettings.fingerprint()."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    settings: TrainSettings
    hash: str
