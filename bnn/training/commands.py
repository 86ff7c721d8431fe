"""The command `bnn train`. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path

import click

from bnn.commands.options import OutFolder, dataset_names, model_names, option_name, setting_options
from bnn.commands.ranks import process_start, with_engine
from bnn.commands.saying import say_result
from bnn.commands.settings import given
from bnn.commands.threads import MACHINE, limit_threads, threads_given, threads_of_checkpoint
from bnn.errors import UserError
from bnn.heartbeat import Heartbeat
from bnn.ranks import early_rank
from bnn.settings import SettingsError, TrainSettings, parse_settings, read_settings


@click.command()
@click.option("--settings", "settings_file", type=click.Path(path_type=Path), help="JSON file of settings")
@click.option("--out", type=OutFolder(path_type=Path), required=True, help="folder for the run's records")
@setting_options(TrainSettings, known={"dataset": dataset_names, "model": model_names}, defaults={"threads": MACHINE})
def train(settings_file: Path | None, out: Path, **options: str | None) -> None:
    """Train one model; options override the settings file. Start it with mpiexec, srun or aprun for several ranks."""
    chosen = given(TrainSettings, options)
    base = read_settings(settings_file).model_dump(exclude_unset=True) if settings_file else {}
    values, room = threads_given({**base, **chosen})
    try:
        settings = parse_settings(values, "command line" if chosen or room else str(settings_file))
    except SettingsError as error:
        if error.key not in chosen:
            raise
        raise UserError(f"{option_name(error.key)}: {error.what}") from None
    if room and (threads := threads_of_checkpoint(settings, out)):  # other cores today are no reason to start anew
        settings, room = settings.model_copy(update={"threads": threads}), None
        if not early_rank():
            click.echo(f"{threads} thread{'s' * (threads > 1)} per rank, as before: there is a checkpoint")
    limit_threads(settings.threads)
    heartbeat = Heartbeat(out, early_rank())
    heartbeat.start()  # before torch is loaded, which can take minutes on a busy file system
    try:
        from bnn.training.loop import train as run

        summary = with_engine(
            settings, room, lambda agreed, engine: run(agreed, out, engine, process_start(), heartbeat),
            started=heartbeat.confirm,
        )  # fmt: skip
    finally:
        heartbeat.stop()
    if summary and summary.verdict.status == "INVALID":
        raise UserError(f"{out}: {'; '.join(summary.verdict.reasons)}")
    if summary:
        rate = summary.throughput.steady
        speed = f"{rate:.1f} samples/s" if rate else "no steady steps"
        say_result(summary.verdict, f"{speed}  {summary.seconds_total:.1f} s", out)
