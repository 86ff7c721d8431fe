"""In what the machines and the software of two campaigns differ, by their tables of provenance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from campaign.results.compare.folder import Side
from campaign.results.report.origin import FACTS
from campaign.results.report.words import text

MOST_NAMED = 6
# The network's code: it has another name where the kernels are not there.
KERNELS = "implementation"


def differences(a: Side, b: Side) -> list[dict[str, str]]:
    """Facts that do not have the same values on both sides: fact, a, b (values, separated by commas)."""
    ours, theirs = (facts(side) for side in (a, b))
    names = [*FACTS.values(), KERNELS]
    names += sorted({*ours, *theirs} - set(names))
    none: set[str] = set()
    return [
        {"fact": name, "a": _said(ours.get(name, none)), "b": _said(theirs.get(name, none))}
        for name in names
        if ours.get(name, none) != theirs.get(name, none)
    ]


def facts(side: Side) -> dict[str, set[str]]:
    """The values of every fact over all ranks of all cells of a campaign; libraries and variables by their names."""
    found: dict[str, set[str]] = {}
    for name, value in _values(side):
        found.setdefault(name, set()).add(text(value))
    return found


def _values(side: Side) -> Iterator[tuple[str, Any]]:
    for row in side.tables["provenance"].to_dict("records"):
        for column, name in FACTS.items():
            is_memory = column == "memory_bytes"
            yield name, round(row[column] / 2**30, 1) if is_memory else row[column]
        for column, prefix in (("versions", ""), ("environment", "$")):
            yield from ((f"{prefix}{key}", value) for key, value in json.loads(row[column]).items())
    for row in side.tables["cells"].to_dict("records"):
        yield KERNELS, row["implementation"]


def _said(values: set[str]) -> str:
    named = sorted(values)
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return ", ".join(named[:MOST_NAMED]) + more or "not there"
