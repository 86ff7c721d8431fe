"""What `bnn prune` does: a posterior at several levels of pruning, each of which is kept as it is finished."""

from __future__ import annotations

import os
import shutil
import socket
import time
from pathlib import Path

import click
import pandas as pd

from bnn.commands.output import errors_named, made_before, make_ready, staged
from bnn.commands.progress import Advance, counted
from bnn.device import prepare_device
from bnn.engine import SingleEngine
from bnn.inference.heldout import HeldOut, held_out
from bnn.inference.summary import held_out_summary
from bnn.neighbours import NeighbourMeter
from bnn.neighbours.together import alone
from bnn.posterior import GraphNetwork, load_posterior
from bnn.posterior.facts import find_posterior, posterior_facts
from bnn.pruning.criterion import kept_units
from bnn.pruning.levels import UNPRUNED_LEVEL, Level, Sweep, read_level
from bnn.pruning.settings import PruneSettings
from bnn.pruning.snr import snr_histogram
from bnn.ranks import refuse_several
from bnn.records import pruning as records
from bnn.records.columns import write_table
from bnn.records.files import write_text
from bnn.records.neighbours import NEIGHBOURS, NEIGHBOURS_FILE

WORK = ".levels"
RECORDS = (
    records.PRUNING_FILE, records.LAYERS_FILE, records.SNR_FILE, records.LEVEL_TRUE_CLASS_FILE, NEIGHBOURS_FILE,
    records.PRUNING_SUMMARY,
)  # in the order in which they are published  # fmt: skip
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
    if made := made_before(out / records.PRUNING_SUMMARY, records.PruningSummary, settings.labels, facts.sha256):
        return made
    images = held_out(settings, network)
    if settings.by == "unit":
        say_kept(network)
    work = out / WORK / settings.fingerprint(facts.sha256)
    with errors_named(out):
        make_ready(out, RECORDS, work, (*out.glob("level-*"), out / level_folder(UNPRUNED_LEVEL)))
        with counted("pruning", settings.draws * (1 + len(settings.levels)), "draws") as drawn:
            meter.enter("levels")
            levels = sweep(settings, network, images, work, drawn)
        meter.stop()
        neighbours = alone(meter)
        with staged(out, RECORDS) as staging:
            write_tables(levels, network, staging)
            write_table(neighbours.frame(), staging / NEIGHBOURS_FILE, NEIGHBOURS)
            best = headline(pd.DataFrame([level.row for level in levels]))
            common = held_out_summary(
                settings, facts, images, neighbours,
                measured="levels", spread=None, hosts=[socket.gethostname()], started_at=started_at,
            )  # fmt: skip
            summary = records.PruningSummary(
                **common,
                semantics=settings.semantics,
                scope=settings.scope,
                by=settings.by,
                levels=len(settings.levels),
                accuracy_unpruned=levels[0].row["accuracy"],
                largest_percent=None if best is None else float(best["percent"]),
                largest_speedup=None if best is None else float(best["speedup"]),
                largest_form=None if best is None else str(best["form"]),
                seconds_total=time.time() - started_at,
            )
            write_text(staging / records.PRUNING_SUMMARY, summary.model_dump_json(indent=2))
            for level in work.iterdir():
                os.replace(level, out / level.name)
        shutil.rmtree(out / WORK)
    return summary


def say_kept(network: GraphNetwork) -> None:
    """Say on stderr which layers keep all their units, and why."""
    for line in kept_units(network):
        click.echo(f"units that stay: {line}", err=True)


def sweep(settings: PruneSettings, network: GraphNetwork, images: HeldOut, work: Path, drawn: Advance) -> list[Level]:
    """The unpruned level, then all that were asked for, each from its folder in `work` or made and kept there."""
    made = Sweep(settings, network, images, drawn)
    levels: list[Level] = []
    for number, (percent, threshold) in enumerate([(None, None), *settings.levels], start=UNPRUNED_LEVEL):
        folder = work / level_folder(number)
        level = read_level(folder)
        if level is not None:
            drawn(settings.draws)
        elif number == UNPRUNED_LEVEL:
            level = made.unpruned(folder)
        else:
            level = made.level(number, percent, threshold, levels[0], folder)
        levels.append(level)
    return levels


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
