"""Why ranks waited in the steps of one attempt: stamped on every rank, put together on rank 0 when the run ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bnn.clocks import ClockReading, ClockRelation, read_clock
from bnn.engine import Engine
from bnn.mpi_trace import data_calls
from bnn.training.stamps import BlockWatch, ExchangeStamps
from bnn.training.trainer import Trainer
from bnn.training.waits import RankStamps, last_full, split_waits, with_calls

NEGOTIATES = "horovod"  # the engine whose ranks agree on what is ready; torch's go by order alone
REASONS = ("late", "reduction", "negotiation", "transfer", "hidden")


class Waiting:
    """The stamps of one attempt's steps; every rank makes it before them. `error` is that of the hosts' clocks, s.

    `stamps` is None where there are none. `watched` are those of one rank, which waits for nobody.
    """

    def __init__(self, engine: Engine, stamps: ExchangeStamps | None = None, watched: BlockWatch | None = None) -> None:
        self.stamps, self.watched = stamps, watched
        self.error: float | None = None
        self._start = read_clock(engine, "clock.start") if stamps else ClockReading(0.0, 0.0, 0.0)

    def stage(self, engine: Engine, folder: Path) -> None:
        """Leave this rank's stamps, by rank 0's clock, for rank 0. Every rank must call it, after its last step."""
        if self.stamps is None:
            return
        relation = ClockRelation(self._start, read_clock(engine, "clock.end"))
        errors = engine.gather(relation.error, "clock.errors")
        self.error = None if any(math.isnan(error) for error in errors) else max(errors)
        mine = with_calls(self.stamps.rows(), data_calls() if engine.name == NEGOTIATES else None)
        np.save(_part(folder, engine.rank), mine.shifted(relation.offsets(mine.waits)).table(), allow_pickle=False)

    def fill(self, frames: Sequence[pd.DataFrame], engine: Engine, folder: Path, attempt: int, first_step: int) -> None:
        """Write into the rows of all ranks, in rank order, what this attempt's steps waited for; on rank 0 only."""
        if engine.size == 1:
            for frame in frames:  # nothing is exchanged
                frame.loc[frame["attempt"] == attempt, [f"seconds_{reason}" for reason in REASONS]] = 0.0
        if self.stamps is None:
            return
        parts = [_part(folder, rank) for rank in range(engine.size)]
        last, late_rank = last_full(_stamps(part).full for part in parts)  # of many ranks one at a time is held
        for frame, part in zip(frames, parts, strict=True):
            mine = _stamps(part)
            place = (frame["step"] - first_step).to_numpy()
            rows = (frame["attempt"] == attempt).to_numpy() & (place < len(last))
            for reason, seconds in split_waits(mine, last, engine.name == NEGOTIATES).items():
                frame.loc[rows, f"seconds_{reason}"] = seconds[place[rows]]
            known = rows & (late_rank[np.where(rows, place, 0)] >= 0)
            frame.loc[known, "late_rank"] = late_rank[place[known]]
        for part in parts:
            part.unlink()


def stamp_exchange(trainer: Trainer, steps: int) -> Waiting:
    """Stamp the exchange of `steps` steps from now on. Every rank must call it.

    One rank waits for nobody: it is watched in its warm-up only, to tell when blocks would leave (not where it is
    compiled, which hooks would disturb). On a GPU, where averages are waited for by the device, the host can stamp
    nothing.
    """
    engine, exchange, settings = trainer.engine, trainer.exchange, trainer.settings
    if settings.device == "cpu" and engine.size > 1:
        exchange.stamps = stamps = ExchangeStamps(len(exchange.blocks), steps)
        return Waiting(engine, stamps)
    if settings.device == "cpu" and settings.warmup_steps and not trainer.compiled:
        exchange.stamps = watched = BlockWatch(exchange, min(settings.warmup_steps, steps))
        return Waiting(engine, watched=watched)
    return Waiting(engine)


def _stamps(part: Path) -> RankStamps:
    return RankStamps.of_table(np.load(part, allow_pickle=False))


def _part(folder: Path, rank: int) -> Path:
    return folder / f"stamps-rank-{rank}.npy"
