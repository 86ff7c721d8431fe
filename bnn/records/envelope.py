"""What the record of every command says of how it came about."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Envelope(BaseModel):
    """When and by what a record was made. Times are seconds since 1970; `git_dirty` is None outside a checkout."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    command: list[str]
    started_at: float
    stopped_at: float
    git_revision: str | None
    git_dirty: bool | None
