"""What a target of the workflow wants: which records, and which jobs Snakemake may run for them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bnn.errors import UserError
from campaign.jobs.bench import BENCH_TARGET
from campaign.jobs.job import Job
from campaign.jobs.kinds import KINDS
from campaign.names.targets import METHODS, PRUNING, TIME_TO_ACCURACY, TUNING
from campaign.run.driver import Driver

GPU_SCALING = "gpu_scaling"
REPORTING = frozenset(
    {"report", BENCH_TARGET, PRUNING, METHODS, TIME_TO_ACCURACY, TUNING}
)  # report of what there is; all others run what is missing
SCALING = frozenset({"cpu_scaling", GPU_SCALING})  # need the cells only that feed scaling figures
NO_RECORD = "(?!)"  # matches nothing


@dataclass(frozen=True)
class Wanted:
    """Of a campaign at a moment; `roles` are those that scaling figures draw. No targets are the default one.

    A record that is as the plan asks is a source file to Snakemake: no rule makes it, so that neither its time nor what
    Snakemake remembers of it is a reason to make it again. Rules of jobs make the others (`pattern`), those that
    are there, too.
    """

    driver: Driver
    roles: frozenset[str] = frozenset()

    @cached_property
    def jobs(self) -> dict[str, Job]:
        """Those that have to run, whoever asks for them, by their records."""
        return {str(job.record(self.driver.layout)): job for job in self.driver.outstanding}

    def job(self, kind: type[Job], words: Mapping[str, str]) -> Job:
        """The one of a rule's wildcards."""
        return self.jobs[str(self.driver.layout.root / kind.RECORD.format(**words))]

    def pattern(self, kind: type[Job]) -> str:
        """The output of the rule of a kind of jobs: the records of those that have to run, and no others.

        Snakemake lets a wildcard's regular expression look ahead: the first one asserts the rest of the path.
        """
        before, _, rest = kind.RECORD.partition("{")
        first, _, rest = rest.partition("}")
        ours = [
            kind.RECORD.format(**job.words).removeprefix(before) for job in self.jobs.values() if isinstance(job, kind)
        ]
        constraint = f"(?=(?:{'|'.join(map(re.escape, ours))})$)[^/]+" if ours else NO_RECORD
        return f"{self.driver.layout.root}/{before}{{{first},{constraint}}}{rest}"

    def records(self, command: str, targets: frozenset[str]) -> list[Path]:
        """Records of a command's jobs: those that are as the plan asks, and those that the targets make so."""
        return [
            job.record(self.driver.layout)
            for job in self.driver.campaign.jobs
            if job.command == command and (job.name in self.driver.current or self._asked_for(job, targets))
        ]

    def _asked_for(self, job: Job, targets: frozenset[str]) -> bool:
        if job.target:
            return job.target in targets
        if targets and targets <= REPORTING:
            return False
        return not (targets and targets <= REPORTING | SCALING) or not self.roles.isdisjoint(job.feeds)

    def refusals(self, targets: frozenset[str]) -> list[str]:
        """Targets that this campaign or site cannot serve, a line each that says what they need."""
        campaign, layout = self.driver.campaign, self.driver.layout
        said = {}
        if not campaign.bench:
            said[BENCH_TARGET] = f"campaign {campaign.name} has no section bench in {campaign.origin}"
        needed = {PRUNING: campaign.after, METHODS: campaign.after, TIME_TO_ACCURACY: campaign.cells}
        for target, jobs in needed.items():
            if not any(job.target == target for job in jobs):
                said[target] = f"campaign {campaign.name} has no study with target {target}"
        if not campaign.tuning:
            said[TUNING] = f"campaign {campaign.name} has no section tuning in {campaign.origin}"
        if not campaign.site.has_gpus:
            what = "use the profile of a site whose hardware lists gpus_per_node"
            said[GPU_SCALING] = f"site {layout.site} has no GPUs; {what}"
        return [f"{target}: {why}" for target, why in said.items() if target in targets]

    def named(self, words: Iterable[str]) -> list[str]:
        """Of the words of a command line, the files that are records as the plan asks: no rule of a job makes them.

        Raises UserError for a file that has a record's name and is of no job of this campaign.
        """
        layout, campaign = self.driver.layout, self.driver.campaign
        records = {_absolute(job.record(layout)): job for job in campaign.jobs}
        found = {}
        for target in words:
            job = records.get(_absolute(target))
            if job is not None and job.name in self.driver.current:
                found[str(job.record(layout))] = job
            elif job is None and any(_is_record(kind, _absolute(target), _absolute(layout.root)) for kind in KINDS):
                where = f"campaign {campaign.name} on {layout.site}"
                raise UserError(f"{target}: of no job of {where} (campaign plan lists them)")
        return list(found)


def _absolute(path: str | Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 (links are kept, as Snakemake does)


def _is_record(kind: type[Job], path: str, root: str) -> bool:
    before, after = kind.RECORD.partition("{")[0], kind.RECORD.rpartition("}")[2]
    return path.startswith(f"{root}/{before}") and path.endswith(after)
