"""The jobs after a cell: predictions from its posterior, and pruning sweeps of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bnn.errors import UserError
from bnn.records.inference import InferenceSummary
from bnn.records.pruning import PruningSummary
from bnn.settings import FOREIGN_LIMIT
from campaign.ask.sections import COMMANDS, AfterSection, Sweep
from campaign.ask.studies import Study
from campaign.io import unreadable
from campaign.jobs.train import PlannedCell
from campaign.names.cell import Cell
from campaign.names.commands import INFER, PRUNE
from campaign.names.layout import Layout
from campaign.site.allocation import Allocation
from campaign.site.site import Site

RECORDS: dict[str, type[InferenceSummary] | type[PruningSummary]] = {INFER: InferenceSummary, PRUNE: PruningSummary}
# The label by which a record says which job of a plan it is of.
FINGERPRINT = "job"


@dataclass(frozen=True)
class AfterJob:
    """One job after a cell; `sweep` is of pruning only. `target` is the only target that asks for it, empty: any.

    `foreign_limit` is its cell's: what others may do before the verdict is WARN; so is `device`, "cpu" or "cuda".
    `trained` is a hash of how its cell is trained, `launch` of the site's environment: the numbers depend on both.
    """

    command: str
    cell: Cell
    section: AfterSection
    sweep: Sweep | None
    study: str
    target: str
    dataset_options: dict[str, Any]
    seed: int
    threads: int
    trained: str
    launch: str
    allocation: Allocation | None = None
    foreign_limit: float = FOREIGN_LIMIT
    device: str = "cpu"

    @property
    def gpus(self) -> int:
        """GPUs that it uses of its machine."""
        return 1 if self.device == "cuda" else 0

    @property
    def name(self) -> str:
        """Unique within the site, for scripts and logs."""
        return "_".join(word for word in (self.command, self.cell.name, self.word) if word)

    @property
    def word(self) -> str:
        """Of a pruning sweep, its folder's name; else empty."""
        return self.sweep.word if self.sweep else ""

    @cached_property
    def measures(self) -> list[str]:
        """Options that say what is computed."""
        section = self.section
        words: list[Any] = ["--dataset", self.cell.dataset]
        if self.dataset_options:
            words += ["--dataset-options", json.dumps(self.dataset_options, sort_keys=True)]
        if section.images:
            words += ["--images", section.images]
        if self.sweep:
            words += ["--percent", ",".join(f"{value:g}" for value in section.percent)]
            words += ["--semantics", self.sweep.semantics, "--scope", self.sweep.scope, "--by", self.sweep.by]
        else:
            words += ["--split", "test", "--mode", "exact", "--engine", "single"]
        words += ["--draws", section.draws, "--seed", self.seed, "--threads", self.threads]
        if self.device != "cpu":  # which is not told: these words are part of finished records' fingerprints
            words += ["--device", self.device]
        return [str(word) for word in words]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what is computed, from what, and how it is launched: another one makes it run again."""
        facts = [self.command, self.measures, self.trained, self.launch]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @property
    def options(self) -> list[str]:
        """What `bnn infer` or `bnn prune` is told, except where to read and to write."""
        labels = self.cell.labels() | {FINGERPRINT: self.fingerprint}
        limit = [] if self.foreign_limit == FOREIGN_LIMIT else ["--foreign-limit", f"{self.foreign_limit:g}"]
        return [*self.measures, *limit, "--labels", json.dumps(labels, sort_keys=True)]

    def record(self, layout: Layout) -> Path:
        """Its summary, which is written last of all."""
        return layout.pruning(self.cell, self.sweep.word) if self.sweep else layout.inference(self.cell)


def plan_after(studies: Iterable[Study], cells: Sequence[PlannedCell], site: Site) -> tuple[AfterJob, ...]:
    """The jobs after all cells, inferences first, each in the order of the cells.

    Raises UserError when a section finds no posterior, or two studies ask for one job with different options.
    """
    jobs: dict[str, AfterJob] = {}
    for command in COMMANDS:
        sections = {study.name: section for study in studies if (section := study.after(command))}
        asked = set()
        for planned in cells:
            if not planned.settings.save_posterior:
                continue
            for name in planned.studies:
                if name in sections and sections[name].selects(planned.cell):
                    asked.add(name)
                    for job in _jobs(planned, sections[name], name, site):
                        jobs[job.name] = _join(jobs[job.name], job) if job.name in jobs else job
        for name, section in sections.items():
            if name not in asked:
                why = "kind bnn, save_posterior: true" + (", as its where says" if section.where else "")
                raise UserError(f"{section.origin}: no cell of the study saves a posterior ({why})")
    return tuple(jobs.values())


def _jobs(planned: PlannedCell, section: AfterSection, study: str, site: Site) -> list[AfterJob]:
    settings = planned.settings
    threads = site.threads_of_job(section.threads, section.origin)
    facts = (study, planned.target, settings.dataset_options, settings.seed, threads, planned.fingerprint)
    sweeps: tuple[Sweep | None, ...] = section.sweeps or (None,)
    what = f"bnn {section.command} after {planned.cell.name}"
    allocation = site.allocate(1, planned.cell.facts() | {"jobs": section.command}, what)
    launched = (site.environment_hash, allocation, settings.foreign_limit, settings.device)
    return [AfterJob(section.command, planned.cell, section, sweep, *facts, *launched) for sweep in sweeps]


def _join(first: AfterJob, second: AfterJob) -> AfterJob:
    """One job that two studies ask for."""
    if first.fingerprint != second.fingerprint:
        raise UserError(
            f"{first.section.origin} and {second.section.origin} ask for the same job {first.name} with different "
            "options; give one of the studies a variant of its own"
        )
    return replace(first, target=first.target if first.target == second.target else "")


def plan_entry(job: AfterJob) -> dict[str, Any]:
    """What plan.json says of a job; `record` is relative to the results folder."""
    return asdict(job.cell) | {
        "name": job.name,
        "cell": job.cell.name,
        "study": job.study,
        "target": job.target,
        "draws": job.section.draws,
        "images": job.section.images,
        "threads": job.threads,
        **(asdict(job.sweep) | {"percent": list(job.section.percent)} if job.sweep else {}),
        "fingerprint": job.fingerprint,
        "record": job.record(Layout(Path(), job.cell.site)).as_posix(),
    }


def is_current(job: AfterJob, layout: Layout) -> bool:
    """Whether the job's record tells of what the plan asks for, made after its cell was trained last."""
    record, summary = job.record(layout), layout.summary(job.cell)
    if not record.exists() or not summary.exists() or record.stat().st_mtime < summary.stat().st_mtime:
        return False
    model: type[BaseModel] = RECORDS[job.command]
    try:
        found = model.model_validate_json(record.read_bytes())
    except (OSError, ValidationError):
        return False
    return tells_of(found, job.fingerprint)  # type: ignore[arg-type]


def is_damaged(job: AfterJob, layout: Layout) -> bool:
    """Whether the job's record is there and cannot be read."""
    return unreadable.is_damaged(job.record(layout), RECORDS[job.command])


def tells_of(record: InferenceSummary | PruningSummary, fingerprint: str) -> bool:
    """Whether a record is of the job with this fingerprint."""
    return bool(record.labels.get(FINGERPRINT) == fingerprint)
