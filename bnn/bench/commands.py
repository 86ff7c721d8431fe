"""The command group `bnn bench`. Heavy imports happen inside commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bnn.bench.allreduce.names import ALGORITHMS
from bnn.bench.implementations import BEST, OURS, PEERS, choose
from bnn.commands.options import Counts, ImageShape, Known, Names, model_names
from bnn.commands.threads import MACHINE, say_threads, threads_given
from bnn.errors import UserError
from bnn.strictjson import parse_object

FALLBACK_SHAPE = (3, 32, 32)
POSITIVE = click.IntRange(min=1)


def _shared(command: Any) -> Any:
    """The options of both benchmarks."""
    for option in reversed((
        click.option("--model", default="vgg16", type=Known(model_names), show_default=True, help="as in bnn train"),
        click.option("--threads", type=POSITIVE, help=f"threads of every implementation [default: {MACHINE}]"),
        click.option("--rounds", type=POSITIVE, default=6, show_default=True, help="turns of every implementation"),
        click.option("--peers", type=Names(PEERS), default=(), help=f"any of {', '.join(PEERS)}"),
        click.option(
            "--implementations",
            type=Names((*OURS, BEST)),
            default=(),
            help=f"default: all of {', '.join((*OURS, BEST))}",
        ),
        click.option("--warmup", type=POSITIVE, default=3, show_default=True, help="unmeasured steps at the start"),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="of order and noise"),
        click.option("--shape", type=ImageShape(), help="of the synthetic images [default: the paper's]"),
        click.option("--classes", type=click.IntRange(min=2), default=10, show_default=True, help="number of classes"),
        click.option("--width", type=float, default=1.0, show_default=True, help="factor on hidden channels"),
        click.option("--out", type=click.Path(path_type=Path), required=True, help="Parquet file; header beside it"),
    )):  # fmt: skip
        command = option(command)
    return command


def _run(
    benchmark: str, out: Path, implementations: tuple[str, ...], peers: tuple[str, ...], shape: tuple[int, ...] | None,
    **given: Any,
) -> None:  # fmt: skip
    choice = choose(benchmark, implementations, peers)
    given, room = threads_given(given)
    if room:
        say_threads(given["threads"], room)
    from bnn.bench.run import run_bench
    from bnn.bench.session import Plan
    from bnn.models.architectures import PAPER_INPUT

    fitting = shape or PAPER_INPUT.get(given["model"], FALLBACK_SHAPE)
    run_bench(Plan(benchmark=benchmark, choice=choice, shape=fitting, **given), out)


@click.group()
def bench() -> None:
    """Measure implementations and peers against each other, interleaved in one run, each in a process of its own."""


@bench.command("step")
@_shared
@click.option("--batch", type=POSITIVE, default=128, show_default=True, help="training examples per step")
@click.option("--steps", type=POSITIVE, default=3, show_default=True, help="steps of every turn")
@click.option("--peak/--no-peak", default=True, show_default=True, help="measure the machine's peak FLOP/s first")
@click.option("--labels", metavar="JSON", help="kept in the header, as JSON")
def bench_step(**given: Any) -> None:
    """Full training steps: noise, forward pass, loss with KL, backward pass, Adam."""
    labels = given.pop("labels")
    _run("step", labels=None if labels is None else parse_object(labels, "--labels"), **given)


@bench.command("inference")
@_shared
@click.option("--images", type=Counts(), default="1,100", show_default=True, help="images per draw; one table each")
@click.option("--draws", type=POSITIVE, default=100, show_default=True, help="Monte-Carlo draws")
def bench_inference(**given: Any) -> None:
    """Monte-Carlo inference: seconds for all draws of the predictive distribution (a CNN: as many forward passes)."""
    _run("inference", batch=1, steps=1, **given)


@bench.command("allreduce")
@click.option(
    "--through",
    type=click.Choice(("mpi", "horovod", "torch")),
    default="mpi",
    show_default=True,
    help="MPI by itself, or an engine of runs, from handing a tensor over until its mean is there",
)
@click.option("--ranks", type=Counts(), help="rank counts [default: powers of two, and all; an engine: all]")
@click.option("--least", type=click.IntRange(min=4), default=4, show_default=True, help="smallest size, bytes")
@click.option("--most", type=click.IntRange(4, 2**33 - 4), default=2**28, show_default=True, help="largest, bytes")
@click.option("--rounds", type=click.IntRange(min=2), default=7, show_default=True, help="turns of every size, twice")
@click.option("--computing", is_flag=True, help="also what an allreduce leaves of the speed of a thread that computes")
@click.option("--algorithm", type=click.Choice(ALGORITHMS), help="that MPICH has to take [default: its own choice]")
@click.option("--node", help="what to call this kind of node [default: its processor]")
@click.option("--device", type=click.Choice(("cpu", "cuda")), default="cpu", show_default=True, help="where sums lie")
@click.option("--cycle-time-ms", type=float, default=5.0, show_default=True, help="Horovod's cycle time")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="of the order")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="CSV file; rows of other curves stay")
def bench_allreduce(
    through: str,
    ranks: tuple[int, ...] | None,
    least: int,
    most: int,
    rounds: int,
    computing: bool,
    algorithm: str | None,
    node: str | None,
    device: str,
    cycle_time_ms: float,
    seed: int,
    out: Path,
) -> None:
    """Allreduces in place by size and rank count, as `campaign project --allreduce` reads them; start it on all ranks.

    `mpiexec -n 8 bnn bench allreduce --out times.csv` times the first 2, 4 and 8 ranks with sizes of 4 B, 8 B, ...
    """
    from bnn.bench.allreduce.measure import Plan, powers
    from bnn.bench.allreduce.run import Through, run_allreduce

    if least % 4 or most < least:
        raise UserError(f"--least {least} --most {most}: sizes are whole float32 (4 bytes), the least one first")
    sizes = powers(least, most)
    chosen = Through(through, algorithm, device, cycle_time_ms)
    run_allreduce(Plan(sizes, ranks or (), rounds, seed=seed, computing=computing), chosen, node, out)


@bench.command("replay")
@click.argument("cell", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--steps", type=click.IntRange(min=2), default=30, show_default=True, help="steps after warm-up")
@click.option("--warmup", type=click.IntRange(min=0), default=5, show_default=True, help="unmeasured steps before")
@click.option("--engine", type=click.Choice(("horovod", "torch")), help="[default: the cell's]")
@click.option("--cycle-time-ms", type=click.FloatRange(min=0, min_open=True), help="Horovod's [default: the cell's]")
@click.option("--fusion-buffer-mb", type=click.FloatRange(min=0), help="Horovod's [default: the cell's]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Parquet file; header beside it")
def bench_replay(cell: Path, steps: int, warmup: int, out: Path, **changes: Any) -> None:
    """A recorded cell on as many ranks as this is started on: they sleep for its computing, and reduce for real.

    `mpiexec -n 8 bnn bench replay results/.../repeat=1 --out replay.parquet`. What comes of it is called replayed.
    """
    from bnn.bench.replay.run import run_replay

    run_replay(cell, steps, warmup, {name: value for name, value in changes.items() if value is not None}, out)
