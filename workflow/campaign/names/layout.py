"""Where everything outside the cells' folders lies: the one place for these paths.

Paths start with the results folder as it was given (relative to where the workflow runs, or absolute).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bnn.records.files import POSTERIOR
from campaign.names.cell import Cell

RESULTS = "results"
FINISHED = ".finished.json"
CHECK = "check"  # of the job that asks whether a node computes what it should


@dataclass(frozen=True)
class Layout:
    """Files of one site's campaign under `results` (the results folder), and its locks (default: there, too)."""

    results: Path
    site: str
    locks: Path | None = None

    @property
    def root(self) -> Path:
        return self.results / self.site

    @property
    def others(self) -> list[Layout]:
        """The other sites that have a plan in the same results folder, by name."""
        names = sorted(path.parent.name for path in self.results.glob("*/plan.json"))
        return [Layout(self.results, name) for name in names if name != self.site]

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def journal(self) -> Path:
        """What the executor notes of the jobs that it submits (workflow/executor); beside their scripts."""
        return self.jobs / ".journal.jsonl"

    @property
    def plan(self) -> Path:
        """The cells that were asked for, with what tables and figures need to know of them."""
        return self.root / "plan.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def report_pages(self) -> Path:
        """Folder of the pages to which report.html leads."""
        return self.root / "report"

    @property
    def report_cells(self) -> Path:
        """Those of single cells."""
        return self.report_pages / "cells"

    @property
    def check(self) -> Path:
        """What `bnn check` wrote on this site: the file to send."""
        return self.root / "check.json"

    @property
    def lock_folder(self) -> Path:
        return self.locks or self.root / ".locks"

    @property
    def driver_lock(self) -> Path:
        """Held by the one Snakemake process that runs this site's campaign."""
        return self.lock_folder / "driver"

    @property
    def measuring_lock(self) -> Path:
        """Held by the one job that may be measured on this machine."""
        return self.lock_folder / "measuring"

    def lock(self, cell: Cell) -> Path:
        """Held by the job that trains this cell; outside its folder, which may be deleted at any time."""
        return self.lock_folder / f"{cell.name}.cell"

    @property
    def cell_locks(self) -> list[Path]:
        """The locks of all cells that were ever trained here."""
        return sorted(self.lock_folder.glob("*.cell"))

    def folder(self, cell: Cell) -> Path:
        return self.results / cell.folder

    def summary(self, cell: Cell) -> Path:
        return self.results / cell.summary

    def finished(self, cell: Cell) -> Path:
        """A second name of the summary, for where Snakemake deletes the first, as it does when a job fails."""
        return self.folder(cell) / FINISHED

    def posterior(self, cell: Cell) -> Path:
        """Folder of the posteriors that the cell saved: step-N, one for each step that was kept."""
        return self.folder(cell) / POSTERIOR

    def job(self, name: str) -> Path:
        """Script of a job, and of packed jobs."""
        return self.jobs / f"{name}.sh"

    def script(self, cell: Cell) -> Path:
        return self.jobs / f"{cell.name}.sh"

    def settings(self, cell: Cell) -> Path:
        return self.jobs / f"{cell.name}.json"

    def data_record(self, dataset: str, options: dict[str, Any]) -> Path:
        """Record that a data set with these options is in place: data/<key>.json."""
        return self.root / "data" / f"{data_key(dataset, options)}.json"

    def table(self, name: str) -> Path:
        return self.root / "tables" / f"{name}.parquet"

    def figure(self, name: str, suffix: str) -> Path:
        return self.root / "figures" / f"{name}.{suffix}"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def log(self, name: str) -> Path:
        """What a rule or a job printed."""
        return self.logs / f"{name}.log"


def data_key(dataset: str, options: dict[str, Any]) -> str:
    """A file name for a data set: its name, and eight digits of its options' hash when it has options."""
    word = quote(dataset, safe="-_.")
    if not options:
        return word
    text = json.dumps(options, sort_keys=True, separators=(",", ":"))
    return f"{word}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
