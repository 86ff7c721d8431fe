"""Reading a record that may not be there, or may not be whole at this moment."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Record = TypeVar("Record", bound=BaseModel)


def read_record(path: Path, schema: type[Record]) -> Record | None:
    """A record of JSON; None when there is none, or it is no such record."""
    try:
        return schema.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
