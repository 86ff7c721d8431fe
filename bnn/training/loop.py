"""The training loop."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn.data.pipeline import steps_per_epoch
from bnn.engine import Engine
from bnn.layers import NoiseKey, kl_divergence, set_noise, sigma_median
from bnn.records import Evaluation, Summary
from bnn.settings import TrainSettings
from bnn.training.batches import batches
from bnn.training.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from bnn.training.clock import StepClock
from bnn.training.evaluation import evaluate
from bnn.training.finish import Outcome, finish
from bnn.training.folder import open_folder
from bnn.training.recorder import Recorder, RunFacts
from bnn.training.setup import make_model, make_optimizer, open_dataset, prepare_device


def beta_at(step: int, steps_in_epoch: int, settings: TrainSettings) -> float:
    """Weight of the KL term: constant, or rising linearly from 0 over `beta_anneal_epochs` (the paper, section 2.1)."""
    ramp = settings.beta_anneal_epochs * steps_in_epoch
    return settings.beta * min(1.0, step / ramp) if ramp else settings.beta


def average_statistics(model: nn.Module, settings: TrainSettings, engine: Engine, step: int) -> None:
    """Give every rank the same running statistics of BatchNorm: their mean over ranks, or rank 0's (as the paper)."""
    buffers = [buffer for _, buffer in model.named_buffers()]
    if settings.batchnorm_statistics == "average":
        engine.average_(buffers, f"statistics.{step}")
    else:
        engine.broadcast_(buffers, f"statistics.{step}")


def finite_everywhere(loss: Tensor, model: nn.Module) -> Tensor:
    """1 while this step was finite on all ranks, else 0: the same on every rank, without a message of its own.

    The KL term is equal on all ranks, and a non-finite likelihood on any of them makes the output layer's averaged
    gradient non-finite on all.
    """
    output = [p.grad for p in model.parameters() if p.grad is not None][-1]
    return (torch.isfinite(loss) & torch.isfinite(output).all()).to(loss.dtype)


def train(settings: TrainSettings, out: Path, engine: Engine, process_start: float) -> Summary | None:
    """Train and leave the records in `out`; returns the summary on rank 0 and None elsewhere.

    Resumes from the latest checkpoint of the same settings, if there is one. A non-finite loss ends the run at its
    step on all ranks; the summary's verdict is then INVALID. Raises UserError for what a user can mend.
    """
    prepare_device(settings, engine)
    dataset = open_dataset(settings)
    model = make_model(settings, dataset)
    optimizer = make_optimizer(settings, model, engine.size)
    in_epoch = steps_per_epoch(len(dataset.train), settings.batch_size, engine.size, settings.sharding)
    total = min(settings.epochs * in_epoch, settings.max_steps or settings.epochs * in_epoch)
    sigma_start = sigma_median(model)

    folder = open_folder(out, settings.fingerprint(), engine)
    checkpoint = find_checkpoint(out, settings.fingerprint(), engine.size)
    first, earlier = 0, None
    if checkpoint:
        first, earlier = checkpoint[0], load_checkpoint(checkpoint[1], model, optimizer, engine, settings.device)
    else:
        engine.broadcast_([p.data for p in model.parameters()], "parameters")
        engine.broadcast_([b for _, b in model.named_buffers()], "buffers")
    engine.reduce_gradients(model.named_parameters())

    facts = RunFacts(
        attempt=folder.attempt, first_step=first, steps=total, steps_per_epoch=in_epoch,
        warmup_steps=settings.warmup_steps, engine=engine.name, implementation=settings.implementation,
        rank=engine.rank, ranks=engine.size, batch_size=settings.batch_size,
    )  # fmt: skip
    recorder, clock = Recorder(facts, settings.device, earlier), StepClock(settings.device)
    evaluations: list[Evaluation] = folder.evaluations(first)
    train_size = len(dataset.train)
    source = batches(dataset.train, settings, engine, in_epoch, first, total)
    training_start = time.time()

    for step in range(first, total):
        clock.start()
        images, labels = next(source)
        clock.lap()
        set_noise(model, NoiseKey(settings.seed, step, engine.rank))
        logits = model(images)
        nll = functional.cross_entropy(logits, labels)
        kl = kl_divergence(model)
        beta = beta_at(step, in_epoch, settings)
        loss = nll + beta * kl / train_size
        clock.lap()
        loss.backward()
        clock.lap()
        engine.wait()
        clock.lap()
        finite = finite_everywhere(loss.detach(), model)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.lap()

        accuracy = (logits.detach().argmax(1) == labels).to(loss.dtype).mean()
        metrics = torch.stack([nll.detach(), kl.detach().to(loss.dtype), loss.detach(), accuracy, finite])
        recorder.add(step, beta, clock.timing, metrics)
        if recorder.failed_step is not None:
            break

        done, epoch_ends = step + 1, (step + 1) % in_epoch == 0
        epoch = done // in_epoch
        if settings.evaluate == "epoch" and epoch_ends and done < total:
            average_statistics(model, settings, engine, step)
            evaluations.append(evaluate(model, dataset.test, settings, engine, done, epoch))
        if settings.checkpoint_epochs and epoch_ends and epoch % settings.checkpoint_epochs == 0 and done < total:
            recorder.flush()
            folder.keep_evaluations(evaluations)
            save_checkpoint(out, settings.fingerprint(), done, model, optimizer, recorder.frame(), engine)

    recorder.flush()
    if recorder.failed_step is None:
        average_statistics(model, settings, engine, total)
        if settings.evaluate != "none":
            evaluations.append(evaluate(model, dataset.test, settings, engine, total, total // in_epoch))
    outcome = Outcome(
        rows=recorder.frame(), evaluations=evaluations, failed_step=recorder.failed_step, steps=total,
        steps_per_epoch=in_epoch, train_size=train_size, process_start=process_start, training_start=training_start,
        sigma_start=sigma_start, input_shape=dataset.input_shape, classes=dataset.classes,
    )  # fmt: skip
    return finish(settings, folder, model, engine, outcome)
