"""The command `bnn infer`. Heavy imports happen inside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from bnn.inference.settings import HeldOutSettings, InferSettings, parse
from bnn.launch import json_object, on_ranks, process_start


def setting_options(model: type[HeldOutSettings]) -> Any:
    """One option per setting, made from the model that validates them."""

    def decorate(command: Any) -> Any:
        for name, field in reversed(model.model_fields.items()):
            if name == "posterior":
                command = click.argument("posterior")(command)
                continue
            shown = (
                ""
                if field.default is None or field.is_required() or field.default_factory
                else f" [default: {field.default}]"
            )
            flag, text = f"--{name.replace('_', '-')}", f"{field.description}{shown}"
            command = click.option(flag, name, default=None, required=field.is_required(), help=text, metavar="VALUE")(
                command
            )
        return command

    return decorate


def read_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options as the user gave them; mappings are written as JSON."""
    for key in ("dataset_options", "labels"):
        if options.get(key) is not None:
            options[key] = json_object(options[key], f"--{key.replace('_', '-')}")
    return options


@click.command()
@setting_options(InferSettings)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="folder for the records")
def infer(out: Path, **options: Any) -> None:
    """Predict held-out images by Monte-Carlo draws from POSTERIOR, on one rank or, with mpiexec, on many."""
    settings = parse(InferSettings, read_options(options))
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)  # before torch starts its thread pool
    from bnn.engine import start_engine
    from bnn.inference.run import infer as run

    engine = start_engine(settings)
    summary = on_ranks(engine, lambda: run(settings, out, engine, process_start()))
    if summary:
        accuracy = f"accuracy {summary.accuracy:.4f} (single draw {summary.accuracy_single_draw:.4f})"
        click.echo(f"{summary.verdict.status}  {accuracy}  NLL {summary.nll:.4f}  {summary.seconds_draws:.1f} s  {out}")
