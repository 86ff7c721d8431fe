"""Where and with what the cells ran: what all share, once, and what differs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from campaign.results.report.grid import Column, grid
from campaign.results.report.words import DASH, moment, text

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
FACTS = {
    "hostname": "host",
    "cpu_model": "processor",
    "cores": "cores of the host",
    "affinity": "cores of a rank",
    "threads": "threads per rank",
    "memory_bytes": "memory of the host (GiB)",
    "gpu": "accelerator",
    "python": "Python",
    "platform": "operating system",
    "mpi_library": "MPI library",
    "modules": "modules",
    "git_revision": "git revision",
    "git_dirty": "uncommitted changes",
}
# at most so many cells are named per differing value
MOST_NAMED = 6
SHARED = (Column("fact", "fact", look="strong"), Column("value", "value"))
DIFFERENT = (*SHARED, Column("ranks", "ranks", look="n"), Column("cells", "cells", look="wide muted"))


def provenance_section(provenance: pd.DataFrame) -> Row:
    """`shared`, `different`: the tables of both; None where there is no such fact."""
    shared, different = facts(provenance)
    return {
        "shared": grid("provenance-shared", "Facts", SHARED, shared) if shared else None,
        "different": grid("provenance-different", "Facts that differ", DIFFERENT, different) if different else None,
    }


def facts(provenance: pd.DataFrame) -> tuple[list[Row], list[Row]]:
    """Facts with one value on every rank of every cell, and those that differ with who has which value.

    `which` are the ranks in words, for a single cell's page.
    """
    shared, different = [], []
    ranks = provenance["rank"].tolist()
    names = _cell_names(provenance)
    for name, values in _columns(provenance).items():
        groups: dict[str, list[int]] = {}
        for index, value in enumerate(values):
            groups.setdefault(value, []).append(index)
        if len(groups) == 1:
            shared.append({"fact": name, "value": next(iter(groups))})
            continue
        for value, indices in sorted(groups.items(), key=lambda item: -len(item[1])):
            cells = list(dict.fromkeys(names[i] for i in indices))
            more = f" and {len(cells) - MOST_NAMED} more" if len(cells) > MOST_NAMED else ""
            named = "; ".join(cells[:MOST_NAMED]) + more
            which = spans(int(ranks[index]) for index in indices)
            different.append({"fact": name, "value": value, "ranks": len(indices), "which": which, "cells": named})
    return shared, different


def spans(numbers: Iterable[int]) -> str:
    """Whole numbers in words, neighbours together: 0 to 3, 8."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join(" to ".join(map(str, run)) for run in runs)


def _columns(provenance: pd.DataFrame) -> dict[str, list[str]]:
    """Fact -> its text on every rank; libraries and environment variables are facts of their own."""
    columns: dict[str, list[str]] = {}
    if provenance.empty:
        return columns
    for column, name in FACTS.items():
        values = provenance[column]
        if column == "memory_bytes":
            values = (values / 2**30).round(1)
        columns[name] = [text(value) for value in values.tolist()]
    for column, prefix in (("versions", ""), ("environment", "$")):
        parsed = [_parsed(value) for value in provenance[column].tolist()]
        for key in sorted({key for each in parsed for key in each}):
            columns[f"{prefix}{key}"] = [text(each.get(key)) for each in parsed]
    return columns


@lru_cache(maxsize=256)
def _parsed(value: str) -> dict[str, Any]:
    """Of JSON that most ranks have in common; not to be changed."""
    found: dict[str, Any] = json.loads(value)
    return found


def _cell_names(provenance: pd.DataFrame) -> list[str]:
    """The cell of each row, in words."""
    keys = ("model", "kind", "dataset", "nodes", "batch_size", "variant", "repeat")
    rows = zip(*(provenance[key].tolist() for key in keys), strict=True)
    return [
        f"{model} {kind} {dataset} N={nodes} batch {batch} {variant} #{repeat}"
        for model, kind, dataset, nodes, batch, variant, repeat in rows
    ]


def header(plan: dict[str, Any], cells: pd.DataFrame, provenance: pd.DataFrame) -> Row:
    """What the head of the page says."""
    site = plan["site"]
    revisions = sorted({str(value)[:12] for value in provenance["git_revision"].dropna()})
    verdicts = cells["verdict"].value_counts()
    return {
        "campaign": str(plan["campaign"]),
        "site": str(site.get("title") or site["name"]),
        "facts": flat({key: value for key, value in site.items() if key not in ("name", "title", "node_label")}),
        "started": moment(cells["started_at"].min()),
        "date": moment(cells["stopped_at"].max()),
        "revision": ", ".join(revisions) or DASH,
        "engines": ", ".join(sorted(cells["engine"].unique())),
        "cells": len(cells),
        "verdicts": [(name, int(verdicts.get(name, 0))) for name in ("OK", "WARN", "INVALID", "MISSING")],
        "versions": _versions(provenance),
    }


def _versions(provenance: pd.DataFrame) -> str:
    columns = _columns(provenance)
    chosen = [("Python", "Python"), ("PyTorch", "torch"), ("Horovod", "horovod"), ("MPI", "MPI library")]
    named = [(label, sorted(set(columns.get(fact, [])) - {DASH})) for label, fact in chosen]
    return ", ".join(f"{label} {' and '.join(values)}" for label, values in named if values) or DASH


def flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested site facts as (name, text) pairs; empty ones are left out."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, dict):
            pairs += flat(value, f"{name}: ")
        elif isinstance(value, list):
            pairs.append((name, ", ".join(map(str, value))))
        elif value not in (None, ""):
            pairs.append((name, str(value)))
    return pairs
