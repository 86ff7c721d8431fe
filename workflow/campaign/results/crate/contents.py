"""Which files of a site's folder go into a crate, under which names, and what they are called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bnn.errors import UserError
from bnn.records.files import MPI, POSTERIOR
from campaign.names.layout import Layout
from campaign.results.figures.catalogue import FIGURES
from campaign.results.tables.schemas import OF_REPORT
from campaign.results.validate.outputs import ledger_of

# RFC 6838 names where the file's format has one that is registered.
MEDIA_TYPES = {
    ".parquet": "application/vnd.apache.parquet", ".svg": "image/svg+xml", ".png": "image/png", ".html": "text/html",
    ".json": "application/json", ".yaml": "application/yaml", ".sh": "text/x-shellscript", ".log": "text/plain",
    ".txt": "text/plain",
}  # fmt: skip
# In a site's folder, what else goes into each crate.
BESIDE = {
    "report/cells/*.html": "the report's page of one training run",
    "report/rows/*.html": "rows of a table that is too long for the report's page",
    "jobs/[!.]*.sh": "a job script as it was submitted",
    "jobs/[!.]*.json": "the settings that a job was told",
    "data/[!.]*.json": "source and checksum of a data set, which is not in the crate",
}
OF_JOBS = {
    "cells": "a record of one training run", "infer": "a record of predictions", "prune": "a record of a pruning sweep",
    "bench": "a record of a benchmark",
}  # fmt: skip
LEFT_OUT = (
    ".",
    POSTERIOR,
    "unpruned",
    "level-",
    "heartbeat",
)  # large, or of a run under way


@dataclass(frozen=True)
class Part:
    """A file of a crate: where it lies, its path in the crate, what it is."""

    source: Path
    path: str
    description: str

    @property
    def media_type(self) -> str:
        """Its MIME type; of an unknown suffix that of any bytes."""
        return MEDIA_TYPES.get(self.source.suffix, "application/octet-stream")


def parts(layout: Layout, records: bool) -> list[Part]:
    """The files of a crate, in order. `records`: also those that the tables are made from, without posteriors.

    Raises UserError naming what is not there: a crate without tables or report would be no campaign; and a link that
    leads out of the results.
    """
    found = list(_parts(layout, records))
    for part in found:
        if not part.source.is_file():
            raise UserError(f"{part.source}: no such file: the campaign has to be made first (target all_figures)")
        within = part.source.is_relative_to(layout.root)  # (a ledger may lie elsewhere)
        if within and not part.source.resolve().is_relative_to(layout.root.resolve()):
            raise UserError(f"{part.source}: leads out of the results; a crate takes what lies in them")
    return found


def _parts(layout: Layout, records: bool) -> Iterator[Part]:
    yield Part(layout.plan, "plan.json", "what the campaign asked for: site, studies, jobs and all their settings")
    yield Part(layout.report, "report.html", "the report: one self-contained page")
    for name in OF_REPORT:
        path = layout.table(name)
        if path.exists() or name in ("cells", "provenance"):
            said = "where and with what each rank ran" if name == "provenance" else f"table {name}"
            yield Part(path, f"tables/{path.name}", f"{said}; each column has its unit and meaning")
    for name, spec in FIGURES.items():
        drawn = [path for path in (layout.figure(name, kind) for kind in ("svg", "png")) if path.exists()]
        yield from (Part(path, f"figures/{path.name}", spec.title) for path in drawn)
    ledger, faults = ledger_of(layout)
    if faults:
        raise UserError(faults[0])
    if ledger:
        yield Part(ledger, f"claims/{ledger.name}", "the ledger by which table claims was judged")
    for pattern, said in BESIDE.items():
        for path in sorted(layout.root.glob(pattern)):
            yield Part(path, path.relative_to(layout.root).as_posix(), said)
    if records:
        yield from _records(layout)


def _records(layout: Layout) -> Iterator[Part]:
    """What the tables are made from."""
    for kind, said in OF_JOBS.items():
        for path in sorted((layout.root / kind).rglob("*")):
            within = path.relative_to(layout.root)
            left_out = any(part.startswith(LEFT_OUT) for part in within.parts)
            if path.is_file() and not left_out and (path.suffix in (".json", ".parquet") or MPI in within.parts):
                yield Part(path, within.as_posix(), said)
