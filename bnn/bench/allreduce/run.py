"""What `bnn bench allreduce` does on every rank."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from bnn.bench.allreduce.measure import Plan, Time, measure
from bnn.bench.allreduce.ranks import FLOAT, EngineRanks, MpiRanks, Ranks
from bnn.bench.allreduce.record import AllreduceHeader, kept_rows, write
from bnn.bench.run import make_folder, wide_console
from bnn.commands.envelope import envelope
from bnn.commands.progress import described
from bnn.errors import UserError

SAID = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class Through:
    """What reduces: `mpi` alone, or an engine of runs; `cycle_time_ms` and `fusion_buffer_mb` are Horovod's."""

    engine: str = "mpi"  # or horovod, torch
    algorithm: str | None = None
    device: str = "cpu"
    cycle_time_ms: float = 5.0
    fusion_buffer_mb: float = 64.0


def run_allreduce(plan: Plan, through: Through, node: str | None, out: Path) -> None:
    """Measure; rank 0 writes `out` with its header and prints the times. Raises UserError for what a user can mend."""
    from bnn.provenance import cpu_model

    if plan.computing and through.engine != "mpi":
        raise UserError("--computing: mpi by itself is timed beside a thread that computes, no engine")
    if out.suffix != ".csv":
        raise UserError(f"--out {out}: the record is a CSV file; give it a name that ends in .csv")
    make_folder(out)
    node = node or cpu_model()
    if not node.isprintable():
        raise UserError(f"--node {node!r}: is no name")
    kept_rows(out, node, "", set())  # before minutes of measurement: a file that is another's is refused now
    started = time.time()
    ranks = start(through, max(plan.sizes) // FLOAT)
    if ranks.rank == 0:
        with described("bench") as progress:
            times = measure(ranks, plan, progress)
    else:
        times = measure(ranks, plan, lambda text, done: None)
    if ranks.rank == 0:
        header = AllreduceHeader(
            **envelope(started), node=node, library=ranks.library, version=ranks.version, hosts=ranks.hosts,
            cpu_model=cpu_model(), cores=os.cpu_count() or 0, device=through.device,
            cycle_time_ms=through.cycle_time_ms if through.engine == "horovod" else None,
            rounds=plan.rounds, seed=plan.seed, worst_control=max(max(t.control, 1 / t.control) for t in times),
        )  # fmt: skip
        write(out, header, times)
        say(header, times)
        print(out)
    ranks.close()


def start(through: Through, most: int) -> Ranks:
    """The ranks of this job, with room for `most` float32. Raises UserError."""
    if through.engine == "mpi":
        if through.device != "cpu":
            raise UserError("--device: mpi by itself is timed on the memory of CPUs; engine torch or horovod on GPUs")
        return MpiRanks(most, through.algorithm)
    if through.algorithm:
        raise UserError("--algorithm: only mpi by itself can be told one")
    import torch

    from bnn.engine import start_engine

    engine = start_engine(through)
    library = "horovod" if through.engine == "horovod" else ("nccl" if through.device == "cuda" else "gloo")
    return EngineRanks(engine, library, f"{through.engine}, torch {torch.__version__}", most, through.device)


def say(header: AllreduceHeader, times: list[Time]) -> None:
    """Print the times, and how far two measurements of the same were apart."""
    table = Table(title=f"{header.library}, {header.version}; {header.node}", title_justify="left")
    beside = any(each.computing is not None for each in times)
    headings = ("nodes", "ranks", "bytes", "microseconds [95%]", "GB/s", "again / first")
    for heading in (*headings, *(("left to computing",) if beside else ())):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in times:
        micro = [f"{value * 1e6:.4g}" for value in (each.seconds, each.low, each.high)]
        table.add_row(
            str(each.nodes), str(each.ranks), size_text(each.bytes), f"{micro[0]} [{micro[1]}, {micro[2]}]",
            f"{each.bytes / each.seconds / 1e9:.3g}", f"{each.control:.3f}",
            *((f"{100 * each.computing:.0f}%",) if each.computing is not None else ()),
        )  # fmt: skip
    console = wide_console()
    console.print(table)
    console.print(f"measured twice, the same differs by a factor of {header.worst_control:.3f} at most")


def size_text(size: int) -> str:
    """`64 KiB`, or bytes where it is no whole number of a larger unit."""
    name, unit = next((name, unit) for name, unit in reversed(SAID.items()) if size % unit == 0)
    return f"{size // unit} {name}"
