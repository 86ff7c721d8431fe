"""The command `bnn prune`. Heavy imports happen inside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from bnn.errors import UserError
from bnn.inference.commands import read_options
from bnn.inference.settings import parse
from bnn.launch import MACHINE, process_start, say_reasons, say_threads, threads_given
from bnn.options import dataset_names, setting_options
from bnn.pruning.settings import PruneSettings


def percentages(text: str) -> list[float]:
    """Numbers separated by commas. Raises UserError for anything else."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise UserError(f"--percent: {text!r} is not a list of numbers, as in 0,50,90") from None


@click.command()
@setting_options(PruneSettings, argument="posterior", known={"dataset": dataset_names}, defaults={"threads": MACHINE})
@click.option("--out", type=click.Path(path_type=Path), required=True, help="folder for the records")
def prune(out: Path, **options: Any) -> None:
    """Prune POSTERIOR by its signal-to-noise ratio, level by level; measure accuracy and speed of each."""
    given = read_options(options)
    if given.get("percent") is not None:
        given["percent"] = percentages(given["percent"])
    values, room = threads_given(given)
    settings = parse(PruneSettings, values)
    if room:
        say_threads(settings.threads, room)
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)  # before torch starts its thread pool
    from bnn.pruning.run import prune as run

    summary = run(settings, out, process_start())
    if summary.largest_percent is None:
        best = "no level loses less than 1 point for certain"
    else:
        best = f"{summary.largest_percent:.1f}% removed below 1 point of loss, {summary.largest_speedup:.2f}x as fast"
    click.echo(f"{summary.verdict.status}  accuracy {summary.accuracy_unpruned:.4f} unpruned; {best}  {out}")
    say_reasons(summary.verdict.reasons)
