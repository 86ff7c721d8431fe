"""What commands say when they are done, and how they end when something was wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnn.errors import UserError

if TYPE_CHECKING:
    from bnn.records.summary import Verdict


def say_result(verdict: Verdict, found: str, out: Path) -> None:
    """One line of what was found, and one for each reason for which the verdict is not OK."""
    click.echo(f"{verdict.status}  {found}  {out}")
    for reason in verdict.reasons:
        click.echo(f"  {reason}")


@contextmanager
def errors_said() -> Iterator[None]:
    """Within this context an error that a user can cause is one line on stderr, and ends the process with exit code 2.

    An interruption ends it with exit code 130, as shells expect.
    """
    try:
        yield
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except (UserError, click.ClickException) as error:
        print(f"bnn: {error if isinstance(error, UserError) else one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        print("bnn: interrupted", file=sys.stderr)
        sys.exit(130)


def one_line(error: click.ClickException) -> str:
    """A mistake on the command line without the usage around it; it names the option itself."""
    text = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    return f"{text} ({context.command_path} --help tells more)" if context else text
