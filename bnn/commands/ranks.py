"""A command's work on all of its ranks, and how an error on one of them ends them all."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bnn.commands.collector import as_usual
from bnn.commands.threads import Settings, threads_for_all
from bnn.cores import Room
from bnn.errors import UserError

if TYPE_CHECKING:
    from bnn.engine import Engine

Result = TypeVar("Result")
STARTED_AT = "BNN_STARTED_AT"


def with_engine(
    settings: Settings,
    room: Room | None,
    work: Callable[[Settings, Engine], Result],
    started: Callable[[int], None] = lambda rank: None,
) -> Result:
    """Start the engine that the settings ask for and do this rank's work; `started` is told its rank.

    With `room` (no number of threads was given) all ranks take the same number. Raises UserError as `start_engine`.
    """
    from bnn.engine import start_engine

    engine = start_engine(settings)
    started(engine.rank)
    as_usual()
    return on_ranks(engine, lambda: work(threads_for_all(settings, engine, room) if room else settings, engine))


def on_ranks(engine: Engine, work: Callable[[], Result]) -> Result:
    """Do this rank's work and leave in good order; an error on one of several ranks ends them all, and is named."""
    try:
        result = work()
    except UserError as error:
        if engine.size > 1:
            print(f"bnn: rank {engine.rank}: {error}", file=sys.stderr, flush=True)
            engine.abort(2)
        raise
    except Exception:
        if engine.size > 1:
            import traceback

            traceback.print_exc()
            engine.abort(1)
        raise
    engine.close()
    return result


def process_start() -> float:
    """When this process began, seconds since 1970: imports are part of a run's start-up.

    A script that becomes the program (`exec`) says in BNN_STARTED_AT when it did: what it waited for before is no
    start-up of the program's. What another process said, which began before this one, counts for nothing here. Raises
    UserError where that variable is no number.
    """
    began = _began()
    said = os.environ.get(STARTED_AT)
    if said is None:
        return began
    try:
        became = float(said)
    except ValueError:
        raise UserError(f"environment variable {STARTED_AT}: {said!r} is no time in seconds since 1970") from None
    return became if began <= became <= time.time() else began


def _began() -> float:
    """By /proc, to 10 ms; psutil, where there is none, counts from the machine's start in whole seconds."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # since the machine's start
    except OSError:
        import psutil

        return float(psutil.Process().create_time())
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
