"""The training loop."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn.data.pipeline import Schedule
from bnn.engine import Engine
from bnn.layers import NoiseKey, kl_divergence, set_noise
from bnn.layers.noise import layer_seed
from bnn.mpi_trace import mark
from bnn.records import Summary
from bnn.settings import TrainSettings
from bnn.training.batches import batches
from bnn.training.checkpoint import save_checkpoint
from bnn.training.clock import StepClock
from bnn.training.evaluation import evaluate
from bnn.training.finish import finish
from bnn.training.run import Run
from bnn.training.start import start_run

OTHER_NOISE = -1  # in place of a layer's index: what draws from torch's default generator, as dropout does


def beta_at(step: int, schedule: Schedule, settings: TrainSettings) -> float:
    """Weight of the KL term: constant, or rising linearly from 0 over `beta_anneal_epochs` (the paper, section 2.1)."""
    ramp = settings.beta_anneal_epochs * schedule.epoch_samples / schedule.step_samples
    return settings.beta * min(1.0, step / ramp) if ramp else settings.beta


def average_statistics(run: Run, done: int) -> None:
    """Give every rank the same running statistics of BatchNorm: their mean over ranks, or rank 0's (as the paper)."""
    buffers = [buffer for _, buffer in run.model.named_buffers()]
    if run.settings.batchnorm_statistics == "average":
        run.engine.average_(buffers, f"statistics.{done}")
    else:
        run.engine.broadcast_(buffers, f"statistics.{done}")


def spread_failure(loss: Tensor) -> Tensor:
    """The loss itself while it is finite; else one whose gradients are all NaN.

    Averaging then carries the failure to every rank within this step, without a message of its own.
    """
    return loss * (1 + 0 * loss.detach())


def finite_everywhere(model: nn.Module, like: Tensor) -> Tensor:
    """1 while the loss was finite on all ranks, else 0, read off an averaged gradient: the same on every rank."""
    last = [p.grad for p in model.parameters() if p.grad is not None][-1]
    return torch.isfinite(last).all().to(like.dtype)


def train(settings: TrainSettings, out: Path, engine: Engine, process_start: float) -> Summary | None:
    """Train and leave the records in `out`; returns the summary on rank 0 and None elsewhere.

    Resumes from the latest checkpoint of the same settings, if there is one. A non-finite loss ends the run at its
    step on all ranks; the summary's verdict is then INVALID. Raises UserError for what a user can mend.
    """
    run = start_run(settings, out, engine)
    model, optimizer, recorder, schedule = run.model, run.optimizer, run.recorder, run.schedule
    engine.reduce_gradients(model.named_parameters())
    source = batches(run.dataset.train, settings, schedule, engine.rank, run.first_step, run.steps)
    clock = StepClock(settings.device)
    training_start = time.time()

    for step in range(run.first_step, run.steps):
        mark("warmup" if step - run.first_step < settings.warmup_steps else "steady")
        clock.start()
        images, labels = next(source)
        clock.lap()
        key = NoiseKey(settings.seed, step, engine.rank)
        set_noise(model, key)
        torch.manual_seed(layer_seed(key, OTHER_NOISE))
        logits = model(images)
        nll = functional.cross_entropy(logits, labels)
        kl = kl_divergence(model)
        beta = beta_at(step, schedule, settings)
        loss = nll + beta * kl / schedule.n
        clock.lap()
        spread_failure(loss).backward()
        clock.lap()
        engine.wait()
        clock.lap()
        finite = finite_everywhere(model, loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.lap()

        accuracy = (logits.detach().argmax(1) == labels).to(loss.dtype).mean()
        metrics = torch.stack([nll.detach(), kl.detach(), loss.detach(), accuracy, finite])
        recorder.add(step, schedule.epoch(step), beta, clock.timing, metrics)
        if recorder.failed_step is not None:
            break
        if schedule.ends_epoch(step) and step + 1 < run.steps:
            end_epoch(run, step + 1)

    recorder.flush()
    if recorder.failed_step is None:
        mark("evaluation")
        average_statistics(run, run.steps)
        if settings.evaluate != "none":
            run.evaluations.append(evaluate(run, run.steps))
    mark("end")
    return finish(run, process_start, training_start)


def end_epoch(run: Run, done: int) -> None:
    """Between two epochs, after `done` steps: held-out metrics and a checkpoint, where they are due."""
    epoch, settings = run.schedule.epoch(done), run.settings
    if settings.evaluate == "epoch":
        mark("evaluation")
        average_statistics(run, done)
        run.evaluations.append(evaluate(run, done))
    if settings.checkpoint_epochs and epoch % settings.checkpoint_epochs == 0:
        run.recorder.flush()
        if run.engine.rank == 0:
            run.folder.keep_evaluations(run.evaluations)
        mark("checkpoint")
        save_checkpoint(run, done)
