"""What `bnn bench replay` does on every rank."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bnn.bench.replay.play import play
from bnn.bench.replay.schedule import Recorded, Schedule, read_cell, schedule
from bnn.bench.run import make_folder
from bnn.commands.envelope import envelope
from bnn.commands.progress import counted
from bnn.commands.ranks import on_ranks
from bnn.errors import UserError
from bnn.exchange import Stamps
from bnn.metrics import STEADY, WARMUP, log_intervals
from bnn.provenance import cpu_model
from bnn.ranks import machine
from bnn.records.bench import header_path
from bnn.records.columns import write_table
from bnn.records.files import write_text
from bnn.records.replay import REPLAY, ReplayHeader
from bnn.training.recorder import Timing
from bnn.training.stamps import ExchangeStamps
from bnn.training.waiting import REASONS, Waiting

if TYPE_CHECKING:
    from bnn.engine import Engine

FIRST = 1  # the only attempt there is


def run_replay(cell: Path, steps: int, warmup: int, changes: dict[str, object], out: Path) -> None:
    """Replay `steps` steps of a cell after `warmup` on this job's ranks; rank 0 writes `out` and its header.

    `changes` are settings of the engine to take in place of the cell's. Raises UserError for what a user can mend.
    """
    from bnn.engine import start_engine

    if out.suffix != ".parquet":
        raise UserError(f"--out {out}: the record is a Parquet file; give it a name that ends in .parquet")
    make_folder(out)
    recorded = read_cell(cell)
    settings = recorded.settings.model_copy(update=changes)
    if settings.engine == "single":
        raise UserError(f"{cell}: ran with engine single, which exchanges nothing; choose --engine horovod or torch")
    recorded = Recorded(settings, recorded.summary, recorded.steps, recorded.block_bytes, recorded.full)
    started, engine = time.time(), start_engine(settings)

    def work() -> None:
        frame, error = replayed(recorded, engine, steps, warmup, out.parent)
        hosts = engine.gather(machine(), "replay.hosts")
        if engine.rank == 0:
            header = make_header(recorded, frame, str(cell), hosts, warmup, error, started)
            out.unlink(missing_ok=True)  # a record never stands beside the header of another run
            write_text(header_path(out), header.model_dump_json(indent=2))
            write_table(frame.drop(columns="attempt"), out, REPLAY)
            say(header)
            print(out)

    on_ranks(engine, work)


def replayed(
    recorded: Recorded, engine: Engine, steps: int, warmup: int, folder: Path
) -> tuple[pd.DataFrame, float | None]:
    """The rows of all ranks on rank 0 (elsewhere: this one's), and by how much hosts' clocks may be off, s."""
    plan = schedule(recorded, engine.rank, engine.size, warmup + steps)
    stamps = ExchangeStamps(len(recorded.block_bytes), warmup + steps) if engine.size > 1 else None
    waiting = Waiting(engine, stamps)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".replay-") if engine.rank == 0 else nullcontext() as mine:
        shared = Path(engine.gather(str(mine) if mine else None, "replay.folder")[0])
        with counted("replay", warmup + steps, "steps", engine.rank == 0) as advance:
            timings = _played(engine, recorded, plan, stamps, lambda done: advance(1))
        frame = frame_of(timings, plan, engine, warmup)
        frame.to_parquet(shared / f"rows-{engine.rank}.parquet")
        waiting.stage(engine, shared)
        engine.barrier("replay.rows")
        if engine.rank == 0:
            frames = [pd.read_parquet(shared / f"rows-{rank}.parquet") for rank in range(engine.size)]
            waiting.fill(frames, engine, shared, FIRST, 0)
            frame = pd.concat(frames, ignore_index=True).sort_values(["step", "rank"])
        engine.barrier("replay.read")
    return frame, waiting.error


def _played(
    engine: Engine, recorded: Recorded, plan: Schedule, stamps: ExchangeStamps | None, advance: Callable[[int], None]
) -> list[Timing]:
    engine.barrier("replay.start")
    return play(engine, plan, recorded.block_bytes, recorded.full, stamps or Stamps(), advance)


def frame_of(timings: list[Timing], plan: Schedule, engine: Engine, warmup: int) -> pd.DataFrame:
    """This rank's rows, without why it waited."""
    count = len(timings)
    frame = pd.DataFrame([timing.seconds() for timing in timings])
    frame["attempt"] = FIRST
    frame["step"] = np.arange(count)
    frame["phase"] = np.where(np.arange(count) < warmup, WARMUP, STEADY)
    frame["rank"], frame["ranks"] = engine.rank, engine.size
    frame["recorded_rank"], frame["recorded_step"] = plan.rank, plan.steps
    frame["started_at"] = [timing.started_at for timing in timings]
    frame["ended_at"] = [timing.ended_at for timing in timings]
    frame["seconds_asked"] = plan.seconds.sum(axis=1)
    return frame.assign(
        **{f"seconds_{reason}": np.nan for reason in REASONS}, late_rank=pd.array([None] * count, "Int32")
    )


def median_step(steps: pd.DataFrame) -> list[float]:
    """The slowest rank's seconds per steady step: median with its 95% interval. Rows of all ranks."""
    seconds = steps[steps["phase"] == STEADY].groupby("step")["seconds"].max().to_numpy()
    return [float(end[0]) for end in np.exp(log_intervals(np.log(seconds)[None]))]


def make_header(
    recorded: Recorded, rows: pd.DataFrame, cell: str, hosts: list[str], warmup: int, error: float | None,
    started: float,
) -> ReplayHeader:  # fmt: skip
    """What the rows of all ranks come to; `started` in seconds since 1970."""
    settings, ranks = recorded.settings, len(hosts)
    ours, theirs = median_step(rows), median_step(recorded.steps)
    steady = rows[rows["phase"] == STEADY]
    slept = steady["seconds"] - steady["seconds_exchange"] - steady["seconds_asked"]
    # both medians vary independently: their intervals' half widths of the logarithm add in squares
    width = np.hypot(*(np.log(np.array(each[1:]) / each[0]) for each in (ours, theirs)))
    ratio = ours[0] / theirs[0]
    return ReplayHeader(
        **envelope(started) | {"command": ["bnn", *sys.argv[1:]]},
        cell=cell, cell_hash=recorded.summary.hash, cell_ranks=recorded.summary.ranks, model=settings.model,
        kind=settings.kind, batch_size=settings.batch_size, engine=settings.engine,
        cycle_time_ms=settings.cycle_time_ms, fusion_buffer_mb=settings.fusion_buffer_mb,
        block_bytes=list(recorded.block_bytes), block_full_shares=list(recorded.full), ranks=ranks, hosts=hosts,
        cpu_model=cpu_model(), cores=os.cpu_count() or 0, steps=rows["step"].nunique() - warmup, warmup=warmup,
        step_seconds=ours, samples_per_second=settings.batch_size * ranks / ours[0], cell_step_seconds=theirs,
        overhead=[ratio, float(ratio * np.exp(-width[0])), float(ratio * np.exp(width[1]))]
        if ranks == recorded.summary.ranks else None,
        slept_beyond_seconds=float(slept.median()), clock_error_seconds=error,
    )  # fmt: skip


def say(header: ReplayHeader) -> None:
    """Print what came of it, on rank 0."""
    value, low, high = (f"{second * 1000:.4g}" for second in header.step_seconds)
    print(f"replayed, not measured: {header.model} {header.kind}, batch {header.batch_size}, {header.ranks} ranks")
    print(f"step {value} ms [{low}, {high}], {header.samples_per_second:.4g} samples/s; its computing took "
          f"{header.slept_beyond_seconds * 1000:.3g} ms longer than asked")  # fmt: skip
    if header.overhead:
        ratio, low_ratio, high_ratio = header.overhead
        print(f"replay / the cell itself, on as many ranks: {ratio:.4f} [{low_ratio:.4f}, {high_ratio:.4f}]")
