"""The kinds of jobs, and the planning of those after cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bnn.errors import UserError
from campaign.ask.sections import AfterSection
from campaign.ask.studies import Study
from campaign.jobs.after import AfterJob
from campaign.jobs.bench import BenchJob
from campaign.jobs.infer import InferConditionsJob, InferJob
from campaign.jobs.job import Job
from campaign.jobs.prune import PruneJob
from campaign.jobs.train import TrainJob
from campaign.site.site import Site

AFTER: tuple[type[AfterJob], ...] = (InferJob, InferConditionsJob, PruneJob)
KINDS: tuple[type[Job], ...] = (TrainJob, *AFTER, BenchJob)  # in the order in which a campaign's jobs run


def plan_after(studies: Iterable[Study], cells: Sequence[TrainJob], site: Site) -> tuple[AfterJob, ...]:
    """The jobs after all cells, kind by kind, each in the order of the cells.

    Raises UserError when a section finds no posterior, or two studies ask for one job with different options.
    """
    studies = list(studies)
    jobs: dict[str, AfterJob] = {}
    for kind in AFTER:
        sections = {study.name: section for study in studies if (section := study.after(kind.COMMAND))}
        asked = set()
        for planned in cells:
            if not planned.settings.save_posterior:
                continue
            for name in planned.studies:
                if name in sections and sections[name].selects(planned.cell):
                    asked.add(name)
                    for job in _jobs(kind, planned, sections[name], name, site):
                        jobs[job.name] = _join(jobs[job.name], job) if job.name in jobs else job
        for name, section in sections.items():
            if name not in asked:
                kinds = " or ".join(section.kinds)
                why = f"kind {kinds}, save_posterior: true" + (", as its where says" if section.where else "")
                raise UserError(f"{section.origin}: no cell of the study saves a posterior ({why})")
    return tuple(jobs.values())


def _jobs(kind: type[AfterJob], planned: TrainJob, section: AfterSection, study: str, site: Site) -> list[AfterJob]:
    settings = planned.settings
    placement = site.alone(section.threads, section.origin)
    facts = (study, planned.target, *planned.data, settings.seed, placement, planned.fingerprint)
    if section.ood and section.ood.data == planned.data:
        raise UserError(f"{section.origin}.ood: the held-out images are of this data set; give another one")
    what = f"bnn {section.command} after {planned.cell.name}"
    allocation = site.allocate(1, planned.cell.facts() | {"jobs": section.command}, what)
    launched = (site.environment_hash, allocation, settings.foreign_limit, settings.device)
    return [kind(planned.cell, section, *facts, *launched, **way) for way in kind.ways(section)]


def _join(first: AfterJob, second: AfterJob) -> AfterJob:
    """One job that two studies ask for."""
    if first.fingerprint != second.fingerprint:
        raise UserError(
            f"{first.section.origin} and {second.section.origin} ask for the same job {first.name} with different "
            "options; give one of the studies a variant of its own"
        )
    return replace(first, target=first.target if first.target == second.target else "")
