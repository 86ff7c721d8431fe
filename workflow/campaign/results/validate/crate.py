"""Faults of an exported crate: files that are not as its metadata says. Needs no library for crates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from campaign.results.validate.records import manifest_faults

METADATA = "ro-crate-metadata.json"


def crate_faults(folder: Path) -> Iterator[str]:
    """A line per file whose size or sha256 is not the listed one, that is not there, or that is not listed."""
    path = folder / METADATA
    try:
        graph = json.loads(path.read_text(encoding="utf-8"))["@graph"]
        entities = [entity for entity in graph if "File" in _types(entity)]
        listed = {unquote(entity["@id"]): entity for entity in entities}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"{path}: no metadata of a crate ({type(error).__name__}: {error})"
        return
    hashed = {}
    for name, entity in listed.items():
        try:
            hashed[name] = (str(entity["sha256"]), int(entity["contentSize"]))
        except (KeyError, ValueError, TypeError):
            yield f"{path}: {name}: sha256 or contentSize is missing"
    yield from manifest_faults(folder, hashed)
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and name not in listed and name != METADATA:
            yield f"{file}: not listed in {METADATA}"


def _types(entity: dict[str, Any]) -> list[str]:
    given = entity["@type"]
    return given if isinstance(given, list) else [given]
