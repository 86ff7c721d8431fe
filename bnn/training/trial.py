"""Steps of a trainer that stands alone: timed one by one, without a run around them."""

from __future__ import annotations

from statistics import median

import numpy as np
from torch import Tensor

from bnn.data import Dataset
from bnn.data.pipeline import Schedule
from bnn.engine import SingleEngine
from bnn.settings import TrainSettings
from bnn.training.build import make_trainer
from bnn.training.recorder import StepClock
from bnn.training.trainer import Trainer

TIMED_STEPS = 5


def timed_step(
    trainer: Trainer, step: int, images: Tensor, labels: Tensor, clock: StepClock
) -> tuple[dict[str, float], float]:
    """Take one step on a batch that is there already; nothing is recorded in it.

    Returns its seconds as `Timing.seconds` names them, which last until the next step could start, and its loss (nats).
    """
    trainer.to_training()
    clock.start()
    clock.lap()  # the batch is there
    _, metrics = trainer.step(step, images, labels, clock.lap)
    loss = float(metrics[2])  # waits for a GPU, the update included
    clock.stop()
    return clock.timing.seconds(), loss


def trial_seconds(settings: TrainSettings, dataset: Dataset, schedule: Schedule) -> float:
    """Median seconds of a step with these settings, by a trainer of its own on the data's first images.

    No gradients are exchanged. Raises UserError where the settings cannot run here.
    """
    trainer = make_trainer(settings, dataset, SingleEngine(), schedule)
    first = np.arange(settings.batch_size) % len(dataset.train)
    images, labels = trainer.form.tensors(dataset.train, first)
    clock = StepClock(settings.device)
    taken = [timed_step(trainer, step, images, labels, clock)[0]["seconds"] for step in range(1 + TIMED_STEPS)]
    return median(taken[1:])  # the first one compiles, or chooses algorithms
