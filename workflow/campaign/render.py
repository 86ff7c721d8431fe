"""Every cell's job script and settings file, rendered from the template of the site's scheduler."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from bnn.records.files import CELL, JOB_LOG, MPI, MPI_ASIDE, SUMMARY, TIMELINE
from campaign.after import AfterJob
from campaign.bench import BenchPoint
from campaign.files import write_if_changed
from campaign.grid import Campaign, PlannedCell
from campaign.layout import FINISHED, Layout

TEMPLATES = Path(__file__).parents[1] / "templates"


@dataclass(frozen=True)
class Place:
    """Where scripts run: `workdir` is what relative paths start from, `programs` the folder that holds `bnn`."""

    workdir: Path
    programs: Path
    data_dir: Path

    @classmethod
    def here(cls, layout: Layout) -> Place:
        """This process's folder, environment and data folder (BNN_DATA_DIR, else data/ in the results folder)."""
        data_dir = Path(os.environ.get("BNN_DATA_DIR") or layout.results / "data")
        return cls(Path.cwd(), Path(sys.prefix) / "bin", data_dir)


def render_jobs(campaign: Campaign, layout: Layout, place: Place, keep: bool = False) -> list[Path]:
    """Write all scripts and settings files whose content changed, remove those of no cell; returns what it wrote.

    With `keep`, files that exist are left as they are (a run that reads them is going on).
    """
    template = _template(f"job_{campaign.site.scheduler}")
    written: list[Path] = []
    wanted: set[Path] = set()
    for planned in campaign.cells:
        script, settings = layout.script(planned.cell), layout.settings(planned.cell)
        wanted |= {script, settings}
        if not (keep and settings.exists()) and write_if_changed(settings, settings_text(planned)):
            written.append(settings)
        if not (keep and script.exists()):
            text = script_text(planned, campaign, layout, place, template)
            if write_if_changed(script, text, mode=0o755):
                written.append(script)
    beside = {layout.job(point.name): bench_text(point, campaign, layout, place) for point in campaign.bench}
    beside |= {layout.job(job.name): after_text(job, campaign, layout, place) for job in campaign.after}
    wanted |= set(beside)
    for script, text in beside.items():
        if not (keep and script.exists()) and write_if_changed(script, text, mode=0o755):
            written.append(script)
    if not keep:
        for found in layout.jobs.iterdir():
            if found not in wanted and found.suffix in (".sh", ".json") and not found.name.startswith("."):
                found.unlink()
    return written


def bench_text(point: BenchPoint, campaign: Campaign, layout: Layout, place: Place) -> str:
    """The script of one benchmark."""
    return _template(f"bench_{campaign.site.scheduler}").render(
        campaign=campaign.name,
        point=point,
        site=campaign.site,
        place=place,
        record=layout.bench(point.word, point.batch),
        script=layout.job(point.name),
        measuring_lock=layout.measuring_lock,
    )


def after_text(job: AfterJob, campaign: Campaign, layout: Layout, place: Place) -> str:
    """The script of one job after a cell."""
    return _template(f"after_{campaign.site.scheduler}").render(
        campaign=campaign.name,
        job=job,
        site=campaign.site,
        place=place,
        posterior=layout.posterior(job.cell),
        folder=job.record(layout).parent,
        script=layout.job(job.name),
        measuring_lock=layout.measuring_lock,
    )


def settings_text(planned: PlannedCell) -> str:
    """What `bnn train --settings` reads."""
    values = planned.settings.model_dump(mode="json", exclude={"data_dir"})
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def script_text(
    planned: PlannedCell, campaign: Campaign, layout: Layout, place: Place, template: Template | None = None
) -> str:
    """The script of one cell."""
    template = template or _template(f"job_{campaign.site.scheduler}")
    cell, site = planned.cell, campaign.site
    return template.render(
        campaign=campaign.name,
        name=cell.name,
        nodes=cell.nodes,
        ranks=planned.ranks,
        threads=planned.settings.threads,
        site=site,
        hash=planned.settings.fingerprint(),
        launch=planned.launch,
        place=place,
        folder=layout.folder(cell),
        summary_name=SUMMARY,
        finished_name=FINISHED,
        cell_name=CELL,
        job_log=JOB_LOG,
        profiler=site.profiler_of(planned.settings.engine),
        mpi=MPI,
        mpi_aside=MPI_ASIDE,
        timeline=TIMELINE,
        settings=layout.settings(cell),
        script=layout.script(cell),
        measuring_lock=layout.measuring_lock,
        cell_lock=layout.lock(cell),
        launcher=site.launcher.command(planned.ranks),
    )


def _template(name: str) -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,  # shell, not HTML: every value passes through the filter q
    )  # fmt: skip
    environment.filters["q"] = _quoted
    environment.filters["comment"] = _comment
    return environment.get_template(f"{name}.sh.j2")


def _quoted(value: Any) -> str:
    """A word, or several, as the shell must see them."""
    if isinstance(value, (list, tuple)):
        return shlex.join(str(word) for word in value)
    return shlex.quote(str(value))


def _comment(value: Any) -> str:
    """Text that cannot leave its comment line."""
    return re.sub(r"[^\x20-\x7e]+", " ", str(value))
