"""The command `bnn infer`. Heavy imports happen inside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnn.inference.settings import MODES, InferSettings, parse
from bnn.launch import (
    MACHINE,
    json_object,
    on_ranks,
    process_start,
    say_reasons,
    threads_for_all,
    threads_given,
)
from bnn.options import dataset_names, setting_options

if TYPE_CHECKING:
    from bnn.records.inference import InferenceSummary


def read_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options as the user gave them; mappings are written as JSON."""
    for key in ("dataset_options", "labels"):
        if options.get(key) is not None:
            options[key] = json_object(options[key], f"--{key.replace('_', '-')}")
    return options


@click.command()
@setting_options(
    InferSettings, argument="posterior", known={"dataset": dataset_names, "mode": MODES}, defaults={"threads": MACHINE}
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="folder for the records")
def infer(out: Path, **options: Any) -> None:
    """Predict held-out images by Monte-Carlo draws from POSTERIOR, on one rank or, with mpiexec, on many."""
    values, room = threads_given(read_options(options))
    settings = parse(InferSettings, values)
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)  # before torch starts its thread pool
    from bnn.engine import start_engine
    from bnn.inference.run import infer as run

    engine = start_engine(settings)

    def work() -> InferenceSummary | None:
        return run(threads_for_all(settings, engine, room) if room else settings, out, engine, process_start())

    summary = on_ranks(engine, work)
    if summary:
        accuracy = f"accuracy {summary.accuracy:.4f} (single draw {summary.accuracy_single_draw:.4f})"
        click.echo(f"{summary.verdict.status}  {accuracy}  NLL {summary.nll:.4f}  {summary.seconds_draws:.1f} s  {out}")
        say_reasons(summary.verdict.reasons)
