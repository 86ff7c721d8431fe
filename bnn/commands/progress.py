"""How far a command has come, shown on stderr. What computes only calls a function: so many more are done."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[[int], None]


@contextmanager
def counted(title: str, total: int, unit: str, shown: bool = True) -> Iterator[Advance]:
    """A bar of `total` things called `unit`, unless it is not to be `shown`; gives the function that advances it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    console = Console(stderr=True, quiet=not shown)
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(title, total=total)
        yield lambda number: bar.advance(task, number)


@contextmanager
def described(name: str) -> Iterator[Callable[[str, float], None]]:
    """On a terminal a bar, else a line per event that begins with `name`.

    Gives the function that is told what goes on now, and what fraction of all is done.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        began = time.monotonic()
        yield lambda text, done: print(
            f"[{name} {time.monotonic() - began:4.0f} s, {done:4.0%}] {text}", file=sys.stderr, flush=True
        )
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda text, done: bar.update(task, description=text, completed=done)
