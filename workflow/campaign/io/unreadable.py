"""Records that cannot be read: set aside when jobs start, so that they can be looked at while they are made anew."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ValidationError

SAID = "its record cannot be read and will be made anew"


def is_damaged(record: Path, schema: type[BaseModel]) -> bool:
    """Whether the file is there and is no such record; one that cannot be opened at the moment is not known to be."""
    try:
        schema.model_validate_json(record.read_bytes())
    except ValidationError:
        return True
    except OSError:
        return False
    return False


def aside(record: Path) -> Path:
    """Where a record that cannot be read is kept until it has been made anew."""
    return record.with_name(f".unreadable-{record.name}")


def damaged_record(record: Path) -> Path | None:
    """Where what cannot be read is now, known to be no record: in its place, or set aside and not yet made anew."""
    places = (record, aside(record))
    return next((path for path in places if path.exists()), None)


def set_aside(record: Path) -> None:
    os.replace(record, aside(record))
