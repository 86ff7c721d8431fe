"""What runs: the one place that names it, and the choice of the fastest CNN baseline."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn.engine import Engine
from bnn.errors import UserError
from bnn.settings import TrainSettings

# Baselines that cnn-best chooses from; where this machine has no kernels for the run, cnn takes their place.
TRIED_BASELINES = ("cnn-compiled", "cnn-kernels")
TIMED_STEPS = 5


@dataclass(frozen=True)
class Choice:
    """What was decided to run: the settings asked for, with the chosen baseline in place of cnn-best.

    `seconds`: median step time on rank 0 of every baseline that was tried; empty when there was nothing to choose.
    """

    settings: TrainSettings
    seconds: dict[str, float] = field(default_factory=dict)


def what_runs(settings: TrainSettings, model: nn.Module) -> str:
    """Name of what runs, recorded in every row: what was asked for, unless this machine has no kernels for it."""
    name = settings.implementation
    return "bnn-flipout-torch" if name == "bnn-flipout" and not kernels_used(model) else name


def kernels_used(model: nn.Module) -> bool:
    """Whether this project's kernels compute the model's Flipout layers."""
    try:
        from bnn.layers.flipout_fast import kernels_used as used
    except ImportError:
        return False
    return bool(used(model))


def with_kernels(model: nn.Module) -> nn.Module:
    """The conventional model with this project's convolutions where they are faster. Raises UserError without them."""
    try:
        from bnn.layers.kernel_conv import use_kernels
    except ImportError as error:
        raise UserError(f"baseline cnn-kernels: the kernels cannot be loaded ({error})") from None
    return use_kernels(model)


def choose(
    settings: TrainSettings, engine: Engine, seconds_of: Callable[[TrainSettings], float], kept: str | None
) -> Choice:
    """Decide what to run: for cnn-best the candidate with the smallest `seconds_of`, else just what was asked for.

    All ranks try together, since they share caches and memory; rank 0's times decide. A resumed run goes on with the
    baseline its checkpoint `kept`, because another one rounds differently.
    """
    if settings.kind != "cnn" or settings.baseline != "cnn-best":
        return Choice(settings)
    if kept is not None:
        return Choice(settings.model_copy(update={"baseline": kept}))
    seconds: dict[str, float] = {}
    for name in TRIED_BASELINES:
        candidate = settings.model_copy(update={"baseline": name})
        try:
            if name == "cnn-kernels" and not settings.kernels_fit:
                raise UserError("the kernels do not fit this run")
            seconds[name] = seconds_of(candidate)
        except UserError:  # no kernels or no compiler here, as on the other ranks, which share the installation
            seconds.setdefault("cnn", seconds_of(settings.model_copy(update={"baseline": "cnn"})))
    seconds = engine.gather(seconds, "baselines")[0]
    fastest = min(seconds, key=lambda name: seconds[name])
    return Choice(settings.model_copy(update={"baseline": fastest}), seconds)


def step_seconds(
    forward: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, images: Tensor, classes: int
) -> float:
    """Median seconds of a training step on these images, without exchange; the model it trains is to be thrown away."""
    labels = torch.arange(len(images), device=images.device) % classes
    taken = []
    for _ in range(1 + TIMED_STEPS):
        start = time.perf_counter()
        functional.cross_entropy(forward(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if images.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return median(taken[1:])  # the first one compiles, or chooses algorithms
