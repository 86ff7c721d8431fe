"""What each rank of a replay does in each step: read from a recorded cell. Pure but for reading its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bnn.errors import UserError
from bnn.metrics import Chosen
from bnn.records import STEPS, STEPS_FILE, SUMMARY, Summary, read_table
from bnn.records.cell import CellRecord
from bnn.records.files import CELL
from bnn.records.reading import read_record
from bnn.settings import TrainSettings

# What a rank does by itself, in order; between the third and the fourth it waits for gradients.
COMPUTED = ("seconds_data", "seconds_forward", "seconds_backward", "seconds_optimizer", "seconds_between")


@dataclass(frozen=True)
class Recorded:
    """A cell to replay: its settings and summary, and its steady steps.

    `steps` has a row per steady step and recorded rank, by rank, then step. `block_bytes` are its messages; `full`
    the share of the backward pass after which each can leave.
    """

    settings: TrainSettings
    summary: Summary
    steps: pd.DataFrame
    block_bytes: tuple[int, ...]
    full: tuple[float, ...]


@dataclass(frozen=True)
class Schedule:
    """Of one rank: seconds by step in the order of COMPUTED, (steps, 5), and which recorded rank and steps they are."""

    seconds: np.ndarray
    rank: int
    steps: np.ndarray


def read_cell(folder: Path) -> Recorded:
    """Raises UserError naming the file that is missing, or what of the cell cannot be replayed."""
    summary = read_record(folder / SUMMARY, Summary)
    if summary is None:
        raise UserError(f"{folder / SUMMARY}: not the summary of a finished run")
    cell = read_record(folder / CELL, CellRecord)
    if cell is None:
        raise UserError(f"{folder / CELL}: not the settings of a run")
    settings = cell.settings
    if settings.device != "cpu":
        raise UserError(f"{folder}: ran on GPUs; replay sleeps and reduces on CPUs")
    if not (folder / STEPS_FILE).is_file():
        raise UserError(f"{folder / STEPS_FILE}: is missing")
    rows = read_table(folder / STEPS_FILE, STEPS)
    chosen = Chosen.of(rows).rows
    if chosen.empty:
        raise UserError(f"{folder}: has no steady steps")
    steps = chosen.sort_values(["rank", "step"])
    missing = [name for name in COMPUTED if steps[name].isna().any()]
    if missing:
        raise UserError(f"{folder / STEPS_FILE}: {missing[0]} is not there in every step; run the cell again")
    sizes, full = blocks(folder, summary, float(steps.loc[steps["rank"] == 0, "seconds_backward"].median()))
    return Recorded(settings, summary, steps, sizes, full)


def blocks(folder: Path, summary: Summary, backward: float) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Bytes of each message, and the share of the backward pass, `backward` seconds long, after which it can leave.

    Raises UserError for a cell that does not say.
    """
    found = summary.gradient_blocks
    if not found:
        raise UserError(f"{folder / SUMMARY}: does not say which messages of gradients it had; run the cell again")
    seconds = [block.full_seconds for block in found]
    if any(second is None for second in seconds):
        if len(found) > 1:
            raise UserError(f"{folder / SUMMARY}: when its {len(found)} blocks of gradients were full was not measured")
        seconds = [backward]  # a single message leaves when the backward pass is over, by what it is
    shares = tuple(min(1.0, second / backward) for second in seconds if second is not None)
    return tuple(block.bytes for block in found), shares


def schedule(recorded: Recorded, rank: int, ranks: int, count: int) -> Schedule:
    """What `rank` of `ranks` does in `count` steps: the steps of a recorded rank, each rank's from another one on.

    A replayed rank takes recorded rank r modulo those there are; ranks that take the same one begin evenly spread over
    its steps, so that they do not tarry together by replaying the same moment. Steps start over when they are through.
    """
    known = sorted(recorded.steps["rank"].unique())
    source = known[rank % len(known)]
    mine = recorded.steps[recorded.steps["rank"] == source]
    sharing = -(-(ranks - rank % len(known)) // len(known))  # ranks that replay this one
    begin = (rank // len(known)) * len(mine) // sharing
    places = (begin + np.arange(count)) % len(mine)
    return Schedule(mine[list(COMPUTED)].to_numpy()[places], int(source), mine["step"].to_numpy()[places])
