"""Before the first step: data, model, optimizer, and the state of an earlier attempt."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bnn.data import Dataset, load_dataset
from bnn.data.pipeline import Schedule
from bnn.device import prepare_device
from bnn.engine import Engine
from bnn.exchange import GradientExchange
from bnn.heartbeat import Heartbeat
from bnn.layers import PosteriorInit, sigma_median
from bnn.models.build import build_model
from bnn.optim import FusedAdam, FusedRMSprop
from bnn.posterior.trace import trace
from bnn.settings import TrainSettings
from bnn.training.batches import DTYPES, to_tensors
from bnn.training.checkpoint import load_checkpoint, optimizer_tensors
from bnn.training.folder import open_folder
from bnn.training.forward import make_forward
from bnn.training.implementation import choose, step_seconds, what_runs, with_kernels
from bnn.training.recorder import Recorder, RunFacts
from bnn.training.resume import find_checkpoint
from bnn.training.run import Run


def start_run(settings: TrainSettings, out: Path, engine: Engine, heartbeat: Heartbeat | None = None) -> Run:
    """Make everything ready on this rank: the same parameters everywhere, or those of the latest checkpoint.

    Data is read from files that are already there: a compute node never downloads.
    """
    heartbeat = heartbeat or Heartbeat(out, engine.rank)
    prepare_device(settings.device, settings.threads, engine)
    heartbeat.move("data")
    dataset = load_dataset(settings.dataset, settings.data_dir, **settings.dataset_options)
    size = len(dataset.train)
    schedule = Schedule(size, settings.batch_size, engine.size, settings.epochs, settings.seed, settings.sharding)
    steps = min(schedule.steps, settings.max_steps or schedule.steps)
    heartbeat.move("exchange")  # whose data is there waits for those that still read theirs
    first_step, kept = find_checkpoint(out, settings.fingerprint(), engine) or (0, None)
    heartbeat.move("start")
    choice = choose(settings, engine, partial(trial_seconds, dataset=dataset, ranks=engine.size), kept)
    model = make_model(choice.settings, dataset)
    optimizer = make_optimizer(choice.settings, model, engine.size)
    sigma_start = sigma_median(model)
    if settings.save_posterior:  # a model that cannot be saved is refused before it is trained, not after
        trace(model, example_input(model, dataset), 0, {})

    folder = open_folder(out, settings.fingerprint(), engine)
    earlier = None
    if first_step:
        earlier = load_checkpoint(out, first_step, model, optimizer, engine.rank)
    else:
        engine.broadcast_([buffer for _, buffer in model.named_buffers()], "buffers")
    heartbeat.move("exchange")
    engine.broadcast_([parameter.data for parameter in model.parameters()], "parameters")
    engine.broadcast_(optimizer_tensors(optimizer).values(), "optimizer")
    heartbeat.move("start")
    facts = RunFacts(
        attempt=folder.attempt,
        first_step=first_step,
        steps=steps,
        warmup_steps=settings.warmup_steps,
        engine=engine.name,
        implementation=what_runs(settings, model),
        rank=engine.rank,
        ranks=engine.size,
        batch_size=settings.batch_size,
    )
    return Run(
        settings=settings,
        engine=engine,
        dataset=dataset,
        choice=choice,
        model=model,
        forward=make_forward(choice.settings, model),
        exchange=GradientExchange(engine, model.named_parameters(), settings.gradient_block_mb),
        optimizer=optimizer,
        schedule=schedule,
        first_step=first_step,
        steps=steps,
        folder=folder,
        recorder=Recorder(facts, settings.device, earlier),
        evaluations=folder.evaluations(first_step),
        sigma_start=sigma_start,
        heartbeat=heartbeat,
    )


def example_input(model: nn.Module, dataset: Dataset) -> Tensor:
    """One image of zeros in the model's precision and on its device, to trace the model with."""
    first = next(model.parameters())
    return torch.zeros((1, *dataset.input_shape), dtype=first.dtype, device=first.device)


def make_model(settings: TrainSettings, dataset: Dataset) -> nn.Module:
    """The model in the run's precision, device and memory format; seeded, so that it is the same in every attempt.

    Raises UserError for a baseline that wants kernels where there are none.
    """
    torch.manual_seed(settings.seed)
    init = PosteriorInit(settings.prior_scale, settings.mu_init_std, settings.rho_init, settings.rho_init_std)
    without_kernels = settings.estimator == "flipout" and not settings.kernels_fit  # library kernels: the reference's
    model = build_model(
        settings.model,
        settings.kind,
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        width=settings.width,
        estimator="flipout-reference" if without_kernels else settings.estimator,
        init=init,
    )
    if settings.batchnorm_momentum is not None:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = settings.batchnorm_momentum
    model = model.to(device=settings.device, dtype=DTYPES[settings.precision])
    if settings.tuned:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    return with_kernels(model) if settings.kind == "cnn" and settings.baseline == "cnn-kernels" else model


def trial_seconds(settings: TrainSettings, dataset: Dataset, ranks: int) -> float:
    """Median seconds of a step with these settings, on a model of its own and the data's first images."""
    model = make_model(settings, dataset)
    images, _ = to_tensors(dataset.train, np.arange(settings.batch_size) % len(dataset.train), settings)
    forward, optimizer = make_forward(settings, model), make_optimizer(settings, model, ranks)
    return step_seconds(forward, optimizer, images, dataset.classes)


def make_optimizer(settings: TrainSettings, model: nn.Module, ranks: int) -> torch.optim.Optimizer:
    """Adam or RMSProp (decay 0.9, as TensorFlow's) with the learning rate of this many ranks."""
    rate = settings.learning_rate * (ranks if settings.lr_scaling == "ranks" else 1)
    if settings.optimizer == "rmsprop":
        rmsprop = FusedRMSprop if settings.tuned else torch.optim.RMSprop
        return rmsprop(model.parameters(), lr=rate, alpha=0.9)
    return FusedAdam(model.parameters(), rate) if settings.tuned else torch.optim.Adam(model.parameters(), lr=rate)
