"""The command group `bnn bench`. Heavy imports happen inside commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bnn.bench.implementations import BEST, OURS, PEERS, choose
from bnn.commands.options import Counts, ImageShape, Known, Names, model_names
from bnn.commands.settings import json_object
from bnn.commands.threads import MACHINE, say_threads, threads_given

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
    _run("step", labels=None if labels is None else json_object(labels, "--labels"), **given)


@bench.command("inference")
@_shared
@click.option("--images", type=Counts(), default="1,100", show_default=True, help="images per draw; one table each")
@click.option("--draws", type=POSITIVE, default=100, show_default=True, help="Monte-Carlo draws")
def bench_inference(**given: Any) -> None:
    """Monte-Carlo inference: seconds for all draws of the predictive distribution (a CNN: as many forward passes)."""
    _run("inference", batch=1, steps=1, **given)
