"""What commands say when they are done, and when they are called wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bnn.records.summary import Verdict


def say_result(verdict: Verdict, found: str, out: Path) -> None:
    """One line of what was found, and one for each reason for which the verdict is not OK."""
    click.echo(f"{verdict.status}  {found}  {out}")
    for reason in verdict.reasons:
        click.echo(f"  {reason}")


def one_line(error: click.ClickException) -> str:
    """A mistake on the command line without the usage around it; it names the option itself."""
    text = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    return f"{text} ({context.command_path} --help tells more)" if context else text
