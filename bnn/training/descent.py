"""What the settings ask of the optimizer: which one, and its learning rate step by step.

All of it is numbers of the host that depend on settings and step alone: a resumed run goes on bit for bit, and nothing
waits for a GPU.
"""

from __future__ import annotations

import torch
from torch import nn

from bnn.data.pipeline import Schedule
from bnn.optim import FusedAdam, FusedRMSprop, RateSchedule
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


def rate_schedule(settings: TrainSettings, schedule: Schedule) -> RateSchedule:
    """The schedule that the settings describe. A warm-up has whole steps, at least one where it is asked for."""
    epochs = settings.lr_warmup_epochs
    warmup = max(1, round(epochs * schedule.epoch_samples / schedule.step_samples)) if epochs else 0
    return RateSchedule(steps_of(settings, schedule), warmup, settings.lr_schedule == "cosine", settings.lr_final_share)
