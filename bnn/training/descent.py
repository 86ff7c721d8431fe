"""How parameters follow their gradients: the optimizer, its learning rate step by step, weight decay and clipping.

All of it is numbers of the host that depend on settings and step alone: a resumed run goes on bit for bit, and nothing
waits for a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from bnn.data.pipeline import Schedule
from bnn.optim import FusedAdam, FusedRMSprop
from bnn.settings import TrainSettings


def learning_rate(settings: TrainSettings, ranks: int) -> float:
    """The full learning rate of this many ranks."""
    return settings.learning_rate * (ranks if settings.lr_scaling == "ranks" else 1)


def make_optimizer(settings: TrainSettings, model: nn.Module, ranks: int) -> torch.optim.Optimizer:
    """Adam, RMSProp (decay 0.9, as TensorFlow's) or SGD with momentum, with the learning rate of this many ranks."""
    rate = learning_rate(settings, ranks)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=rate, momentum=settings.momentum)
    if settings.optimizer == "rmsprop":
        rmsprop = FusedRMSprop if settings.tuned else torch.optim.RMSprop
        return rmsprop(model.parameters(), lr=rate, alpha=0.9)
    return FusedAdam(model.parameters(), rate) if settings.tuned else torch.optim.Adam(model.parameters(), lr=rate)


def steps_of(settings: TrainSettings, schedule: Schedule) -> int:
    """Steps of the whole run: those of its epochs, or `max_steps` where these are fewer."""
    return min(schedule.steps, settings.max_steps or schedule.steps)


@dataclass(frozen=True)
class RateSchedule:
    """Which share of the full learning rate each step takes: a pure function of the step.

    The first `warmup` steps rise linearly to 1, from 1 / warmup (Goyal et al. 2017). The others keep it, or, with
    `cosine`, fall from 1 towards `final`, which step `steps` would have (Loshchilov, Hutter 2017, without restarts).
    """

    steps: int
    warmup: int = 0
    cosine: bool = False
    final: float = 0.0

    def share(self, step: int) -> float:
        """The share of `step`, from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if not self.cosine:
            return 1.0
        passed = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * passed)) / 2


def rate_schedule(settings: TrainSettings, schedule: Schedule) -> RateSchedule:
    """The schedule that the settings describe. A warm-up has whole steps, at least one where it is asked for."""
    epochs = settings.lr_warmup_epochs
    warmup = max(1, round(epochs * schedule.epoch_samples / schedule.step_samples)) if epochs else 0
    return RateSchedule(steps_of(settings, schedule), warmup, settings.lr_schedule == "cosine", settings.lr_final_share)


@torch.no_grad()
def descend(
    optimizer: torch.optim.Optimizer, rate: float, weight_decay: float = 0.0, clip: float | None = None
) -> None:
    """One update with the learning rate `rate` of all parameters that have gradients, which are gone then.

    `clip` first scales all gradients down to that norm, where together they exceed it, as torch's `clip_grad_norm_`.
    `weight_decay` shrinks the parameters by `rate` times it before the update, as `torch.optim.AdamW`. IVON is given
    neither (bnn.settings refuses them): it has its own.
    """
    stepped = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(stepped, clip)
    for group in optimizer.param_groups:
        group["lr"] = rate
    if weight_decay and stepped:
        torch._foreach_mul_(stepped, 1 - rate * weight_decay)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
