"""One rank of a check: python -m bnn.check.rank PART ENGINE CONTEXT, started by a launcher."""

from __future__ import annotations

import copy
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from bnn.check import runs
from bnn.check.exchange import bus_bandwidth
from bnn.check.numerics import agree
from bnn.check.outcome import Context, FaultError, one_line
from bnn.commands.ranks import on_ranks
from bnn.commands.saying import errors_said
from bnn.device import prepare_device, synchronize
from bnn.engine import Engine, SingleEngine, start_engine
from bnn.exchange import GradientExchange
from bnn.inference.run import infer
from bnn.inference.settings import InferSettings
from bnn.layers import NoiseKey, kl_divergence, set_noise
from bnn.models.build import build_model

REPEATS = 10


@dataclass(frozen=True)
class Launch:
    """The settings that `bnn.engine` asks for; Horovod's are its defaults here."""

    engine: str
    device: str
    cycle_time_ms: float = 1.0
    fusion_buffer_mb: float = 128.0


def exchange(engine: Engine, context: Context) -> str:
    """Means, broadcasts and gathers are exact; gradients are those of one process that does the work of all."""
    prepare_device(context.device, 1, engine)
    runs.deterministic(context.device)
    numbers = (torch.arange(context.mib * 2**18, device=context.device) % 1000).float()  # exact in float32
    block = numbers * engine.rank
    expected = numbers * ((engine.size - 1) / 2)  # the ranks' mean: halves of small whole numbers
    engine.average_([block], "block")
    if not torch.equal(block, expected):
        raise FaultError(f"a mean of {context.mib} MiB is wrong")
    synchronize(context.device)
    start = time.perf_counter()
    for _ in range(REPEATS):
        engine.average_([block], "block")
    synchronize(context.device)
    seconds = (time.perf_counter() - start) / REPEATS
    if not torch.equal(block, expected):
        raise FaultError("the mean of equal numbers is another")
    broadcasts(engine, context.device)
    said = engine.gather({"rank": engine.rank, "text": "ä" * engine.rank}, "said")
    if said != [{"rank": rank, "text": "ä" * rank} for rank in range(engine.size)]:
        raise FaultError(f"gathered {said}")
    off = gradients(engine, context.device)
    speed = bus_bandwidth(numbers.nbytes, seconds, engine.size)
    return f"{engine.size} ranks: means exact, gradients off by {off:.1g}, {speed:.1f} GB/s"


def broadcasts(engine: Engine, device: str) -> None:
    """Floats, whole numbers, and what an optimizer keeps on the host: all become rank 0's."""
    values = [
        torch.full((3, 5), float(engine.rank + 1), device=device),
        torch.full((7,), engine.rank + 1, dtype=torch.int64, device=device),
        torch.tensor(float(engine.rank + 1)),
    ]
    engine.broadcast_(values, "values")
    if any(bool((value != 1).any()) for value in values):
        raise FaultError(f"a broadcast left {[value.flatten()[0].item() for value in values]} in place of 1")


def gradients(engine: Engine, device: str) -> float:
    """Largest distance of the averaged gradients, float64, from those of all microbatches computed here."""
    torch.manual_seed(0)
    shape = (3, 16, 16)
    model = build_model("resnet18", "bnn", input_shape=shape, classes=10, width=1 / 16).to(device).double()
    engine.broadcast_([p.data for p in model.parameters()], "model")
    twin = copy.deepcopy(model)
    make = torch.Generator().manual_seed(1)
    images = torch.rand(engine.size, 4, *shape, generator=make, dtype=torch.float64).to(device)
    labels = torch.randint(0, 10, (engine.size, 4), generator=make).to(device)

    def backward(each: torch.nn.Module, rank: int) -> None:
        set_noise(each, NoiseKey(0, 0, rank))
        (functional.cross_entropy(each(images[rank]), labels[rank]) + 1e-3 * kl_divergence(each)).backward()

    exchanged = GradientExchange(engine, model.named_parameters(), 0.05)
    backward(model, engine.rank)
    exchanged.wait()
    for rank in range(engine.size):
        backward(twin, rank)
    worst = 0.0
    for (name, got), (_, expected) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        if expected.grad is None:
            continue
        assert got.grad is not None
        scale = expected.grad / engine.size
        worst = max(worst, agree(f"the gradient of {name}", got.grad, scale, 1e-9))
    return worst


def training(engine: Engine, context: Context) -> str:
    """A training on all ranks, stopped and resumed; an inference by all ranks, the same as by one."""
    folder = context.folder / f"{engine.name}-training"
    said, posterior = runs.resumed(engine, context.device, folder)
    settings = InferSettings(
        posterior=posterior, dataset="synthetic", draws=40, device=context.device, engine=engine.name,
        dataset_options={"shape": runs.SHAPE, "classes": runs.CLASSES, "size": 8, "test_size": 16},
    )  # fmt: skip
    infer(settings, folder / "all", engine, time.time())
    if engine.rank == 0:
        infer(settings.model_copy(update={"engine": "single"}), folder / "one", SingleEngine(), time.time())
        drawn = []
        for name in ("all", "one"):
            with np.load(folder / name / "draws.npz", allow_pickle=False) as found:
                drawn.append(found["probabilities"])
        if not np.allclose(drawn[0], drawn[1], atol=1e-5):
            raise FaultError(f"an inference by {engine.size} ranks makes other draws than by one")
    engine.barrier("compared")
    return f"{engine.size} ranks: {said}; the same draws as one" if engine.rank == 0 else "done"


PARTS: dict[str, Callable[[Engine, Context], str]] = {"exchange": exchange, "training": training}


def say(rank: int, word: str, text: str) -> None:
    """In one piece, since the ranks share a pipe: print may write the end of the line by itself."""
    os.write(1, f"bnn check: rank {rank}: {word}: {one_line(text)}\n".encode())


def main() -> None:
    part, name, text = sys.argv[1:]
    context = Context.from_json(text)
    engine = start_engine(Launch(name, context.device))

    def work() -> str:
        if engine.size != context.ranks:
            raise FaultError(f"the launcher started {engine.size} ranks, {context.ranks} are wanted")
        try:
            return PARTS[part](engine, context)
        except FaultError as error:
            say(engine.rank, "wrong", str(error))
            engine.abort(3)
            raise

    say(engine.rank, "right", on_ranks(engine, work))


if __name__ == "__main__":
    with errors_said():
        main()
