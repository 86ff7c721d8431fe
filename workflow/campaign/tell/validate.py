"""The command `campaign validate`."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="Do not make tables, figures and report once more to compare them.")
def validate(folder: Path, quick: bool) -> None:
    """Is FOLDER (a site's results, as in results/local) what it says it is? One line per fault.

    Tables against their schemas, files against recorded hashes, jobs against what they are of; then tables, claims,
    figures and report are made once more in a temporary folder and compared. Exit code: 0 without a fault, 1 with
    any, 2 where FOLDER cannot be read (docs/validate.md).
    """
    from campaign.results.compare.folder import site_layout
    from campaign.results.validate.run import validate as checked

    found = checked(site_layout(folder), anew=not quick)
    for line in found.faults:
        click.echo(line)
    for line in found.unseen:
        click.echo(f"not looked at: {line}", err=True)
    count = len(found.faults)
    click.echo(f"{folder}: {count or 'no'} fault{'s' if count > 1 else ''}", err=True)
    sys.exit(1 if count else 0)
