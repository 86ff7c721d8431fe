"""`python -m bnn.mpi_trace preload FOLDER | collect FOLDER | prepare FOLDER | keep FOLDER TARGET | overhead`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import click

from bnn.errors import UserError


@click.group()
def cli() -> None:
    """Profile the MPI calls of a run."""


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--job", default="", help="name of the job in the files' names")
def preload(folder: Path, job: str) -> None:
    """Print the variables that profile a rank into FOLDER, for `env`."""
    from bnn.mpi_trace.preload import environment

    click.echo(" ".join(shlex.quote(f"{name}={value}") for name, value in environment(folder, job).items()))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
def collect(folder: Path) -> None:
    """Turn the tables that the ranks left in FOLDER into Parquet."""
    from bnn.mpi_trace.sidecar import to_parquet

    click.echo(f"{len(to_parquet(folder))} MPI profiles in {folder}")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--interposer/--no-interposer", default=True, help="whether the ranks are to load the interposer")
def prepare(folder: Path, interposer: bool) -> None:
    """Empty FOLDER for a job's profiles and print what to preload: the interposer's path."""
    from bnn.mpi_trace.keep import prepare

    if path := prepare(folder, interposer):
        click.echo(path)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--found-in", type=click.Path(path_type=Path), help="where the site's own tool leaves its profiles")
def keep(folder: Path, target: Path, found_in: Path | None) -> None:
    """Make TARGET of what a job left in FOLDER: its profiles, or the reason why there are none."""
    from bnn.mpi_trace.keep import keep

    click.echo(keep(folder, target, found_in))


@cli.command()
def overhead() -> None:
    """Measure what the interposer adds to a call (JSON, nanoseconds)."""
    from bnn.mpi_trace.overhead import measure

    click.echo(json.dumps(measure()))


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2."""
    try:
        cli(prog_name="python -m bnn.mpi_trace")
    except UserError as error:
        click.echo(f"bnn.mpi_trace: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
