"""One step of training. On a GPU it only queues work: nothing in it makes the host wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn.data.pipeline import Schedule
from bnn.layers import NoiseKey, kl_divergence, set_noise
from bnn.layers.noise import layer_seed
from bnn.settings import TrainSettings
from bnn.training.clock import StepClock
from bnn.training.forward import use_default_noise
from bnn.training.run import Run

OTHER_NOISE = -1  # in place of a layer's index: what draws from torch's default generator, as dropout does


def beta_at(step: int, schedule: Schedule, settings: TrainSettings) -> float:
    """Weight of the KL term: constant, or rising linearly from 0 over `beta_anneal_epochs` (the paper, section 2.1)."""
    ramp = settings.beta_anneal_epochs * schedule.epoch_samples / schedule.step_samples
    return settings.beta * min(1.0, step / ramp) if ramp else settings.beta


def spread_failure(loss: Tensor) -> Tensor:
    """The loss itself while it is finite; else one whose gradients are all NaN.

    Averaging then carries the failure to every rank within this step, without a message of its own.
    """
    return loss * (1 + 0 * loss.detach())


def finite_everywhere(model: nn.Module, like: Tensor) -> Tensor:
    """1 while the loss was finite on all ranks, else 0, read off an averaged gradient: the same on every rank."""
    last = [p.grad for p in model.parameters() if p.grad is not None][-1]
    return torch.isfinite(last).all().to(like.dtype)


def key_noise(settings: TrainSettings, model: nn.Module, key: NoiseKey) -> None:
    """Make the next forward pass draw the noise named by `key`.

    A compiled Bayesian model draws all of it from torch's default generator, hence other numbers than one that is not
    compiled, but the same in every run and resumption.
    """
    torch.manual_seed(layer_seed(key, OTHER_NOISE))
    if settings.compiled:
        use_default_noise(model)
    else:
        set_noise(model, key)


def take_step(run: Run, step: int, images: Tensor, labels: Tensor, clock: StepClock) -> tuple[float, Tensor]:
    """Forward and backward pass, exchange and update; the clock gets a lap after each.

    Returns beta and the tensor [nll, kl, loss, accuracy, finite on all ranks] on the run's device.
    """
    settings, model, schedule = run.settings, run.model, run.schedule
    key_noise(settings, model, NoiseKey(settings.seed, step, run.engine.rank))
    logits = run.forward(images)
    nll = functional.cross_entropy(logits, labels)
    kl = kl_divergence(model)
    beta = beta_at(step, schedule, settings)
    loss = nll + beta * kl / schedule.n
    clock.lap()
    spread_failure(loss).backward()
    clock.lap()
    run.exchange.wait()
    clock.lap()
    finite = finite_everywhere(model, loss)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    clock.lap()
    accuracy = (logits.detach().argmax(1) == labels).to(loss.dtype).mean()
    return beta, torch.stack([nll.detach(), kl.detach(), loss.detach(), accuracy, finite])
