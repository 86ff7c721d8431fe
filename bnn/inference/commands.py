"""The command `bnn infer`. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bnn.commands.options import OutFolder, dataset_names, setting_options
from bnn.commands.ranks import process_start, with_engine
from bnn.commands.saying import say_result
from bnn.commands.settings import given, parse
from bnn.commands.threads import MACHINE, limit_threads, threads_given
from bnn.inference.settings import FIT, MODES, InferSettings
from bnn.inference.severities import KINDS, SEVERITIES, Shift


def shift_names() -> list[str]:
    """For completion alone."""
    return [str(Shift(kind, severity)) for kind in KINDS for severity in SEVERITIES]


@click.command()
@setting_options(
    InferSettings,
    argument="posterior",
    rest="others",
    known={"dataset": dataset_names, "mode": MODES, "shift": shift_names, "ood": dataset_names, "temperature": (FIT,)},
    defaults={"threads": MACHINE},
)
@click.option("--out", type=OutFolder(path_type=Path), required=True, help="folder for the records")
def infer(out: Path, others: tuple[str, ...], **options: Any) -> None:
    """Predict held-out images by Monte-Carlo draws from POSTERIOR, on one rank or, with mpiexec, on many.

    Several posteriors are mixed in equal parts: conventional networks as an ensemble, BNNs as a mixture.
    """
    values, room = threads_given({**given(InferSettings, options), "others": others})
    settings = parse(InferSettings, values)
    limit_threads(settings.threads)
    from bnn.inference.run import infer as run

    summary = with_engine(settings, room, lambda agreed, engine: run(agreed, out, engine, process_start()))
    if summary:
        accuracy = f"accuracy {summary.accuracy:.4f} (single draw {summary.accuracy_single_draw:.4f})"
        if summary.temperature_fit:
            accuracy += f"  temperature {summary.temperature:.4g}"
        say_result(summary.verdict, f"{accuracy}  NLL {summary.nll:.4f}  {summary.seconds_draws:.1f} s", out)
