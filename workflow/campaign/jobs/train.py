"""The training of a cell: the job that all others come after."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bnn.records.files import CELL, JOB_LOG, MPI, MPI_ASIDE, SUMMARY, TIMELINE
from bnn.records.reading import read_record
from bnn.records.summary import Summary
from bnn.settings import FOREIGN_LIMIT, TrainSettings
from campaign.io import unreadable
from campaign.jobs.job import Job
from campaign.names.cell import NAME, PLACE, Cell
from campaign.names.commands import TRAIN
from campaign.names.layout import FINISHED, Layout
from campaign.site.allocation import Allocation
from campaign.site.launchers import Placement
from campaign.site.site import Site

# Where rank 0 listens, of engine torch: below the ports that the kernel gives to others, apart for cells side by side.
FIRST_PORT, PORTS = 20000, 12000


@dataclass(frozen=True)
class TrainJob(Job):
    """A cell with everything that its job is told.

    `studies` are those that ask for it and `roles` what they feed, joined; `placement` says where its ranks lie and
    `launch` is a hash of how it is launched, which a measurement depends on as it does on its settings.
    """

    COMMAND = TRAIN
    NOUN = "training"
    SECTION = "cells"
    TEMPLATE = "job"
    RECORD = f"cells/{PLACE}/{SUMMARY}"
    LOG = f"train/{NAME}"
    HAS_RANKS = True

    cell: Cell
    settings: TrainSettings
    studies: tuple[str, ...]
    roles: tuple[str, ...]
    placement: Placement
    launch: str
    target: str = ""
    allocation: Allocation | None = None

    @property
    def name(self) -> str:
        return self.cell.name

    @property
    def words(self) -> dict[str, str]:
        return self.cell.words

    @property
    def ranks(self) -> int:
        return self.placement.ranks

    @property
    def gpus(self) -> int:
        return self.placement.per_machine if self.settings.device == "cuda" else 0

    @property
    def study(self) -> str:
        """The first study that asks for it."""
        return self.studies[0]

    @property
    def fingerprint(self) -> str:
        return f"{self.settings.fingerprint()}-{self.launch}"

    @property
    def feeds(self) -> tuple[str, ...]:
        return self.roles

    @property
    def data(self) -> tuple[str, dict[str, Any]]:
        return self.settings.dataset, self.settings.dataset_options

    @property
    def reads(self) -> list[tuple[str, dict[str, Any]]]:
        return [self.data]

    def context(self, layout: Layout, site: Site) -> dict[str, Any]:
        settings = self.settings
        return {
            "torch_ranks": settings.engine == "torch" and self.ranks > 1,
            "port": FIRST_PORT + int(self.cell.hash, 16) % PORTS,
            "hash": settings.fingerprint(),
            "launch": self.launch,
            "folder": layout.folder(self.cell),
            "summary_name": SUMMARY,
            "finished_name": FINISHED,
            "cell_name": CELL,
            "job_log": JOB_LOG,
            "profiler": site.profiler_of(settings.engine),
            "mpi": MPI,
            "mpi_aside": MPI_ASIDE,
            "timeline": TIMELINE,
            "settings": layout.settings(self.cell),
            "cell_lock": layout.lock(self.cell),
        }

    def beside(self, layout: Layout) -> dict[Path, str]:
        """What `bnn train --settings` reads. A limit as it is by default is not told."""
        usual = {"foreign_limit"} if self.settings.foreign_limit == FOREIGN_LIMIT else set()
        values = self.settings.model_dump(mode="json", exclude={"data_dir", *usual})
        return {layout.settings(self.cell): json.dumps(values, indent=2, sort_keys=True) + "\n"}

    def plan_entry(self, site: str) -> dict[str, Any]:
        return asdict(self.cell) | {
            "name": self.cell.name,
            "folder": self.cell.folder.as_posix(),
            "study": self.study,
            "studies": list(self.studies),
            "roles": list(self.roles),
            "target": self.target,
            "ranks": self.ranks,
            "fingerprint": self.settings.fingerprint(),
            "launch": self.launch,
            "settings": self.settings.model_dump(mode="json", exclude={"data_dir", "labels"}),
        }

    def is_current(self, layout: Layout) -> bool:
        return self.summary(layout) is not None

    def is_damaged(self, layout: Layout) -> bool:
        return unreadable.is_damaged(self.record(layout), Summary)

    def seconds(self, layout: Layout) -> float | None:
        """Of a cell that was resumed, those of its last attempt."""
        summary = self.summary(layout)
        return summary.seconds_total if summary else None

    def summary(self, layout: Layout) -> Summary | None:
        """The cell's summary, if it is of the settings and the launch that the plan asks for."""
        summary = read_summary(self.record(layout))
        return summary if summary is not None and self.made(summary) else None

    def made(self, summary: Summary) -> bool:
        """Whether a summary tells of the settings and the launch that the plan asks for."""
        return trained(summary) == self.fingerprint


def trained(summary: Summary) -> str:
    """Fingerprint of the training that a summary tells of."""
    return f"{summary.hash}-{summary.labels.get('launch')}"


def read_summary(path: Path) -> Summary | None:
    """A cell's summary, None when there is none or it is not a summary."""
    return read_record(path, Summary)
