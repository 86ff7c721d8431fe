# What all rules share. Decisions are made in workflow/campaign; here they are only asked for.
import atexit
import json
import sys
from pathlib import Path

from bnn.errors import UserError
from bnn.records.files import SUMMARY
from bnn.records.inference import INFERENCE
from bnn.records.pruning import PRUNING_SUMMARY
from campaign.names.cell import Cell
from campaign.run.entry import open_campaign
from campaign.results import sources
from campaign.results.figures import catalogue
from campaign.results.figures.sites import other_sites
from campaign.names.layout import data_key
from campaign.render.scripts import Place
from campaign.results.tables.inference_schemas import INFERENCE_TABLES, PRUNING_TABLES
from campaign.results.tables.schemas import BENCH_TABLES, CELL_TABLES, TABLES


def refuse(why):
    """End with one line and exit code 2, as the command campaign does. (Snakemake lets SystemExit pass.)"""
    print(why, file=sys.stderr)
    sys.exit(2)


try:
    DRIVER = open_campaign(config, workflow.config_settings.config, workflow.configfiles, Path(workflow.basedir))
except UserError as error:
    refuse(error)
if DRIVER.notice:
    print(DRIVER.notice, file=sys.stderr)

LAYOUT = DRIVER.layout
PROFILE = Path(DRIVER.campaign.site.origin).parent
CELLS = {planned.cell.name: planned for planned in DRIVER.campaign.cells}
ORDER = {name: place for place, name in enumerate(CELLS)}
DATASETS = {data_key(name, options): (name, options) for name, options in DRIVER.campaign.datasets()}
AFTER = {job.name: job for job in DRIVER.campaign.after}
BENCHMARKS = {(point.word, str(point.batch)): point for point in DRIVER.campaign.bench}
PLAN = DRIVER.plan
OTHERS = other_sites(LAYOUT)
for other in OTHERS:
    if other.problem:
        print(f"site {other.name} is left out of figures 7a to 7d: {other.problem}", file=sys.stderr)
AVAILABLE = catalogue.available(PLAN, OTHERS)
SCALING = [name for name in AVAILABLE if catalogue.FIGURES[name].role]
SCALING_ROLES = {catalogue.FIGURES[name].role for name in SCALING}


def start_driver():
    """Jobs are about to start: hold the site's lock, so that a second driver is refused."""
    if set(workflow.dag_settings.targets) == {"plan"}:
        return
    try:
        DRIVER.start()
    except UserError as error:
        refuse(error)


def announce_report():
    """The report's path, after everything that Snakemake prints."""
    if LAYOUT.report.exists():
        atexit.register(print, LAYOUT.report)


def planned_cell(wildcards):
    """The planned cell of a job."""
    cell = Cell.from_folder(Path(TRAINING_FOLDER.format(**wildcards)))
    if cell.name not in CELLS:
        raise WorkflowError(f"{cell.folder}: no cell of campaign {DRIVER.campaign.name} on {LAYOUT.site}")
    return CELLS[cell.name]


def job_script(wildcards):
    return LAYOUT.script(planned_cell(wildcards).cell)


def job_settings(wildcards):
    """The settings file: a reason to run where the summary is of other settings, whatever Snakemake remembers."""
    cell = planned_cell(wildcards).cell
    return LAYOUT.settings(cell) if cell.name in DRIVER.stale else ancient(LAYOUT.settings(cell))


def job_data(wildcards):
    settings = planned_cell(wildcards).settings
    return LAYOUT.data_record(settings.dataset, settings.dataset_options)


def data_name(wildcards):
    return DATASETS[wildcards.key][0]


def data_options(wildcards):
    return json.dumps(DATASETS[wildcards.key][1], sort_keys=True)


def data_folder(wildcards):
    return Place.here(LAYOUT).data_dir


def job_fingerprint(wildcards):
    return planned_cell(wildcards).fingerprint


def job_priority(wildcards):
    """Earlier cells of the plan first: repeats stay interleaved."""
    return len(ORDER) - ORDER[planned_cell(wildcards).cell.name]


def planned_benchmark(wildcards):
    """The benchmark of a job."""
    point = BENCHMARKS.get((wildcards.model, wildcards.batch))
    if point is None:
        raise WorkflowError(f"no benchmark of {wildcards.model} at batch {wildcards.batch} in {DRIVER.campaign.name}")
    return point


def bench_script(wildcards):
    """Its script: a reason to run where the record is of other options, whatever Snakemake remembers."""
    point = planned_benchmark(wildcards)
    return ancient(LAYOUT.job(point.name)) if point.name in DRIVER.measured else LAYOUT.job(point.name)


def bench_fingerprint(wildcards):
    return planned_benchmark(wildcards).fingerprint


def benchmarks(wildcards):
    """Records of all benchmarks for target `peer_comparison`; else of those that have been measured, and none runs."""
    wanted = DRIVER.campaign.bench
    if "peer_comparison" not in workflow.dag_settings.targets:
        wanted = [point for point in wanted if point.name in DRIVER.measured]
    return [LAYOUT.bench(point.word, point.batch) for point in wanted]


def compared(wildcards):
    """The comparison's figure and the report; a campaign without benchmarks is told what the target needs."""
    if DRIVER.campaign.bench:
        return [*figure_files([catalogue.PEER_COMPARISON]), LAYOUT.report]
    line = f"peer_comparison: campaign {DRIVER.campaign.name} has no section bench in {DRIVER.campaign.origin}"
    if not workflow.dryrun:
        refuse(line)
    print(line, file=sys.stderr)
    return []


# Targets that report of what there is; all others run what is missing.
REPORTING = {"report", "peer_comparison", "pruning_full"}


def asked(target):
    """Whether what belongs to this target only (empty: to any) is asked for."""
    return not target or target in workflow.dag_settings.targets


def only(some):
    """Whether targets are asked for, and none but these."""
    targets = set(workflow.dag_settings.targets)
    return bool(targets) and targets <= some


def measured(wildcards):
    """Summaries of all cells; of those that a target has no need of the ones that have finished, and none runs.

    Targets that only report need no cell, those of scaling figures the cells that feed them.
    """
    wanted = [planned for planned in CELLS.values() if asked(planned.target)]
    if only(REPORTING):
        wanted = [planned for planned in wanted if planned.target or is_trained(planned)]
    elif only(REPORTING | {"cpu_scaling", "gpu_scaling"}):
        wanted = [planned for planned in wanted if is_trained(planned) or planned.target or feeds_scaling(planned)]
    return [LAYOUT.summary(planned.cell) for planned in wanted]


def feeds_scaling(planned):
    return not SCALING_ROLES.isdisjoint(planned.roles)


def is_trained(planned):
    return LAYOUT.summary(planned.cell).exists() and planned.cell.name not in DRIVER.stale


def inferred(wildcards):
    return after_records("infer")


def pruned(wildcards):
    return after_records("prune")


def after_records(command):
    """Records of the jobs after cells, as `measured` has summaries."""
    wanted = [job for job in AFTER.values() if job.command == command and asked(job.target)]
    if only(REPORTING):
        wanted = [job for job in wanted if job.target or job.name in DRIVER.made]
    return [job.record(LAYOUT) for job in wanted]


def planned_after(command, wildcards):
    """The job after a cell of these wildcards."""
    cell = planned_cell(wildcards).cell
    for job in AFTER.values():
        if job.command == command and job.cell == cell and job.word == getattr(wildcards, "sweep", ""):
            return job
    raise WorkflowError(f"{cell.folder}: no job of bnn {command} after it in campaign {DRIVER.campaign.name}")


def after_script(command):
    """Its script: a reason to run where the record is of other options, whatever Snakemake remembers."""

    def script(wildcards):
        job = planned_after(command, wildcards)
        return ancient(LAYOUT.job(job.name)) if job.name in DRIVER.made else LAYOUT.job(job.name)

    return script


def after_trained(wildcards):
    return LAYOUT.summary(planned_cell(wildcards).cell)


def after_fingerprint(command):
    return lambda wildcards: planned_after(command, wildcards).fingerprint


def full_pruning(wildcards):
    """What target pruning_full runs; a campaign without such a study is told what the target needs."""
    wanted = [job.record(LAYOUT) for job in AFTER.values() if job.target == "pruning_full"]
    if wanted:
        return [*wanted, *figure_files([name for name in AVAILABLE if catalogue.FIGURES[name].sweeps]), LAYOUT.report]
    line = f"pruning_full: campaign {DRIVER.campaign.name} has no study with target pruning_full"
    if not workflow.dryrun:
        refuse(line)
    print(line, file=sys.stderr)
    return []


def measuring_lock(wildcards, output):
    """The lock that what is made here shares, so that it never computes beside a measurement; none with a scheduler.

    Snakemake takes no parameter that is made from the output for a reason to run: where the lock lies changes nothing.
    """
    return str(LAYOUT.measuring_lock) if PLAN["site"]["scheduler"] == "none" else ""


def figure_files(names):
    return [LAYOUT.figure(name, suffix) for name in names for suffix in ("svg", "png")]


def table_files(names):
    return [LAYOUT.table(name) for name in names]


def other_files(name):
    """Plans and tables of the sites beside this one, for a figure that compares: as they are, none is made here."""
    return [file for other in OTHERS for file in other.files] if catalogue.FIGURES[name].devices else []


def other_contents(name):
    """What those files hold: a reason to draw again, as their times are those of copies."""
    return [other.fingerprint for other in OTHERS] if catalogue.FIGURES[name].devices else []


def gpu_figures(wildcards):
    """Figures over the GPUs of this site; a site without any is told what the target needs."""
    if DRIVER.campaign.site.has_gpus:
        return [*measured(wildcards), *figure_files(SCALING)]
    line = f"gpu_scaling: site {LAYOUT.site} has no GPUs; use the profile of a site whose hardware lists gpus_per_node"
    if not workflow.dryrun:
        refuse(line)
    print(line, file=sys.stderr)
    return []
