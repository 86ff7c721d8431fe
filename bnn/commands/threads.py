"""How many threads each rank of a command takes, where nobody has said a number."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import click

from bnn.cores import Room, room_here
from bnn.records.checkpoint import MARKER, read_marker
from bnn.records.files import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnn.engine import Engine
    from bnn.settings import TrainSettings

# What `--help` says of the default of --threads.
MACHINE = "the cores this process may use, divided by the ranks that share them"
MOST_THREADS = 512  # of a rank, that a checkpoint is looked through for


class RankSettings(Protocol):
    """What the settings of all commands on ranks have; `bnn.engine.LaunchSettings` is a part of it."""

    @property
    def engine(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def cycle_time_ms(self) -> float: ...
    @property
    def fusion_buffer_mb(self) -> float: ...
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self: ...


Settings = TypeVar("Settings", bound=RankSettings)


def threads_given(values: dict[str, Any]) -> tuple[dict[str, Any], Room | None]:
    """The settings with a number of threads: this machine's, and the room it was taken from, where none is given."""
    if values.get("threads") is not None:
        return values, None
    room = room_here()
    return {**values, "threads": room.threads}, room


def limit_threads(number: int) -> None:
    """Make libraries that are yet to be loaded take this number of threads. Call it before torch is imported."""
    os.environ["OMP_NUM_THREADS"] = str(number)


def threads_of_checkpoint(settings: TrainSettings, out: Path) -> int | None:
    """Threads of the run whose checkpoint is in `out`, if it is this one but for their number; else None."""
    found = {marker.hash for path in out.glob(f"{CHECKPOINT}/*/{MARKER}") if (marker := read_marker(path.parent))}
    numbers = range(1, MOST_THREADS + 1) if found else ()
    return next((n for n in numbers if settings.model_copy(update={"threads": n}).fingerprint() in found), None)


def threads_for_all(settings: Settings, engine: Engine, room: Room) -> Settings:
    """The same number of threads for all ranks, the least that any has found; rank 0 says it. Every rank calls it.

    Raises UserError for a GPU that cannot be used: ranks on GPUs speak to each other through them.
    """
    from bnn.device import select_gpu

    select_gpu(settings.device, engine)
    found = min(engine.gather(settings.threads, "threads"))
    if found != settings.threads:
        import torch

        torch.set_num_threads(found)
    if engine.rank == 0:
        say_threads(found, room)
    return settings.model_copy(update={"threads": found})


def say_threads(number: int, room: Room) -> None:
    """One line on how many threads were taken, and from what."""
    click.echo(f"{number} thread{'s' * (number > 1)} per rank ({room}; --threads says another number)")
