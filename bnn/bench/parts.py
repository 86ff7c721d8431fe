"""How long noise and KL take in a step, measured apart from the steps that are timed: after the last of them.

The update needs no such thing: a step measures it itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from bnn import kernels
from bnn.device import synchronize
from bnn.layers import bayesian_layers, kl_divergence
from bnn.settings import TrainSettings
from bnn.training.implementation import kernels_used

REPEATS = 3
UPDATE = "bnn.bench.update"
# Operators of our kernels that make noise, KL and its gradient; convolutions and optimizers are others.
NOISE_OPERATORS = tuple(f"bnn_kernels::{name}" for name in ("normal", "signs", "perturb", "chain_", "ivon_sample"))


def noise_and_kl(
    settings: TrainSettings,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train_size: int,
    step: Callable[[], object],
) -> float | None:
    """Seconds that one step spends on noise, KL and its gradient, outside of the optimizer's own `step`.

    0 for a conventional network; None where it cannot be told: a local reparameterisation's noise is that of
    activations, a compiled step has no parts, and IVON's is one with the sample in plain torch. `step` takes one
    training step.
    """
    if settings.by_ivon:
        fit = settings.kernels_fit and kernels.available()
        return median(profiled(step, optimizer) for _ in range(REPEATS)) if fit else None
    layers = list(bayesian_layers(model))
    if not layers:
        return 0.0
    if settings.estimator == "local-reparameterization" or settings.compiled:
        return None
    if kernels_used(model):
        return median(profiled(step, optimizer) for _ in range(REPEATS))
    # the first pass finds memory that the steps have given back, which costs more than the pass
    passes = [by_themselves(model, train_size, optimizer) for _ in range(1 + REPEATS)]
    return median(passes[1:])


def by_themselves(model: nn.Module, train_size: int, optimizer: torch.optim.Optimizer) -> float:
    """Seconds of drawing eps, forming sigma * eps, the KL, and both of their gradients, in plain torch."""
    layers = list(bayesian_layers(model))
    gradients = [torch.ones_like(layer.mu) for layer in layers]
    device = gradients[0].device.type
    synchronize(device)
    start = time.perf_counter()
    outputs: list[Tensor] = [kl_divergence(model) / train_size]
    outputs += [layer.sigma * layer.standard_normal() for layer in layers]
    torch.autograd.backward(outputs, [torch.ones_like(outputs[0]), *gradients])
    synchronize(device)
    elapsed = time.perf_counter() - start
    optimizer.zero_grad(set_to_none=True)
    return elapsed


def profiled(step: Callable[[], object], optimizer: torch.optim.Optimizer) -> float:
    """Seconds of NOISE_OPERATORS in one step, without those that the optimizer calls."""
    update = optimizer.step

    def marked() -> None:
        with record_function(UPDATE):
            update()

    setattr(optimizer, "step", marked)  # noqa: B010  # an instance's attribute, which mypy takes for the method
    try:
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            step()
    finally:
        del optimizer.step
    total = 0.0
    for event in profiler.events() or []:
        above = event.cpu_parent
        while above is not None and above.name != UPDATE:
            above = above.cpu_parent
        if above is None and event.name in NOISE_OPERATORS:
            total += event.cpu_time_total / 1e6
    return total
