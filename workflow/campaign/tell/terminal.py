"""The terminal that commands print to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console(width: int = 170) -> Console:
    """The terminal; into a file or a pipe a table keeps its width, however narrow the console is thought to be."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else width)
