# What all rules share. Decisions are made in workflow/campaign; here they are only asked for.
import atexit
import json
import sys
from pathlib import Path

from bnn.errors import UserError
from bnn.records.files import SUMMARY
from campaign.cell import Cell
from campaign.entry import open_campaign
from campaign.figures import catalogue
from campaign.layout import data_key
from campaign.render import Place
from campaign.tables.schemas import BENCH_TABLES, CELL_TABLES, TABLES

ENVIRONMENT = f"{workflow.basedir}/envs/environment-cpu.yaml"

try:
    DRIVER = open_campaign(config, workflow.configfiles, Path(workflow.basedir))
except UserError as error:
    sys.exit(str(error))
if DRIVER.notice:
    print(DRIVER.notice, file=sys.stderr)

LAYOUT = DRIVER.layout
PROFILE = Path(DRIVER.campaign.site.origin).parent
CELLS = {planned.cell.name: planned for planned in DRIVER.campaign.cells}
ORDER = {name: place for place, name in enumerate(CELLS)}
DATASETS = {data_key(name, options): (name, options) for name, options in DRIVER.campaign.datasets()}
BENCHMARKS = {(point.word, str(point.batch)): point for point in DRIVER.campaign.bench}
PLAN = DRIVER.plan
AVAILABLE = catalogue.available(PLAN)
SCALING = [name for name in AVAILABLE if catalogue.FIGURES[name].role]


def start_driver():
    """Jobs are about to start: hold the site's lock, so that a second driver is refused."""
    if set(workflow.dag_settings.targets) == {"plan"}:
        return
    try:
        DRIVER.start()
    except UserError as error:
        sys.exit(str(error))


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
        sys.exit(line)
    print(line, file=sys.stderr)
    return []


def measured(wildcards):
    """Summaries of all cells; for targets that only report of those that have finished, and none runs."""
    targets = set(workflow.dag_settings.targets)
    if targets and targets <= {"report", "peer_comparison"}:
        present = [name for name in CELLS if LAYOUT.summary(CELLS[name].cell).exists()]
        return [LAYOUT.summary(CELLS[name].cell) for name in present if name not in DRIVER.stale]
    return [LAYOUT.summary(planned.cell) for planned in CELLS.values()]


def figure_files(names):
    return [LAYOUT.figure(name, suffix) for name in names for suffix in ("svg", "png")]


def table_files(names):
    return [LAYOUT.table(name) for name in names]


def gpu_figures(wildcards):
    """Figures over the GPUs of this site; a site without any is told what the target needs."""
    if DRIVER.campaign.site.has_gpus:
        return [*measured(wildcards), *figure_files(SCALING)]
    line = f"gpu_scaling: site {LAYOUT.site} has no GPUs; use the profile of a site whose hardware lists gpus_per_node"
    if not workflow.dryrun:
        sys.exit(line)
    print(line, file=sys.stderr)
    return []
