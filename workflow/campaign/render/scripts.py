"""Every cell's job script and settings file, rendered from the template of the site's scheduler."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Template

from bnn.errors import UserError
from bnn.records.files import CELL, JOB_LOG, MPI, MPI_ASIDE, SUMMARY, TIMELINE
from bnn.settings import FOREIGN_LIMIT
from campaign.io.files import write_if_changed
from campaign.jobs.after import AfterJob
from campaign.jobs.bench import BenchPoint
from campaign.jobs.train import PlannedCell
from campaign.names.commands import BENCH, INFER, PRUNE, TRAIN
from campaign.names.layout import CHECK, FINISHED, Layout
from campaign.plan.campaign import Campaign
from campaign.render.shelltext import Safe, quoted, template
from campaign.site.allocation import Allocation
from campaign.site.launchers import Placement
from campaign.site.packing import PACK_OUTPUT, pack_script
from campaign.site.site import Site

TEMPLATES = Path(__file__).parents[2] / "templates"
DATA_DIR = "BNN_DATA_DIR"  # environment variable
COMMANDS = (TRAIN, INFER, PRUNE, BENCH)  # what jobs run; their logs' folders
# Where rank 0 listens, of engine torch: below the ports that the kernel gives to others, apart for cells side by side.
FIRST_PORT, PORTS = 20000, 12000


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


def render_jobs(campaign: Campaign, layout: Layout, place: Place, keep: bool = False) -> list[Path]:
    """Write all scripts and settings files whose content changed, remove those of no cell; returns what it wrote.

    With `keep`, files that exist are left as they are (a run that reads them is going on).
    """
    if campaign.site.scheduler.kind != "none":
        for command in COMMANDS:  # schedulers make no folders for what a job prints
            (layout.logs / command).mkdir(parents=True, exist_ok=True)
    job = _template("job")
    written: list[Path] = []
    wanted: set[Path] = {layout.job(CHECK)}
    for planned in campaign.cells:
        script, settings = layout.script(planned.cell), layout.settings(planned.cell)
        wanted |= {script, settings}
        if not (keep and settings.exists()) and write_if_changed(settings, settings_text(planned)):
            written.append(settings)
        if not (keep and script.exists()):
            text = script_text(planned, campaign, layout, place, job)
            if write_if_changed(script, text, mode=0o755):
                written.append(script)
    beside = {layout.job(point.name): bench_text(point, campaign, layout, place) for point in campaign.bench}
    beside |= {layout.job(job.name): after_text(job, campaign, layout, place) for job in campaign.after}
    beside |= pack_texts(campaign, layout, place)
    wanted |= set(beside)
    for script, text in beside.items():
        if not (keep and script.exists()) and write_if_changed(script, text, mode=0o755):
            written.append(script)
    if not keep:
        for found in layout.jobs.iterdir():
            if found not in wanted and found.suffix in (".sh", ".json") and not found.name.startswith("."):
                found.unlink()
    return written


def pack_texts(campaign: Campaign, layout: Layout, place: Place) -> dict[Path, str]:
    """The scripts of packed jobs, to which the executor adds what each of them runs; none where nothing is packed."""
    kinds = {pack_script(cell.allocation, cell.placement, _gpus(cell)) for cell in campaign.cells}
    kinds |= {pack_script(job.allocation, Placement(1, 1, job.threads), job.gpus) for job in campaign.after}
    kinds |= {pack_script(point.allocation, Placement(1, 1, point.threads), 0) for point in campaign.bench}
    pack = _template("pack")
    return {
        kind.path(layout): pack.render(
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


def _gpus(planned: PlannedCell) -> int:
    """GPUs that a cell uses of each machine."""
    return planned.placement.per_machine if planned.settings.device == "cuda" else 0


def _launcher(site: Site, placement: Placement, allocation: Allocation | None) -> Safe:
    """What starts ranks in a script, up to their program: on this job's own nodes where it shares a packed job."""
    nodes = ' ${nodes[@]+"${nodes[@]}"}' if allocation and allocation.pack and site.launcher.nodefile else ""
    return Safe(f"{quoted(site.launcher.command(placement))}{nodes} ")


def bench_text(point: BenchPoint, campaign: Campaign, layout: Layout, place: Place) -> str:
    """The script of one benchmark."""
    return _template("bench").render(
        _one_node(campaign, point.allocation, point.threads, layout, place),
        point=point,
        output=_output(layout.log(f"bench/{point.word}_b{point.batch}"), point.allocation),
        record=layout.bench(point.word, point.batch),
        script=layout.job(point.name),
        measuring_lock=layout.measuring_lock,
    )


def after_text(job: AfterJob, campaign: Campaign, layout: Layout, place: Place) -> str:
    """The script of one job after a cell."""
    name = "_".join(word for word in (job.cell.name, job.word) if word)
    return _template("after").render(
        _one_node(campaign, job.allocation, job.threads, layout, place, job.gpus),
        job=job,
        output=_output(layout.log(f"{job.command}/{name}"), job.allocation),
        posterior=layout.posterior(job.cell),
        folder=job.record(layout).parent,
        script=layout.job(job.name),
        measuring_lock=layout.measuring_lock,
    )


def _one_node(
    campaign: Campaign, allocation: Allocation | None, threads: int, layout: Layout, place: Place, gpus: int = 0
) -> dict[str, Any]:
    """What templates of jobs without ranks are told in common."""
    site = campaign.site
    placement = Placement(1, 1, threads, -(-threads // site.hardware.cores_per_node))
    away = allocation is not None and (site.launcher.leads_to_nodes or allocation.pack)
    return {
        "campaign": campaign.name,
        "site": site,
        "place": place,
        "threads": threads,
        "launcher": _launcher(site, placement, allocation) if away else "",
        **_asked(allocation, placement, gpus, layout),
    }


def _asked(allocation: Allocation | None, placement: Placement, gpus: int, layout: Layout) -> dict[str, Any]:
    """What directives.sh.j2 is told, but for the site and the output: what a job asks of its scheduler."""
    kind = pack_script(allocation, placement, gpus)
    return {
        "allocation": allocation,
        "placement": placement,
        "gpus": gpus,
        "pack_script": kind.path(layout).absolute() if kind else "",
    }


def _output(log: Path, allocation: Allocation | None) -> Path:
    """Where the scheduler writes what a job prints. Raises UserError for a path that a directive cannot hold."""
    path = log.absolute()
    if allocation is not None and re.search(r"[^\x21-\x7e]", str(path)):
        raise UserError(f"{path}: a scheduler cannot write there; use a results folder without spaces")
    return path


def settings_text(planned: PlannedCell) -> str:
    """What `bnn train --settings` reads. A limit as it is by default is not told: the text is a reason to run again."""
    usual = {"foreign_limit"} if planned.settings.foreign_limit == FOREIGN_LIMIT else set()
    values = planned.settings.model_dump(mode="json", exclude={"data_dir", *usual})
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def script_text(
    planned: PlannedCell, campaign: Campaign, layout: Layout, place: Place, given: Template | None = None
) -> str:
    """The script of one cell."""
    job = given or _template("job")
    cell, site, settings = planned.cell, campaign.site, planned.settings
    return job.render(
        _asked(planned.allocation, planned.placement, _gpus(planned), layout),
        campaign=campaign.name,
        name=cell.name,
        output=_output(layout.log(f"train/{cell.name}"), planned.allocation),
        torch_ranks=settings.engine == "torch" and planned.ranks > 1,
        port=FIRST_PORT + int(cell.hash, 16) % PORTS,
        threads=settings.threads,
        site=site,
        hash=settings.fingerprint(),
        launch=planned.launch,
        place=place,
        folder=layout.folder(cell),
        summary_name=SUMMARY,
        finished_name=FINISHED,
        cell_name=CELL,
        job_log=JOB_LOG,
        profiler=site.profiler_of(settings.engine),
        mpi=MPI,
        mpi_aside=MPI_ASIDE,
        timeline=TIMELINE,
        settings=layout.settings(cell),
        script=layout.script(cell),
        measuring_lock=layout.measuring_lock,
        cell_lock=layout.lock(cell),
        launcher=_launcher(site, planned.placement, planned.allocation),
    )


def _template(name: str) -> Template:
    return template(TEMPLATES, f"{name}.sh.j2")
