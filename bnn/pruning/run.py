"""`bnn prune`: a posterior at several levels of pruning; each level is kept as it is finished."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bnn.device import prepare_device
from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.inference.heldout import held_out
from bnn.inference.run import disturbed, verdict
from bnn.neighbours import NeighbourMeter
from bnn.neighbours.together import alone
from bnn.posterior import GraphNetwork, load_posterior
from bnn.posterior.facts import find_posterior, posterior_facts
from bnn.provenance import git_state, versions
from bnn.pruning.levels import UNPRUNED_LEVEL, Level, Sweep, read_level
from bnn.pruning.settings import PruneSettings
from bnn.pruning.snr import snr_histogram
from bnn.ranks import refuse_several
from bnn.records import pruning as records
from bnn.records.columns import write_table
from bnn.records.files import write_text
from bnn.records.neighbours import NEIGHBOURS, NEIGHBOURS_FILE

WORK = ".levels"
TABLES = (
    records.PRUNING_FILE, records.LAYERS_FILE, records.SNR_FILE, records.LEVEL_TRUE_CLASS_FILE, NEIGHBOURS_FILE
)  # fmt: skip
# A loss of accuracy that the headline allows, in points.
ALLOWED_LOSS = 1.0


def level_folder(number: int) -> str:
    return "unpruned" if number == UNPRUNED_LEVEL else f"level-{number}"


def prune(settings: PruneSettings, out: Path, started_at: float) -> records.PruningSummary:
    """Run the sweep and write its records to `out`, pruning.json last.

    Levels that an interrupted sweep with the same settings has finished are kept. Raises UserError as `prepare_device`,
    `load_posterior` and `held_out` do, on several ranks, for a selection that cannot be made and when `out` cannot be
    written.
    """
    meter = NeighbourMeter("startup")
    refuse_several("prune", "a sweep is one process's: start it without a launcher, or on one rank")
    prepare_device(settings.device, settings.threads, SingleEngine())
    folder = find_posterior(settings.posterior, settings.step)
    network = load_posterior(folder)
    facts = posterior_facts(folder, network)
    images = held_out(settings, network)
    work = out / WORK / settings.fingerprint(facts.sha256)
    levels = [(UNPRUNED_LEVEL, None, None), *((i, *level) for i, level in enumerate(settings.levels))]
    try:
        prepare(out, work)
        finished: list[Level] = []
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("draws"))
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task("pruning", total=settings.draws * len(levels))
            meter.enter("levels")
            sweep = Sweep(settings, network, images, bar, task)
            for number, percent, threshold in levels:
                place = work / level_folder(number)
                kept = read_level(place)
                if kept is not None:
                    bar.advance(task, settings.draws)
                elif number == UNPRUNED_LEVEL:
                    kept = sweep.unpruned(place)
                else:
                    kept = sweep.level(number, percent, threshold, finished[0], place)
                finished.append(kept)
        meter.stop()
        neighbours = alone(meter)
        staging = out / f".partial-{os.getpid()}"
        staging.mkdir()
        write_tables(finished, network, staging)
        write_table(neighbours.frame(), staging / NEIGHBOURS_FILE, NEIGHBOURS)
        rows = pd.DataFrame([level.row for level in finished])
        best = headline(rows)
        revision, dirty = git_state()
        summary = records.PruningSummary(
            posterior=facts,
            labels=settings.labels,
            dataset=settings.dataset,
            dataset_source=images.source,
            split=settings.split,
            images=len(images),
            draws=settings.draws,
            seed=settings.seed,
            semantics=settings.semantics,
            scope=settings.scope,
            by=settings.by,
            levels=len(settings.levels),
            threads=settings.threads,
            device=settings.device,
            accuracy_unpruned=finished[0].row["accuracy"],
            largest_percent=None if best is None else float(best["percent"]),
            largest_speedup=None if best is None else float(best["speedup"]),
            largest_form=None if best is None else str(best["form"]),
            seconds_total=time.time() - started_at,
            started_at=started_at,
            stopped_at=time.time(),
            command=sys.argv,
            versions=versions(),
            hosts=[socket.gethostname()],
            git_revision=revision,
            git_dirty=dirty,
            neighbours=neighbours.phases,
            verdict=verdict(facts, None, dirty, disturbed(neighbours, "levels", settings)),
        )
        write_text(staging / records.PRUNING_SUMMARY, summary.model_dump_json(indent=2))
        publish(staging, work, out)
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}") from None
    return summary


def prepare(out: Path, work: Path) -> None:
    """Make the folder ready: an earlier result goes, levels of other settings too."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (records.PRUNING_SUMMARY, *TABLES):
        (out / name).unlink(missing_ok=True)
    old = [*out.glob(".partial-*"), *out.glob("level-*"), out / level_folder(UNPRUNED_LEVEL), *(out / WORK).glob("*")]
    for path in old:
        if path != work:
            shutil.rmtree(path, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)


def write_tables(levels: list[Level], network: GraphNetwork, staging: Path) -> None:
    """Write the Parquet records."""
    rows = pd.DataFrame([level.row for level in levels])
    write_table(rows, staging / records.PRUNING_FILE, records.PRUNING)
    layers = pd.DataFrame([row for level in levels for row in level.layers])
    write_table(layers, staging / records.LAYERS_FILE, records.LAYERS)
    write_table(snr_histogram(network), staging / records.SNR_FILE, records.SNR)
    of_truth = pd.concat([level.of_truth for level in levels], ignore_index=True)
    write_table(of_truth, staging / records.LEVEL_TRUE_CLASS_FILE, records.LEVEL_TRUE_CLASS)


def headline(rows: pd.DataFrame) -> pd.Series | None:
    """The level with the largest share removed whose loss of accuracy is below ALLOWED_LOSS with 95% certainty."""
    safe = rows[(rows["level"] != UNPRUNED_LEVEL) & (rows["accuracy_loss_high"] < ALLOWED_LOSS)]
    return None if safe.empty else safe.loc[safe["percent"].idxmax()]


def publish(staging: Path, work: Path, out: Path) -> None:
    """Rename levels and tables into place, the summary last."""
    for level in work.iterdir():
        os.replace(level, out / level.name)
    for name in (*TABLES, records.PRUNING_SUMMARY):
        os.replace(staging / name, out / name)
    shutil.rmtree(out / WORK)
    staging.rmdir()
