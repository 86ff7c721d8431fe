"""The jobs after a cell: what is asked of the posteriors that it saved. Each kind has a module of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from bnn.records.files import JOB_LABEL, POSTERIOR
from bnn.records.inference import InferenceSummary
from bnn.records.pruning import PruningSummary
from bnn.records.reading import read_record
from bnn.records.summary import Summary
from bnn.settings import FOREIGN_LIMIT
from campaign.ask.sections import AS_THEY_ARE, AfterSection, Conditions, Sweep
from campaign.io import unreadable
from campaign.jobs.job import Job
from campaign.jobs.train import read_summary, trained
from campaign.names.cell import Cell
from campaign.names.layout import Layout
from campaign.site.allocation import Allocation
from campaign.site.launchers import Placement
from campaign.site.site import Site

AfterSummary = InferenceSummary | PruningSummary


@dataclass(frozen=True)
class Member:
    """A cell whose posterior a job takes, and the fingerprint of its training."""

    cell: Cell
    trained: str


@dataclass(frozen=True)
class AfterJob(Job):
    """One job after a cell; `sweep` is of pruning only, `conditions` of inference.

    `others` are further cells, whose posteriors it takes beside that of `cell`: later repeats of the same point.

    `foreign_limit` is its cell's: what others may do before the verdict is WARN; so is `device`, "cpu" or "cuda".
    `trained` is the fingerprint of its cell, `launch` a hash of the site's environment: the numbers depend on both.
    """

    TEMPLATE = "after"
    SUMMARY: ClassVar[type[InferenceSummary] | type[PruningSummary]]

    cell: Cell
    section: AfterSection
    study: str
    target: str
    dataset: str
    dataset_options: dict[str, Any]
    seed: int
    placement: Placement
    trained: str
    launch: str
    allocation: Allocation | None = None
    foreign_limit: float = FOREIGN_LIMIT
    device: str = "cpu"
    sweep: Sweep | None = None
    conditions: Conditions = AS_THEY_ARE
    others: tuple[Member, ...] = ()

    @classmethod
    def ways(cls, section: AfterSection) -> list[dict[str, Any]]:
        """The jobs that a section asks for of each cell, as the fields that tell them apart."""
        raise NotImplementedError

    @classmethod
    def together(cls, section: AfterSection) -> int:
        """Repeats of a point that one job takes together; 0: it asks for none of these jobs."""
        return 1

    @property
    def members(self) -> tuple[Member, ...]:
        return (Member(self.cell, self.trained), *self.others)

    @property
    def after(self) -> tuple[Cell, ...]:
        return tuple(member.cell for member in self.members)

    @property
    def gpus(self) -> int:
        return 1 if self.device == "cuda" else 0

    @property
    def threads(self) -> int:
        return self.placement.threads

    @property
    def reads(self) -> list[tuple[str, dict[str, Any]]]:
        return [(self.dataset, self.dataset_options)]

    @property
    def word(self) -> str:
        """Of a pruning sweep or of conditions, their folder's name; else empty."""
        return self.sweep.word if self.sweep else self.conditions.word

    @property
    def name(self) -> str:
        return "_".join(word for word in (self.COMMAND, self.cell.name, self.word) if word)

    @property
    def words(self) -> dict[str, str]:
        return self.cell.words | {"sweep": self.word, "conditions": self.word}

    @cached_property
    def measures(self) -> list[str]:
        """Options that say what is computed."""
        section = self.section
        words: list[Any] = ["--dataset", self.dataset]
        if self.dataset_options:
            words += ["--dataset-options", json.dumps(self.dataset_options, sort_keys=True)]
        if section.images:
            words += ["--images", section.images]
        words += self._own_measures()
        words += ["--draws", section.draws, "--seed", self.seed, "--threads", self.threads]
        if self.device != "cpu":  # which is not told: these words are part of finished records' fingerprints
            words += ["--device", self.device]
        return [str(word) for word in words]

    def _own_measures(self) -> list[Any]:
        """Those of its kind."""
        raise NotImplementedError

    @cached_property
    def fingerprint(self) -> str:
        facts: list[Any] = [self.COMMAND, self.measures, self.trained, self.launch]
        facts += [[other.trained for other in self.others]] if self.others else []
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @property
    def options(self) -> list[str]:
        """What the command is told, except where to read and to write."""
        labels = self.cell.labels() | {JOB_LABEL: self.fingerprint}
        limit = [] if self.foreign_limit == FOREIGN_LIMIT else ["--foreign-limit", f"{self.foreign_limit:g}"]
        return [*self.measures, *limit, "--labels", json.dumps(labels, sort_keys=True)]

    def context(self, layout: Layout, site: Site) -> dict[str, Any]:
        posteriors = [layout.posterior(cell) for cell in self.after]
        return {"posteriors": posteriors, "folder": self.record(layout).parent}

    def plan_entry(self, site: str) -> dict[str, Any]:
        return asdict(self.cell) | {
            "name": self.name,
            "cell": self.cell.name,
            **({"cells": [cell.name for cell in self.after]} if self.others else {}),
            "study": self.study,
            "target": self.target,
            "draws": self.section.draws,
            "images": self.section.images,
            "threads": self.threads,
            **(asdict(self.sweep) | {"percent": list(self.section.percent)} if self.sweep else asdict(self.conditions)),
            "fingerprint": self.fingerprint,
            "record": f"{site}/{self.RECORD.format(**self.words)}",
        }

    def is_current(self, layout: Layout) -> bool:
        return self._made(layout) is not None

    def is_damaged(self, layout: Layout) -> bool:
        return unreadable.is_damaged(self.record(layout), self.SUMMARY)

    def seconds(self, layout: Layout) -> float | None:
        made = self._made(layout)
        return made.stopped_at - made.started_at if made else None

    def _made(self, layout: Layout) -> AfterSummary | None:
        """Its record, if it is as the plan asks and of what its cell, trained as the plan asks, has saved."""
        made: AfterSummary | None = read_record(self.record(layout), self.SUMMARY)
        if made is None or not tells_of(made, self.fingerprint):
            return None
        read = [read_summary(layout.summary(cell)) for cell in self.after]
        known = [summary for summary in read if summary]
        as_planned = [trained(summary) for summary in known] == [member.trained for member in self.members]
        return made if as_planned and is_of(made, known) else None


def tells_of(record: AfterSummary, fingerprint: str) -> bool:
    """Whether a record is of the job with this fingerprint."""
    return bool(record.labels.get(JOB_LABEL) == fingerprint)


def is_of(record: AfterSummary, summaries: Sequence[Summary]) -> bool:
    """Whether a record is of posteriors that its cells have now, as far as the cells' manifests name posteriors."""
    mixed = record.members if isinstance(record, InferenceSummary) else []
    taken = [facts.sha256 for facts in mixed or [record.posterior]]
    return len(taken) == len(summaries) and all(
        not (saved := _saved(summary)) or digest in saved for digest, summary in zip(taken, summaries, strict=True)
    )


def _saved(summary: Summary) -> set[str]:
    """Digests of the posteriors that a cell's manifest names."""
    return {
        entry.sha256
        for name, entry in summary.manifest.items()
        if name.startswith(f"{POSTERIOR}/") and name.endswith(".safetensors")
    }
