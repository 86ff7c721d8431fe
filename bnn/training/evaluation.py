"""Held-out metrics during training: the Monte-Carlo mean over a few draws."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bnn.data import Dataset
from bnn.data.base import evenly_spread
from bnn.layers import NoiseKey, set_noise
from bnn.models.normalise import running_statistics
from bnn.models.own import user_code
from bnn.records import Evaluation
from bnn.settings import TrainSettings
from bnn.training.measures import ClassSums, RegressionSums
from bnn.training.run import Run
from bnn.training.task import Regression, Segmentation, Task

# Noise of evaluations is keyed apart from that of training steps, which use the ranks 0, 1, ...
EVALUATION_RANK = 1 << 20
IMAGES_AT_ONCE = 256
PIXELS_AT_ONCE = 1 << 22  # times classes, of a segmentation: several copies in double precision


def images_at_once(task: Task) -> int:
    """Images of a block. That of a classification is part of which noise its examples see."""
    if not isinstance(task, Segmentation):
        return IMAGES_AT_ONCE
    return max(1, min(IMAGES_AT_ONCE, PIXELS_AT_ONCE // (task.classes * task.height * task.width)))


def average_statistics(run: Run, done: int) -> None:
    """Give every rank the same running statistics of BatchNorm: their mean over ranks, or rank 0's (as the paper)."""
    run.heartbeat.move("exchange")
    engine = run.trainer.engine
    buffers = list(running_statistics(run.trainer.model))
    if run.settings.batchnorm_statistics == "average":
        engine.average_(buffers, f"statistics.{done}")
    else:
        engine.broadcast_(buffers, f"statistics.{done}")


def evaluated_images(settings: TrainSettings, dataset: Dataset) -> NDArray[np.int64]:
    """Indices of the held-out images of every evaluation. Raises UserError for more than there are."""
    return evenly_spread(dataset.test, settings.evaluate_images, "evaluate_images", settings.dataset, "held-out")


@torch.no_grad()
def evaluate(run: Run, step: int) -> Evaluation:
    """Accuracy and mean NLL (nats) of the mean predictive distribution (the paper's eq. 4) after `step` steps.

    The images are divided over the ranks. `accuracy_single_draw` is the mean accuracy of the draws taken one by one,
    `draw_spread` the standard deviation over draws of the true class's probability, averaged over the images.
    """
    trainer, settings, split = run.trainer, run.settings, run.dataset.test
    start = time.perf_counter()
    model, engine = trainer.posterior(), trainer.engine
    model.eval()  # (whatever a model's own `train` returns)
    draws = settings.evaluate_draws if settings.kind == "bnn" else 1
    sums = RegressionSums(trainer.task) if isinstance(trainer.task, Regression) else ClassSums(trainer.task)
    chosen = evaluated_images(settings, run.dataset)
    mine = chosen[engine.rank :: engine.size]
    block = images_at_once(trainer.task)
    for low in range(0, len(mine), block):
        run.heartbeat.move("evaluation")
        images, targets = trainer.form.tensors(split, mine[low : low + block])
        with user_code(settings.model, model):
            sums.add(keyed_draws(run, model, images, draws), targets, draws)
    trainer.to_training()
    run.heartbeat.move("exchange")
    totals = np.sum(engine.gather(sums.values, f"evaluation.{step}"), axis=0)
    return Evaluation(
        step=step,
        epoch=trainer.schedule.epoch(step),
        draws=draws,
        images=len(chosen),
        **sums.measures(totals, len(chosen), draws),
        seconds=time.perf_counter() - start,
    )


def keyed_draws(run: Run, model: nn.Module, images: Tensor, draws: int) -> Iterator[Tensor]:
    """The model's outputs for `images`, draw by draw."""
    rank = run.trainer.engine.rank
    for draw in range(draws):
        set_noise(model, NoiseKey(run.settings.seed, draw, EVALUATION_RANK + rank))
        yield model(images)
