"""The kinds of jobs, and the planning of those after cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bnn.errors import UserError
from campaign.ask.sections import AfterSection
from campaign.ask.studies import Study
from campaign.jobs.after import AfterJob, Member
from campaign.jobs.bench import BenchJob
from campaign.jobs.infer import InferConditionsJob, InferEnsembleJob, InferJob
from campaign.jobs.job import Job
from campaign.jobs.prune import PruneJob
from campaign.jobs.train import TrainJob
from campaign.names.cell import Cell
from campaign.site.site import Site

AFTER: tuple[type[AfterJob], ...] = (InferJob, InferConditionsJob, InferEnsembleJob, PruneJob)
KINDS: tuple[type[Job], ...] = (TrainJob, *AFTER, BenchJob)  # in the order in which a campaign's jobs run


def plan_after(studies: Iterable[Study], cells: Sequence[TrainJob], site: Site) -> tuple[AfterJob, ...]:
    """The jobs after all cells, kind by kind, each in the order of the cells.

    Raises UserError when a section finds no posterior, or fewer than it mixes, or two studies ask for one job with
    different options.
    """
    studies = list(studies)
    jobs: dict[str, AfterJob] = {}
    for kind in AFTER:
        sections = {study.name: section for study in studies if (section := study.after(kind.COMMAND))}
        chosen = {name: _chosen(cells, name, section) for name, section in sections.items()}
        groups = [group for name, section in sections.items() for group in _groups(kind, chosen[name], section, name)]
        place = {planned.cell: index for index, planned in enumerate(cells)}
        for name, taken in sorted(groups, key=lambda group: place[group[1][0].cell]):
            for job in _jobs(kind, taken, sections[name], name, site):
                jobs[job.name] = _join(jobs[job.name], job) if job.name in jobs else job
    return tuple(jobs.values())


def _chosen(cells: Sequence[TrainJob], study: str, section: AfterSection) -> list[TrainJob]:
    """The cells whose posteriors a section asks for, in their order. Raises UserError where there is none."""
    chosen = [each for each in cells if study in each.studies and section.selects(each.cell)]
    chosen = [each for each in chosen if each.settings.save_posterior]
    if not chosen:
        kinds = " or ".join(section.kinds)
        why = f"kind {kinds}, save_posterior: true" + (", as its where says" if section.where else "")
        raise UserError(f"{section.origin}: no cell of the study saves a posterior ({why})")
    return chosen


def _groups(
    kind: type[AfterJob], chosen: Sequence[TrainJob], section: AfterSection, study: str
) -> list[tuple[str, list[TrainJob]]]:
    """What one job each takes: so many repeats of a point as `kind.together` says; what is left over is not used.

    Raises UserError for a point with fewer, and where draws cannot be made in equal parts.
    """
    size = kind.together(section)
    points: dict[Cell, list[TrainJob]] = {}
    for each in chosen:
        points.setdefault(replace(each.cell, repeat=0), []).append(each)
    found = []
    for point, repeats in points.items() if size else ():
        if len(repeats) < size:
            had = f"{point.name.rpartition('_r')[0]} has {len(repeats)} repeats that save a posterior"
            raise UserError(f"{section.origin}.ensemble: {size} posteriors are to be mixed, and {had}")
        if point.kind == "bnn" and section.draws % size:
            parts = f"{size} posteriors are mixed in equal parts; give a multiple of {size}"
            raise UserError(f"{section.origin}.draws: {section.draws}: {parts}")
        whole = len(repeats) - len(repeats) % size
        found += [(study, repeats[first : first + size]) for first in range(0, whole, size)]
    return found


def _jobs(
    kind: type[AfterJob], taken: Sequence[TrainJob], section: AfterSection, study: str, site: Site
) -> list[AfterJob]:
    """The jobs of a kind that take these cells' posteriors together."""
    planned, settings = taken[0], taken[0].settings
    placement = site.alone(section.threads, section.origin)
    facts = (study, planned.target, *planned.data, settings.seed, placement, planned.fingerprint)
    if section.ood and section.ood.data == planned.data:
        raise UserError(f"{section.origin}.ood: the held-out images are of this data set; give another one")
    what = f"bnn {section.command} after {planned.cell.name}"
    allocation = site.allocate(1, planned.cell.facts() | {"jobs": section.command}, what)
    launched = (site.environment_hash, allocation, settings.foreign_limit, settings.device)
    others = tuple(Member(each.cell, each.fingerprint) for each in taken[1:])
    return [kind(planned.cell, section, *facts, *launched, others=others, **way) for way in kind.ways(section)]


def _join(first: AfterJob, second: AfterJob) -> AfterJob:
    """One job that two studies ask for."""
    if first.fingerprint != second.fingerprint:
        raise UserError(
            f"{first.section.origin} and {second.section.origin} ask for the same job {first.name} with different "
            "options; give one of the studies a variant of its own"
        )
    return replace(first, target=first.target if first.target == second.target else "")
