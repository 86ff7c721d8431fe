"""What the commands that run on ranks share: options in JSON, the process's start, and how errors end all ranks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bnn.cores import Room, room_here
from bnn.errors import UserError
from bnn.records.checkpoint import MARKER, read_marker
from bnn.records.files import CHECKPOINT

if TYPE_CHECKING:
    from pydantic import BaseModel

    from bnn.engine import Engine
    from bnn.settings import TrainSettings

    AnySettings = TypeVar("AnySettings", bound=BaseModel)

Result = TypeVar("Result")
# What `--help` says of the default of --threads.
MOST_THREADS = 512  # of a rank, that a checkpoint is looked through for
MACHINE = "the cores this process may use, divided by the ranks that share them"


def json_object(text: str, origin: str) -> dict[str, Any]:
    """A JSON object given on the command line. Raises UserError naming the option."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{origin}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{origin}: expected a JSON object")
    return value


def threads_given(values: dict[str, Any]) -> tuple[dict[str, Any], Room | None]:
    """The settings with a number of threads: this machine's, and the room it was taken from, where none is given."""
    if values.get("threads") is not None:
        return values, None
    room = room_here()
    return {**values, "threads": room.threads}, room


def threads_of_checkpoint(settings: TrainSettings, out: Path) -> int | None:
    """Threads of the run whose checkpoint is in `out`, if it is this one but for their number; else None."""
    found = {marker.hash for path in out.glob(f"{CHECKPOINT}/*/{MARKER}") if (marker := read_marker(path.parent))}
    numbers = range(1, MOST_THREADS + 1) if found else ()
    return next((n for n in numbers if settings.model_copy(update={"threads": n}).fingerprint() in found), None)


def threads_for_all(settings: AnySettings, engine: Engine, room: Room) -> AnySettings:
    """The same number of threads for all ranks, the least that any has found; rank 0 says it. Every rank calls it.

    Raises UserError for a GPU that cannot be used: ranks on GPUs speak to each other through them.
    """
    from bnn.device import select_gpu

    select_gpu(settings.device, engine)  # type: ignore[attr-defined]  # all have it
    found = min(engine.gather(settings.threads, "threads"))  # type: ignore[attr-defined]
    if found != settings.threads:  # type: ignore[attr-defined]
        import torch

        torch.set_num_threads(found)
    if engine.rank == 0:
        say_threads(found, room)
    return settings.model_copy(update={"threads": found})


def say_threads(number: int, room: Room) -> None:
    """One line on how many threads were taken, and from what."""
    click.echo(f"{number} thread{'s' * (number > 1)} per rank ({room}; --threads says another number)")


def say_reasons(reasons: Iterable[str]) -> None:
    """Why a verdict is not OK, a line each."""
    for reason in reasons:
        click.echo(f"  {reason}")


def one_line(error: click.ClickException) -> str:
    """A mistake on the command line without the usage around it; it names the option itself."""
    text = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    return f"{text} ({context.command_path} --help tells more)" if context else text


def process_start() -> float:
    """When this process began, seconds since 1970: imports are part of a run's start-up."""
    import psutil

    return float(psutil.Process().create_time())


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
