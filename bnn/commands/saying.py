"""What commands say when they are done, and how they end when something was wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING

import click

from bnn.errors import UserError

if TYPE_CHECKING:
    from bnn.records.summary import Verdict

PACKAGE, CLICK = Path(__file__).parents[1], Path(click.__file__).parent


def say_result(verdict: Verdict, found: str, out: Path) -> None:
    """One line of what was found, and one for each reason for which the verdict is not OK."""
    click.echo(f"{verdict.status}  {found}  {out}")
    for reason in verdict.reasons:
        click.echo(f"  {reason}")


@contextmanager
def errors_said() -> Iterator[None]:
    """Within this context an error that a user can cause is one line on stderr, and ends the process with exit code 2.

    So does sys.exit in code that is not ours, such as a model of one's own. An interruption ends it with exit code 130,
    as shells expect.
    """
    try:
        yield
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except (UserError, click.ClickException) as error:
        print(f"bnn: {error if isinstance(error, UserError) else one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as error:
        frames = extract_tb(error.__traceback__)
        where = next(frame for frame in reversed(frames) if "sitebuiltins" not in frame.filename)  # of exit()
        if Path(where.filename).parent.is_relative_to(PACKAGE) or Path(where.filename).parent == CLICK:
            raise
        print(f"bnn: {where.filename}:{where.lineno}: ended the program, by exit code {error.code!r}", file=sys.stderr)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        print("bnn: interrupted", file=sys.stderr)
        sys.exit(130)


def one_line(error: click.ClickException) -> str:
    """A mistake on the command line without the usage around it; it names the option itself."""
    text = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    return f"{text} ({context.command_path} --help tells more)" if context else text
