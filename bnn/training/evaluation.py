"""Held-out metrics during training: the Monte-Carlo mean over a few draws."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch.nn import functional

from bnn.layers import NoiseKey, set_noise
from bnn.records import Evaluation
from bnn.training.run import Run

# Noise of evaluations is keyed apart from that of training steps, which use the ranks 0, 1, ...
EVALUATION_RANK = 1 << 20
IMAGES_AT_ONCE = 256


def average_statistics(run: Run, done: int) -> None:
    """Give every rank the same running statistics of BatchNorm: their mean over ranks, or rank 0's (as the paper)."""
    run.heartbeat.move("exchange")
    engine = run.trainer.engine
    buffers = [buffer for _, buffer in run.trainer.model.named_buffers()]
    if run.settings.batchnorm_statistics == "average":
        engine.average_(buffers, f"statistics.{done}")
    else:
        engine.broadcast_(buffers, f"statistics.{done}")


@torch.no_grad()
def evaluate(run: Run, step: int) -> Evaluation:
    """Accuracy and mean NLL (nats) of the mean predictive distribution (the paper's eq. 4) after `step` steps.

    The images are divided over the ranks. `accuracy_single_draw` is the mean accuracy of the draws taken one by one,
    `draw_spread` the standard deviation over draws of the true class's probability, averaged over the images.
    """
    trainer, settings, split = run.trainer, run.settings, run.dataset.test
    model, engine = trainer.model, trainer.engine
    start = time.perf_counter()
    model.eval()
    draws = settings.evaluate_draws if settings.kind == "bnn" else 1
    mine = np.arange(engine.rank, len(split), engine.size)
    correct, correct_single, nll, spread = 0, 0.0, 0.0, 0.0
    for low in range(0, len(mine), IMAGES_AT_ONCE):
        run.heartbeat.move("evaluation")
        images, labels = trainer.form.tensors(split, mine[low : low + IMAGES_AT_ONCE])
        mean = torch.zeros((), device=images.device)
        of_truth = []
        for draw in range(draws):
            set_noise(model, NoiseKey(settings.seed, draw, EVALUATION_RANK + engine.rank))
            probability = functional.softmax(model(images).double(), dim=1)
            correct_single += float((probability.argmax(1) == labels).sum()) / draws
            mean = mean + probability / draws
            of_truth.append(probability.gather(1, labels[:, None])[:, 0])
        correct += int((mean.argmax(1) == labels).sum())
        nll -= float(mean.gather(1, labels[:, None]).clamp_min(1e-300).log().sum())
        spread += float(torch.stack(of_truth).std(dim=0).sum()) if draws > 1 else 0.0
    model.train()
    run.heartbeat.move("exchange")
    totals = np.sum(engine.gather([correct, correct_single, nll, spread], f"evaluation.{step}"), axis=0)
    return Evaluation(
        step=step,
        epoch=trainer.schedule.epoch(step),
        draws=draws,
        images=len(split),
        accuracy=totals[0] / len(split),
        accuracy_single_draw=totals[1] / len(split),
        nll=totals[2] / len(split) if np.isfinite(totals[2]) else None,
        draw_spread=totals[3] / len(split) if draws > 1 and np.isfinite(totals[3]) else None,
        seconds=time.perf_counter() - start,
    )
