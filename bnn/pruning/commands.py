"""The command `bnn prune`. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bnn.commands.options import OutFolder, dataset_names, setting_options
from bnn.commands.ranks import process_start
from bnn.commands.saying import say_result
from bnn.commands.settings import given, parse
from bnn.commands.threads import MACHINE, limit_threads, say_threads, threads_given
from bnn.pruning.settings import PruneSettings


@click.command()
@setting_options(PruneSettings, argument="posterior", known={"dataset": dataset_names}, defaults={"threads": MACHINE})
@click.option("--out", type=OutFolder(path_type=Path), required=True, help="folder for the records")
def prune(out: Path, **options: Any) -> None:
    """Prune POSTERIOR by its signal-to-noise ratio, level by level; measure accuracy and speed of each."""
    values, room = threads_given(given(PruneSettings, options))
    settings = parse(PruneSettings, values)
    if room:
        say_threads(settings.threads, room)
    limit_threads(settings.threads)
    from bnn.pruning.run import prune as run

    summary = run(settings, out, process_start())
    if summary.largest_percent is None:
        best = "no level loses less than 1 point for certain"
    else:
        best = f"{summary.largest_percent:.1f}% removed below 1 point of loss, {summary.largest_speedup:.2f}x as fast"
    say_result(summary.verdict, f"accuracy {summary.accuracy_unpruned:.4f} unpruned; {best}", out)
