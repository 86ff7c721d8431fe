"""Every job's script, rendered from the template of its kind for the site's scheduler, and the files that it reads."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Template

from bnn.errors import UserError
from campaign.io.files import write_if_changed
from campaign.jobs.job import Job
from campaign.jobs.kinds import KINDS
from campaign.names.layout import CHECK, Layout
from campaign.plan.campaign import Campaign
from campaign.render.shelltext import Safe, quoted, template
from campaign.site.allocation import Allocation
from campaign.site.launchers import Placement
from campaign.site.packing import PACK_OUTPUT, pack_script

TEMPLATES = Path(__file__).parents[2] / "templates"
DATA_DIR = "BNN_DATA_DIR"  # environment variable


@dataclass(frozen=True)
class Place:
    """Where scripts run: `workdir` is what relative paths start from, `programs` the folder that holds `bnn`."""

    workdir: Path
    programs: Path
    data_dir: Path

    @classmethod
    def here(cls, layout: Layout) -> Place:
        """This process's folder, environment and data folder (BNN_DATA_DIR, else data/ in the results folder).

        Raises UserError where the variable holds what is no path of a folder that people make.
        """
        chosen = os.environ.get(DATA_DIR, "")
        if not chosen.isprintable():  # line breaks, escape sequences, bytes that are not UTF-8
            raise UserError(f"environment variable {DATA_DIR}: {chosen!r}: a path of characters that can be printed")
        data_dir = Path(chosen or layout.results / "data")
        return cls(Path.cwd(), Path(sys.prefix) / "bin", data_dir)


def render_jobs(campaign: Campaign, layout: Layout, place: Place, keep: Collection[str] = ()) -> list[Path]:
    """Write all jobs' files whose content changed, remove those of no job; returns what it wrote.

    Those of the jobs named in `keep`, which may be running or waiting, are left as they are.
    """
    if campaign.site.scheduler.kind != "none":
        for kind in KINDS:  # schedulers make no folders for what a job prints
            (layout.logs / kind.COMMAND).mkdir(parents=True, exist_ok=True)
    texts = pack_texts(campaign, layout, place)
    for job in campaign.jobs:
        texts |= job.beside(layout) | {job.script(layout): script_text(job, campaign, layout, place)}
    written = [
        path
        for path, text in texts.items()
        if not (path.stem in keep and path.exists())
        and write_if_changed(path, text, mode=0o755 if path.suffix == ".sh" else 0o644)
    ]
    for found in layout.jobs.iterdir():
        ours = found.suffix in (".sh", ".json") and not found.name.startswith(".")
        if ours and found not in texts and found.stem not in keep and found != layout.job(CHECK):
            found.unlink()
    return written


def script_text(job: Job, campaign: Campaign, layout: Layout, place: Place) -> str:
    """The script of one job."""
    site, allocation = campaign.site, job.allocation
    away = allocation is not None and (site.launcher.leads_to_nodes or allocation.pack)
    kind = pack_script(allocation, job.placement, job.gpus)
    return _template(job.TEMPLATE).render(
        job.context(layout, site),
        job=job,
        campaign=campaign.name,
        site=site,
        place=place,
        allocation=allocation,
        placement=job.placement,
        gpus=job.gpus,
        threads=job.placement.threads,
        launcher=_launcher(campaign, job) if job.HAS_RANKS or away else "",
        pack_script=kind.path(layout).absolute() if kind else "",
        output=output(job.log(layout), allocation),
        script=job.script(layout),
        measuring_lock=layout.measuring_lock,
    )


def pack_texts(campaign: Campaign, layout: Layout, place: Place) -> dict[Path, str]:
    """The scripts of packed jobs, to which the executor adds what each of them runs; none where nothing is packed."""
    kinds = {pack_script(job.allocation, job.placement, job.gpus) for job in campaign.jobs}
    return {
        kind.path(layout): _template("pack").render(
            campaign=campaign.name,
            site=campaign.site,
            place=place,
            allocation=kind.allocation,
            placement=Placement(kind.pack.nodes, kind.per_machine, kind.threads),
            gpus=kind.gpus,
            output=PACK_OUTPUT,
        )
        for kind in kinds
        if kind
    }


def _launcher(campaign: Campaign, job: Job) -> Safe:
    """What starts ranks in a script, up to their program: on this job's own nodes where it shares a packed job."""
    launcher = campaign.site.launcher
    nodes = ' ${nodes[@]+"${nodes[@]}"}' if job.allocation and job.allocation.pack and launcher.nodefile else ""
    return Safe(f"{quoted(launcher.command(job.placement))}{nodes} ")


def output(log: Path, allocation: Allocation | None) -> Path:
    """Where the scheduler writes what a job prints. Raises UserError for a path that a directive cannot hold."""
    path = log.absolute()
    if allocation is not None and re.search(r"[^\x21-\x7e]", str(path)):
        raise UserError(f"{path}: a scheduler cannot write there; use a results folder without spaces")
    return path


@functools.cache
def _template(name: str) -> Template:
    return template(TEMPLATES, f"{name}.sh.j2")
