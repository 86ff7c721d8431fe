"""The command line: `bnn train`, `bnn infer`, `bnn prune`, ... Heavy imports happen inside commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnn import __version__
from bnn.bench.commands import bench
from bnn.check.commands import check
from bnn.errors import UserError
from bnn.heartbeat import Heartbeat
from bnn.inference.commands import infer
from bnn.interop.commands import export, import_
from bnn.launch import (
    MACHINE,
    json_object,
    on_ranks,
    one_line,
    process_start,
    say_reasons,
    threads_for_all,
    threads_given,
    threads_of_checkpoint,
)
from bnn.options import Known, dataset_names, model_names, setting_options
from bnn.pruning.commands import prune
from bnn.ranks import early_rank
from bnn.settings import TrainSettings, parse_settings, read_settings

if TYPE_CHECKING:
    from bnn.records import Summary


def _given(values: dict[str, str | None]) -> dict[str, Any]:
    """Options the user gave; mappings are written as JSON."""
    given: dict[str, Any] = {key: value for key, value in values.items() if value is not None}
    for key in ("dataset_options", "labels"):
        if key in given:
            given[key] = json_object(given[key], f"--{key.replace('_', '-')}")
    return given


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
def cli() -> None:
    """Train Bayesian and conventional networks, infer with them and prune them, on one rank or many."""


@cli.command()
@click.option("--settings", "settings_file", type=click.Path(path_type=Path), help="JSON file of settings")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="folder for the run's records")
@setting_options(TrainSettings, known={"dataset": dataset_names, "model": model_names}, defaults={"threads": MACHINE})
def train(settings_file: Path | None, out: Path, **options: str | None) -> None:
    """Train one model; options override the settings file. Start it with mpiexec, srun or aprun for several ranks."""
    given = _given(options)
    base = read_settings(settings_file).model_dump(exclude_unset=True) if settings_file else {}
    values, room = threads_given({**base, **given})
    settings = parse_settings(values, "command line" if given or room else str(settings_file))
    if room and (threads := threads_of_checkpoint(settings, out)):  # other cores today are no reason to start anew
        settings, room = settings.model_copy(update={"threads": threads}), None
        if not early_rank():
            click.echo(f"{threads} thread{'s' * (threads > 1)} per rank, as before: there is a checkpoint")
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)  # before torch starts its thread pool
    heartbeat = Heartbeat(out, early_rank())
    heartbeat.start()  # before torch is loaded, which can take minutes on a busy file system
    try:
        from bnn.engine import start_engine
        from bnn.training.loop import train as run

        engine = start_engine(settings)
        heartbeat.confirm(engine.rank)

        def work() -> Summary | None:
            agreed = threads_for_all(settings, engine, room) if room else settings
            return run(agreed, out, engine, process_start(), heartbeat)

        summary = on_ranks(engine, work)
    finally:
        heartbeat.stop()
    if summary and summary.verdict.status == "INVALID":
        raise UserError(f"{out}: {'; '.join(summary.verdict.reasons)}")
    if summary:
        rate = summary.throughput.steady
        speed = f"{rate:.1f} samples/s" if rate else "no steady steps"
        click.echo(f"{summary.verdict.status}  {speed}  {summary.seconds_total:.1f} s  {out}")
        say_reasons(summary.verdict.reasons)


@cli.command()
@click.argument("names", nargs=-1, type=Known(model_names))
@click.option("--kind", type=click.Choice(["bnn", "cnn"]), help="only this kind")
@click.option("--width", type=float, default=1.0, show_default=True, help="factor on hidden channels")
def models(names: tuple[str, ...], kind: str | None, width: float) -> None:
    """Print the models layer by layer: output shapes, parameters, multiply-adds (the paper's tables 1 to 6)."""
    from rich.console import Console

    from bnn.models.tables import print_models

    print_models(list(names) or None, kind, width=width, console=Console())


cli.add_command(bench)
cli.add_command(check)
cli.add_command(infer)
cli.add_command(prune)
cli.add_command(import_)
cli.add_command(export)


@cli.group()
def data() -> None:
    """List data sets, and download or generate them."""


@data.command("list")
def list_datasets() -> None:
    """The data sets and what each needs."""
    from rich.console import Console

    from bnn.data.commands import describe_datasets

    describe_datasets(Console())


@data.command("prepare")
@click.argument("name", type=Known(dataset_names))
@click.option("--data-dir", type=click.Path(path_type=Path), help="folder (default: BNN_DATA_DIR, else results/data)")
@click.option("--option", "pairs", multiple=True, metavar="KEY=VALUE", help="an option of the data set; repeatable")
@click.option("--options", "text", help="all options of the data set, as JSON")
@click.option("--record", type=click.Path(path_type=Path), help="write what was prepared to this JSON file")
def prepare_data(
    name: str, data_dir: Path | None, pairs: tuple[str, ...], text: str | None, record: Path | None
) -> None:
    """Download or generate a data set, check it, and say what it is."""
    from bnn.data.commands import parse_pairs, prepare

    options = json_object(text, "--options") if text else {}
    prepare(name, data_dir, {**options, **parse_pairs(pairs)}, record)


def main() -> None:
    """Entry point: an error a user can cause is one line and exit code 2."""
    try:
        cli.main(standalone_mode=False)
    except UserError as error:
        print(f"bnn: {error}", file=sys.stderr)
        sys.exit(2)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        print(f"bnn: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        print("bnn: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
