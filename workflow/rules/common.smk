# What all rules share. Decisions are made in workflow/campaign; here they are only asked for.
import atexit
import json
import sys
from pathlib import Path

from bnn.errors import UserError
from campaign.jobs.kinds import KINDS
from campaign.names.commands import BENCH, INFER, PRUNE, TRAIN
from campaign.names.layout import data_key
from campaign.results import sources
from campaign.results.claims.expressions import TABLES as CLAIMED
from campaign.results.claims.ledger import LEDGER
from campaign.results.figures import catalogue
from campaign.results.figures.sites import other_sites
from campaign.results.tables.inference_schemas import INFERENCE_TABLES, PRUNING_TABLES
from campaign.results.tables.projection_schemas import PROJECTION_TABLES
from campaign.results.tables.schemas import BENCH_TABLES, CELL_TABLES, METHOD_TABLES, OF_REPORT
from campaign.results.tables.tuning_schemas import TUNING_TABLES
from campaign.run.entry import open_campaign
from campaign.run.readiness import executor_refusal, unusual
from campaign.names.targets import METHODS, PRUNING, TIME_TO_ACCURACY, TUNING
from campaign.run.targets import Wanted


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
DATASETS = {data_key(name, options): (name, options) for name, options in DRIVER.campaign.datasets()}
PLAN = DRIVER.plan
OTHERS = other_sites(LAYOUT)
for other in OTHERS:
    if other.problem:
        print(f"site {other.name} is left out of figures 7a to 7d: {other.problem}", file=sys.stderr)
AVAILABLE = catalogue.available(PLAN, OTHERS)
SCALING = [name for name in AVAILABLE if catalogue.FIGURES[name].role]
WANTED = Wanted(DRIVER, frozenset(catalogue.FIGURES[name].role for name in SCALING))
try:
    NAMED = WANTED.named(sys.argv[1:])
except UserError as error:
    refuse(error)


def targets():
    """What Snakemake was asked for; known once it builds its graph."""
    return frozenset(workflow.dag_settings.targets)


def start_driver():
    """Jobs are about to start: hold the site's lock, so that a second driver is refused, and write their scripts."""
    for line in WANTED.refusals(targets()):
        refuse(line)
    if targets() == {"plan"}:
        return
    asked = workflow.dag_settings
    forced = bool(asked.forceall or asked.forcetargets or asked.forcerun)
    for line in unusual(forced, workflow.resource_settings.nodes or sys.maxsize, DRIVER.campaign):
        print(line, file=sys.stderr)
    used = workflow.executor_plugin.name
    scheduler = getattr(workflow.executor_settings, "scheduler", "")
    try:
        if not workflow.touch and (why := executor_refusal(DRIVER.campaign.site, used, scheduler)):
            raise UserError(why)
        DRIVER.start()
    except UserError as error:
        refuse(error)


def announce_report():
    """The report's path, after everything that Snakemake prints."""
    if LAYOUT.report.exists():
        atexit.register(print, LAYOUT.report)


def of_job(kind, fact):
    """A fact of the job of a rule's wildcards, as a function of these."""
    return lambda wildcards: fact(WANTED.job(kind, wildcards))


def job_inputs(kind):
    """Of jobs after cells these cells' summaries, and the record of the data set where one is read.

    Where the job's own record is there, but not as the plan asks, Snakemake is told to make it all the same.
    """

    def inputs(wildcards):
        job = WANTED.job(kind, wildcards)
        if job.record(LAYOUT).exists():
            workflow.dag.forcefiles.add(str(job.record(LAYOUT)))
        trained = [LAYOUT.summary(cell) for cell in job.after]
        return {"trained": trained, "data": [ancient(LAYOUT.data_record(*data)) for data in job.reads]}

    return inputs


def data_name(wildcards):
    return DATASETS[wildcards.key][0]


def data_options(wildcards):
    return json.dumps(DATASETS[wildcards.key][1], sort_keys=True)


def data_folder(wildcards):
    return DRIVER.place.data_dir


def served(files):
    """The files, unless this campaign or site cannot serve a target: a dry run says so, any other ends when it starts."""
    said = WANTED.refusals(targets())
    if workflow.dryrun:
        print(*said, sep="\n", end="\n" if said else "", file=sys.stderr)
    return [] if said else files


def measured(wildcards):
    """Summaries of the cells that the targets want."""
    return WANTED.records(TRAIN, targets())


def inferred(wildcards):
    return WANTED.records(INFER, targets())


def pruned(wildcards):
    return WANTED.records(PRUNE, targets())


def benchmarks(wildcards):
    return WANTED.records(BENCH, targets())


def compared(wildcards):
    """The comparison's figure and the report."""
    return served([*figure_files([catalogue.PEER_COMPARISON]), LAYOUT.report])


def of_target(target, shows):
    """Records of the jobs that only this target runs, the figures that show such, and the report."""
    wanted = [job.record(LAYOUT) for job in DRIVER.campaign.jobs if job.target == target]
    drawn = [name for name in AVAILABLE if shows(catalogue.FIGURES[name])]
    return served([*wanted, *figure_files(drawn), LAYOUT.report])


def say_replaced(target):
    """What a target's studies take in place of data sets of one's own that are not prepared here, a line each."""
    for study, line in DRIVER.campaign.replaced.items():
        if DRIVER.campaign.studies[study].target == target:
            print(line, file=sys.stderr)


def full_pruning(wildcards):
    """What target pruning_full runs, and draws of it."""
    return of_target(PRUNING, lambda figure: figure.sweeps)


def methods_compared(wildcards):
    """What target methods runs, and draws of it."""
    say_replaced(METHODS)
    return of_target(METHODS, lambda figure: figure.compared)


def timed_to_accuracy(wildcards):
    """What target time_to_accuracy runs, and draws of it."""
    say_replaced(TIME_TO_ACCURACY)
    return of_target(TIME_TO_ACCURACY, lambda figure: figure.role == catalogue.ACCURACY)


def tuned(wildcards):
    """What target tuning runs, and draws of it."""
    return of_target(TUNING, lambda figure: figure.tuned)


def measuring_lock(wildcards, output):
    """The lock that what is made here shares, so that it never computes beside a measurement; none with a scheduler.

    Snakemake takes no parameter that is made from the output for a reason to run: where the lock lies changes nothing.
    """
    return str(LAYOUT.measuring_lock) if PLAN["site"]["scheduler"] == "none" else ""


def sharing_words(wildcards, output):
    """Words before a command that shares this lock; none with a scheduler."""
    lock = measuring_lock(wildcards, output)
    return ["python", "-m", "campaign.io.sharing", lock] if lock else []


def figure_files(names):
    return [LAYOUT.figure(name, suffix) for name in names for suffix in ("svg", "png")]


def table_files(names):
    return [LAYOUT.table(name) for name in names]


def other_files(name):
    """Plans and tables of the sites beside this one, for a figure that compares: as they are, none is made here."""
    return [file for other in OTHERS for file in other.files] if catalogue.FIGURES[name].devices else []


def other_tables(names):
    """The tables of the sites beside this one, for claims that name sites: as they are, none is made here."""
    return [file for other in OTHERS for file in other.tables(names)]


def other_contents(name):
    """What those files hold: a reason to draw again, as their times are those of copies."""
    return [other.fingerprint for other in OTHERS] if catalogue.FIGURES[name].devices else []


def gpu_figures(wildcards):
    """Figures over the GPUs of this site."""
    return served([*measured(wildcards), *figure_files(SCALING)])
